"""``python -m model.preview``: look at the curves that a model is taught, and at what it made of them.

Curves are judged by eye before anything is trained on them: does M close, does F tuck the lower lip, is OO
round? The face is drawn in software, so this needs neither a browser nor a graphics card.

  python -m model.preview --phones phones.png --styles styles.png
  python -m model.preview CORPUS --utterance 12 --out preview.mp4 --sheet sheet.png --plot curves.png
  python -m model.preview CORPUS --utterance 12 --bundle --out both.mp4
  python -m model.preview speech.wav --bundle --out face.mp4

--phones shows every phone held still, from the front and from the side, with the gap between the lips;
--styles one sequence of phones in all styles; --sheet every phone of an utterance at its middle; --plot the
curves over time with the phones' borders; --out a film with sound. With --bundle its own prediction of the
same sound stands beside the curves, and of a plain sound file, which has no phones, alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from tqdm import tqdm

from model import captions, measures
from model.articulation import (
    IDLE_REACH_FRAMES,
    TRACK_RATE_HZ,
    gestures,
    idle_coefficients,
    speech_coefficients,
)
from model.captions import BAND_HEIGHT, Subtitle, Tile
from model.shape import CHANNELS, GRID, STYLES, Shape
from model.speech import PHONES, loudness, pitch, read_corpus
from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording
from streamer.engine.render.avatar import Avatar, read_avatar
from streamer.engine.render.film import record
from streamer.engine.render.renderer import HEAD, MOUTH, Renderer, View

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Phone = tuple[str, float, float]

FPS = GRID.frame_rate_hz
_HELD_S, _REST_S = 0.5, 0.4  # how long a phone is held still, and the silence around it
_TILE = 200
_SIDE = View(MOUTH.low, MOUTH.high, MOUTH.width, turn_degrees=60)
# One of each manner: open, spread, round; closed, tucked, hissed, rounded, between the teeth.
_SEQUENCE = ("AA", "M", "IY", "F", "UW", "S", "OW", "B", "AE", "SH", "TH", "W")


class NothingToShow(Exception):
    """What was asked for cannot be shown; the message says what to do."""


@dataclass(frozen=True)
class Speech:
    """What was said: the file, mono audio float32 (n,), its rate, the words and the phones with times."""

    path: Path
    audio: F32
    rate_hz: int
    text: str
    phones: Sequence[Phone]

    @property
    def frames(self) -> int:
        """How many frames begin within it."""
        return int(np.ceil(len(self.audio) / self.rate_hz * FPS))


@dataclass(frozen=True)
class Take:
    """One face's motion, float32 (n, 52) in the order of ``CHANNELS``, and whose it is."""

    title: str
    motion: F32


# ---- curves ------------------------------------------------------------------------------------------------


def style_vector(style: str) -> torch.Tensor:
    """A named style as the rules take it, (1, S)."""
    vector = torch.zeros(1, Shape().styles)
    vector[0, STYLES.index(style)] = 1
    return vector


def taught(phones: Sequence[Phone], audio: F32, style: str) -> F32:
    """The curves of speech at 16 kHz at 30 frames per second, without idle motion: float32 (n, 52)."""
    duration_s = len(audio) / GRID.sample_rate_hz
    tracks = gestures(phones, duration_s, loudness(audio), pitch(audio))
    instants = np.arange(int(np.ceil(duration_s * FPS))) / FPS
    return _coefficients(tracks, instants, style)


def held(names: Sequence[str], style: str, held_s: float = _HELD_S) -> F32:
    """Phones in a row, each said loudly and long between silences, at their middles: float32 (n, 52)."""
    phones: list[Phone] = [("SIL", 0.0, _REST_S)]
    for name in names:
        phones.append((name, phones[-1][2], phones[-1][2] + held_s))
    phones.append(("SIL", phones[-1][2], phones[-1][2] + _REST_S))
    end = phones[-1][2]
    tracks = gestures(phones, end, np.ones(int(end * TRACK_RATE_HZ) + 1, np.float32))
    return _coefficients(tracks, np.array([(s + e) / 2 for _, s, e in phones[1:-1]]), style)


