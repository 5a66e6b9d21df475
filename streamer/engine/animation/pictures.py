"""The face in pictures: a film with sound, numbered pictures, a contact sheet. Software draws them all.

This module needs the packages of the extra ``preview``; ``streamer.engine.animation_file`` imports it only
when pictures are asked for. One frame is one picture, drawn and handed on before the next, so length costs
time and not memory: a film of 720 × 720 pixels takes about four seconds of one core for each second of
speech.

- A film is an ``.mp4`` (H.264, AAC) whose sound is the recording, mixed to mono.
- Numbered pictures are ``000000.png`` and so on in a folder of their own, one per frame: frame i stands i ÷
  (frames per second) into the recording.
- A contact sheet is one ``.png`` of two dozen frames, evenly spread, each with its time below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from streamer.core.crossfader import FrameBlock
from streamer.engine.animation.look import Look
from streamer.engine.animation.whole import whole_folder, whole_path
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording
from streamer.engine.render.avatar import read_avatar
from streamer.engine.render.film import record
from streamer.engine.render.renderer import HEAD, Renderer, View

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

_SHEET_COLUMNS, _SHEET_ROWS = 6, 4
_SHEET_VIEW = View(-0.135, 0.085, 0.17)  # from chin to brow: a mouth must be seen on a small picture
_TILE_PX, _GAP_PX, _LABEL_PX = 240, 8, 28
_PAPER, _INK = "#14181f", "#8d97a5"
_PNG_EFFORT = 3  # of 9: as small as the usual 6 to a few per cent, in half the time


def write_film(
    path: Path, blocks: Iterable[FrameBlock], bundle: Bundle, recording: Recording, look: Look
) -> int:
    """Writes the face speaking, with its sound; returns how many frames.

    Raises:
        FaceError: ``bad_bundle``, ``bad_config`` (odd sizes), ``bad_output``; whatever ``blocks`` and the
            recording raise.
    """
    rate_hz, count, heard = bundle.manifest.timing.frame_rate_hz, 0, 0
    drawn = _pictures(blocks, bundle, look)
    sound = recording.chunks()
    with record(path, look.size, rate_hz, recording.sample_rate_hz) as film:
        for picture in drawn:
            film.show(picture)
            count += 1
            while heard * rate_hz < count * recording.sample_rate_hz:
                chunk = next(sound, None)
                if chunk is None:
                    break
                film.play(chunk)
                heard += len(chunk)
        for chunk in sound:
            film.play(chunk)
    return count


def write_frames(path: Path, blocks: Iterable[FrameBlock], bundle: Bundle, look: Look) -> int:
    """Writes every frame as a numbered PNG into a new folder; returns how many. Raises as ``write_film``."""
    count = 0
    with whole_folder(path) as folder:
        for picture in _pictures(blocks, bundle, look):
            Image.fromarray(picture).save(folder / f"{count:06d}.png", compress_level=_PNG_EFFORT)
            count += 1
    return count


def write_sheet(
    path: Path, blocks: Iterable[FrameBlock], bundle: Bundle, recording: Recording, look: Look
) -> int:
    """Writes a contact sheet; returns how many frames the recording has. Raises as ``write_film``.

    How many frames there will be is taken from the recording's header, so that the animation is read once and
    never held. Where the header was wrong, the sheet ends early or does not reach the end.
    """
    rate_hz, count = bundle.manifest.timing.frame_rate_hz, 0
    expected = max(1, round(recording.duration_s * rate_hz))
    tiles = min(expected, _SHEET_COLUMNS * _SHEET_ROWS)
    wanted = {(2 * tile + 1) * expected // (2 * tiles) for tile in range(tiles)}
    chosen: list[tuple[float, F32]] = []
    for block in blocks:
        chosen += [
            ((block.first_frame + row) / rate_hz, values.copy())
            for row, values in enumerate(block.values)
            if block.first_frame + row in wanted
        ]
        count += len(block.values)
    height, width = look.size
    tile = replace(look, size=(_TILE_PX, max(1, round(_TILE_PX * width / height))))
    draw = _Painter(bundle, tile, _SHEET_VIEW, samples=3)
    sheet = _sheet([(f"{time_s:.2f} s", draw(values)) for time_s, values in chosen], tile.size)
    with whole_path(path) as part, part.open("wb") as stream:
        sheet.save(stream, "PNG")
    return count


def _pictures(blocks: Iterable[FrameBlock], bundle: Bundle, look: Look) -> Iterator[U8]:
    """A picture of every frame, uint8 (height, width, 3), in order."""
    draw = _Painter(bundle, look)
    for values in chain.from_iterable(block.values for block in blocks):
        yield draw(values)


class _Painter:
    """Draws frames of a bundle's channels, float32 (C,), on its avatar."""

    def __init__(self, bundle: Bundle, look: Look, view: View = HEAD, samples: int = 2) -> None:
        assert bundle.avatar_file is not None  # animation_file.check
        avatar = read_avatar(bundle.avatar_file)
        channels = {name: place for place, name in enumerate(bundle.manifest.motion.channels)}
        self._targets = [target for target, name in enumerate(avatar.channels) if name in channels]
        self._chosen = [channels[avatar.channels[target]] for target in self._targets]
        self._coefficients = np.zeros(len(avatar.channels), np.float32)
        self._renderer = Renderer(avatar, look.size, _turned(view, look.turn_degrees), samples)

    def __call__(self, values: F32) -> U8:
        """The picture, uint8 (height, width, 3)."""
        self._coefficients[self._targets] = values[self._chosen]
        return self._renderer.picture(self._coefficients)


def _turned(view: View, turn_degrees: float) -> View:
    """The view from the side asked for, with the head in the middle of the picture from every side."""
    ahead = view.pivot_m * np.cos(np.radians(turn_degrees))
    return replace(view, turn_degrees=turn_degrees, pivot_m=float(ahead))


def _sheet(tiles: list[tuple[str, U8]], size: tuple[int, int]) -> Image.Image:
    """Pictures of one size in rows, with a line of text below each."""
    height, width = size
    columns = min(len(tiles), _SHEET_COLUMNS) or 1
    rows = -(-len(tiles) // columns)
    across, down = width + _GAP_PX, height + _LABEL_PX + _GAP_PX
    image = Image.new("RGB", (_GAP_PX + columns * across, _GAP_PX + rows * down), _PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for number, (label, picture) in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = _GAP_PX + column * across, _GAP_PX + row * down
        image.paste(Image.fromarray(picture), (x, y))
        draw.text((x + 2, y + height + 4), label, _INK, font)
    return image