def _coefficients(tracks: F32, instants: npt.NDArray[np.float64], style: str) -> F32:
    place = instants * TRACK_RATE_HZ
    at = np.stack([np.interp(place, np.arange(len(tracks)), track) for track in tracks.T], -1)
    motion = speech_coefficients(torch.from_numpy(at.astype(np.float32))[None], style_vector(style))
    return np.asarray(motion[0].numpy(), np.float32)


def with_idle_motion(motion: F32, style: str) -> F32:
    """The curves with blinks and glances, as the lessons show them; always the same ones."""
    noise = np.random.default_rng(1).standard_normal((1, IDLE_REACH_FRAMES + len(motion), 52), np.float32)
    idle = idle_coefficients(torch.from_numpy(noise), style_vector(style))[0].numpy()
    return np.clip(motion + idle, 0, 1)


def predicted(bundle: Bundle, path: Path, style: str) -> F32:
    """What the bundle's model hears in a sound file, through the live path: float32 (n, 52)."""
    recording = Recording.open(path)
    options = SessionOptions.choose(
        bundle.manifest, sample_rate_hz=recording.sample_rate_hz, style={style: 1.0}
    )
    seconds = tqdm(recording.chunks(), desc="listening", unit="half second", disable=None, leave=False)
    blocks = offline.animate(seconds, bundle.manifest, OnnxBackend(bundle), options)
    motion = np.concatenate([block.values for block in blocks])
    return motion[:, [bundle.manifest.motion.channels.index(name) for name in CHANNELS]]


# ---- speech ------------------------------------------------------------------------------------------------


def read_speech(source: Path, utterance: int) -> Speech:
    """An utterance of a corpus, or a sound file without words.

    Raises:
        NothingToShow, FileNotFoundError, FaceError: there is no such utterance, corpus or sound.
    """
    if not source.is_dir():
        recording = Recording.open(source)
        return Speech(source, np.concatenate(list(recording.chunks())), recording.sample_rate_hz, "", ())
    lines: list[dict[str, Any]] = list(read_corpus(source))
    if not 0 <= utterance < len(lines):
        raise NothingToShow(
            f"{source} holds {len(lines)} utterances: choose --utterance 0 to {len(lines) - 1}."
        )
    line = lines[utterance]
    path = source / line["audio"]
    audio, rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != GRID.sample_rate_hz or audio.ndim > 1:
        raise NothingToShow(f"{path} is not mono at {GRID.sample_rate_hz} Hz, as a corpus is.")
    phones = [(str(name), float(start), float(end)) for name, start, end in line["phones"]]
    return Speech(path, audio, rate_hz, str(line.get("text", "")), phones)


def words_of(speech: Speech) -> list[captions.Word]:
    """The sentence's words; with their times where PocketSphinx's dictionary is there to tell."""
    words = speech.text.split()
    try:
        from pocketsphinx import Decoder
    except ModuleNotFoundError:
        return [(word, 0.0, 0.0) for word in words]
    dictionary = Decoder(lm=None, loglevel="FATAL")
    spoken = [dictionary.lookup_word(word.strip(".,;:!?\"'()").lower()) for word in words]
    return captions.word_times(
        [(word, said.split() if said else ()) for word, said in zip(words, spoken, strict=True)],
        speech.phones,
    )


# ---- pictures ----------------------------------------------------------------------------------------------


class Studio:
    """A bundle's face, its measures, and renderers of it."""

    def __init__(self, bundle: Bundle) -> None:
        self.avatar: Avatar = read_avatar(bundle.avatar_file)
        self._order = [CHANNELS.index(name) for name in self.avatar.channels]
        with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
            self.face = measures.Face(dict(rig))

    def pictures(self, motion: F32, size: int, view: View) -> Iterator[U8]:
        """Frames (n, 52) as square pictures."""
        renderer = Renderer(self.avatar, (size, size), view)
        return renderer.pictures(motion[:, self._order])

    def gap_note(self, coefficients: F32) -> str:
        """The gap between the lips in words."""
        return f"lips {self.face.aperture_mm(coefficients[None])[0]:.1f} mm apart"


def phone_sheet(studio: Studio, style: str) -> U8:
    """Every phone held still, from the front and from the side; a diphthong at its start and its end."""
    names: list[tuple[str, F32]] = []
    for name in PHONES:
        motion = held([name], style)[0]
        halves = _halves(name, style)
        if np.abs(halves[0] - halves[1]).max() > 0.1:
            names += [(f"{name}, start", halves[0]), (f"{name}, end", halves[1])]
        else:
            names.append((name, motion))
    motion = np.stack([row for _, row in names])
    fronts, sides = (studio.pictures(motion, _TILE, view) for view in (MOUTH, _SIDE))
    tiles = [
        Tile(np.concatenate([front, side], 1), name, studio.gap_note(row))
        for (name, row), front, side in _progress(
            zip(names, fronts, sides, strict=True), len(names), "phones"
        )
    ]
    return captions.sheet(tiles, 5, f"Every phone held still, {style}")


def _halves(name: str, style: str) -> F32:
    """A held phone at an eighth and seven eighths of its length, (2, 52)."""
    end = _REST_S + _HELD_S
    phones: list[Phone] = [("SIL", 0, _REST_S), (name, _REST_S, end), ("SIL", end, end + _REST_S)]
    tracks = gestures(phones, end + _REST_S, np.ones(200, np.float32))
    return _coefficients(tracks, _REST_S + _HELD_S * np.array([0.25, 0.8]), style)


def style_sheet(studio: Studio) -> U8:
    """One sequence of phones in a row per style."""
    motion = np.concatenate([held(_SEQUENCE, style, held_s=0.14) for style in STYLES])
    labels = [(style, name) for style in STYLES for name in _SEQUENCE]
    pictures = _progress(studio.pictures(motion, _TILE, MOUTH), len(motion), "styles")
    tiles = [
        Tile(picture, name, f"{style}, {studio.gap_note(row)}")
        for picture, (style, name), row in zip(pictures, labels, motion, strict=True)
    ]
    return captions.sheet(tiles, len(_SEQUENCE), "Eight styles, one sequence of phones")


def utterance_sheet(studio: Studio, speech: Speech, takes: Sequence[Take]) -> U8:
    """One tile per phone at its middle frame, each with every take."""
    middles = [round((start + end) / 2 * FPS) for _, start, end in speech.phones]
    rows = [take.motion[np.minimum(middles, len(take.motion) - 1)] for take in takes]
    pictures = zip(*(studio.pictures(row, _TILE, MOUTH) for row in rows), strict=True)
    tiles = []
    for k, faces in enumerate(_progress(pictures, len(middles), "phones of the utterance")):
        name, start, end = speech.phones[k]
        note = (
            " | ".join(studio.gap_note(row[k]) for row in rows) if len(rows) == 1 else "curves | prediction"
        )
        tiles.append(Tile(np.concatenate(faces, 1), f"{name}  {(start + end) / 2:.2f} s", note))
    return captions.sheet(tiles, 10 // len(takes), speech.text)


def write_film(path: Path, studio: Studio, speech: Speech, takes: Sequence[Take], size: int) -> None:
    """The takes side by side, speaking, with words and phones below where they are known."""
    subtitle = Subtitle(size * len(takes), words_of(speech), speech.phones) if speech.phones else None
    faces = [studio.pictures(take.motion, size, HEAD) for take in takes]
    frames = min(len(take.motion) for take in takes)
    height = size + (BAND_HEIGHT if subtitle else 0)
    with record(path, (height, size * len(takes)), FPS, speech.rate_hz) as film:
        for frame in _progress(range(frames), frames, "pictures"):
            row = [next(face) for face in faces]
            if len(takes) > 1:
                row = [captions.titled(p, take.title) for p, take in zip(row, takes, strict=True)]
            picture = np.concatenate(row, 1)
            if subtitle:
                picture = np.concatenate([picture, subtitle.at(frame / FPS)], 0)
            film.show(picture)
            film.play(speech.audio[_sample(frame, speech) : _sample(frame + 1, speech)])
        film.play(speech.audio[_sample(frames, speech) :])


def _sample(frame: int, speech: Speech) -> int:
    return frame * speech.rate_hz // FPS


def plot(studio: Studio, speech: Speech, takes: Sequence[Take]) -> Any:
    """The lips' gap, rounding and tuck over time, a matplotlib figure."""
    from matplotlib.figure import Figure

    seconds = len(speech.audio) / speech.rate_hz
    figure = Figure(figsize=(max(8.0, 3.2 * seconds), 7), layout="constrained")
    rows = figure.subplots(4, 1, sharex=True, height_ratios=[1, 2, 1.4, 1.4])
    rows[0].plot(np.arange(len(speech.audio)) / speech.rate_hz, speech.audio, color="0.6", linewidth=0.4)
    rows[0].set_ylabel("sound")
    labels = {"aperture": "lip gap, mm", "rounding": "pucker + funnel", "tuck": "lower-lip roll"}
    for take in takes:
        curves = studio.face.curves(take.motion)
        for axes, (curve, label) in zip(rows[1:], labels.items(), strict=True):
            axes.plot(np.arange(len(take.motion)) / FPS, curves[curve], label=take.title)
            axes.set_ylabel(label)
    for name, start, end in speech.phones:
        for axes in rows:
            axes.axvline(start, color="0.85", linewidth=0.6, zorder=0)
        rows[0].text(
            (start + end) / 2, 1.03, name, transform=rows[0].get_xaxis_transform(), ha="center", fontsize=7
        )
    rows[1].legend(loc="upper right")
    rows[-1].set_xlabel("s")
    rows[-1].set_xlim(0, seconds)
    return figure


def _progress(items: Any, total: int, what: str) -> Any:
    return tqdm(items, desc=what, total=total, unit="picture", disable=None, leave=False)


def _save(path: Path, picture: U8) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path)


# ---- the command -------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m model.preview",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "speech", type=Path, nargs="?", help="a corpus (a folder of sound and *.jsonl), or one sound file"
    )
    parser.add_argument(
        "--utterance", type=int, default=0, metavar="N", help="which of the corpus, from 0 (%(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="MP4", help="write a film with sound")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write every phone of the utterance")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write the curves over time")
    parser.add_argument("--phones", type=Path, metavar="PNG", help="write every phone held still")
    parser.add_argument("--styles", type=Path, metavar="PNG", help="write one sequence in all styles")
    parser.add_argument(
        "--bundle",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FOLDER",
        help="show this bundle's prediction as well; the one that ships where no folder is named",
    )
    parser.add_argument("--style", choices=STYLES, default=STYLES[0], help="manner (%(default)s)")
    parser.add_argument(
        "--size", type=int, default=512, help="the film's height and width per face, in pixels (%(default)s)"
    )
    options = parser.parse_args(argv)
    if not any((options.out, options.sheet, options.plot, options.phones, options.styles)):
        parser.error("say what to write: --out, --sheet, --plot, --phones or --styles")
    if any((options.out, options.sheet, options.plot)) and options.speech is None:
        parser.error("--out, --sheet and --plot show speech: name a corpus or a sound file")
    try:
        _show(options)
    except KeyboardInterrupt:
        print("Stopped; what was not finished was not written.", file=sys.stderr)
        return 130
    except (NothingToShow, FileNotFoundError, FaceError) as error:
        print(f"model.preview: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"model.preview: {error.filename} cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    return 0


def _show(options: argparse.Namespace) -> None:
    named = options.bundle if options.bundle not in (None, Path()) else None
    bundle = Bundle.load(named)
    studio = Studio(bundle)
    if options.phones:
        _save(options.phones, phone_sheet(studio, options.style))
    if options.styles:
        _save(options.styles, style_sheet(studio))
    if options.speech is None:
        return
    speech = read_speech(options.speech, options.utterance)
    takes = []
    if speech.phones:
        takes.append(Take("curves", taught(speech.phones, speech.audio, options.style)))
    elif options.bundle is None:
        raise NothingToShow(f"{options.speech} has no phones to make curves of: add --bundle to hear it.")
    if options.bundle is not None:
        takes.append(Take("prediction", predicted(bundle, speech.path, options.style)))
    if options.sheet:
        if not speech.phones:
            raise NothingToShow("--sheet shows an utterance's phones, and a plain sound file has none.")
        _save(options.sheet, utterance_sheet(studio, speech, takes))
    if options.plot:
        plot(studio, speech, takes).savefig(options.plot, dpi=110)
    if options.out:
        alive = [
            Take(t.title, with_idle_motion(t.motion, options.style)) if t.title == "curves" else t
            for t in takes
        ]
        write_film(options.out, studio, speech, alive, options.size)


if __name__ == "__main__":
    sys.exit(main())
