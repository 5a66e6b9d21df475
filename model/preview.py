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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import soundfile
from tqdm import tqdm

from model import captions, measures
from model.articulation import TRACK_RATE_HZ, gestures
from model.captions import BAND_HEIGHT, Subtitle, Tile
from model.lessons import IDLE_REACH_FRAMES, frames_of, taught, with_idle
from model.shape import CHANNELS, GRID, STYLES
from model.speech import PHONES, read_corpus
from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording
from streamer.engine.render.avatar import read_avatar
from streamer.engine.render.film import record
from streamer.engine.render.renderer import HEAD, MOUTH, Renderer, View

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Phone = tuple[str, float, float]
T = TypeVar("T")

FPS = GRID.frame_rate_hz
_REST_S = 0.4  # of silence around phones that are held still
_TILE = 200
_SIDE = View(MOUTH.low, MOUTH.high, MOUTH.width, turn_degrees=60)
_DIPHTHONGS = ("AW", "AY", "EY", "OW", "OY")
# One of each manner: open, spread, round; closed, tucked, hissed, rounded, between the teeth.
_SEQUENCE = ("AA", "M", "IY", "F", "UW", "S", "OW", "B", "AE", "SH", "TH", "W")


class NothingToShow(Exception):
    """What was asked for cannot be shown; the message says what to do."""


@dataclass(frozen=True)
class Speech:
    """What was said: the file, mono audio float32 (n,), its rate, the sentence, the phones with times."""

    path: Path
    audio: F32
    rate_hz: int
    text: str
    phones: Sequence[Phone]


@dataclass(frozen=True)
class Take:
    """One face's motion, float32 (n, 52) in the order of ``CHANNELS``, and whose it is."""

    title: str
    motion: F32


# ---- curves ------------------------------------------------------------------------------------------------


def held(names: Sequence[str], style: str, held_s: float = 0.5, at: Sequence[float] = (0.5,)) -> F32:
    """Phones said loudly one after another between silences: float32 (len(names) · len(at), 52).

    ``held_s`` is how long each lasts, ``at`` where in each of them to look, as shares of its length.
    """
    starts = _REST_S + held_s * np.arange(len(names))
    end = float(starts[-1]) + held_s
    phones: list[Phone] = [("SIL", 0.0, _REST_S), ("SIL", end, end + _REST_S)]
    phones[1:1] = [(name, float(t), float(t) + held_s) for name, t in zip(names, starts, strict=True)]
    loud = np.ones(int((end + _REST_S) * TRACK_RATE_HZ) + 1, np.float32)
    instants = (starts[:, None] + held_s * np.array(at)).ravel()
    return frames_of(gestures(phones, end + _REST_S, loud), instants, style)


def alive(motion: F32, style: str) -> F32:
    """The curves with blinks and glances, as the lessons show them; always the same ones."""
    noise = np.random.default_rng(1).standard_normal((IDLE_REACH_FRAMES + len(motion), 52), np.float32)
    return with_idle(motion, noise, style)


def predicted(bundle: Bundle, path: Path, style: str) -> F32:
    """What the bundle's model hears in a sound file, through the live path: float32 (n, 52)."""
    recording = Recording.open(path)
    options = SessionOptions.choose(
        bundle.manifest, sample_rate_hz=recording.sample_rate_hz, style={style: 1.0}
    )
    chunks = tqdm(recording.chunks(), desc="listening", unit="half second", disable=None, leave=False)
    blocks = offline.animate(chunks, bundle.manifest, OnnxBackend(bundle), options)
    motion = np.concatenate([block.values for block in blocks])
    order = [bundle.manifest.motion.channels.index(name) for name in CHANNELS]
    return np.asarray(motion[:, order], np.float32)


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
    try:
        audio, rate_hz = soundfile.read(path, dtype="float32")
    except soundfile.SoundFileError as error:
        raise NothingToShow(f"{path} cannot be heard: {error}") from None
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
    spoken = [dictionary.lookup_word(word.strip(".,;:!?\"'()").lower()) or "" for word in words]
    pronounced = [(word, said.split()) for word, said in zip(words, spoken, strict=True)]
    return captions.word_times(pronounced, speech.phones)


# ---- pictures ----------------------------------------------------------------------------------------------


class Studio:
    """A bundle's face, its measures, and pictures of it."""

    def __init__(self, bundle: Bundle) -> None:
        if bundle.avatar_file is None or bundle.manifest.motion.kind != "coefficients":
            raise NothingToShow(f"The bundle {bundle.folder} has no face that curves could move.")
        self._avatar = read_avatar(bundle.avatar_file)
        self._order = [CHANNELS.index(name) for name in self._avatar.channels]
        with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
            self.face = measures.Face(dict(rig))

    def pictures(self, motion: F32, size: int, view: View) -> Iterator[U8]:
        """Frames (n, 52) as square pictures, one after another."""
        return Renderer(self._avatar, (size, size), view).pictures(motion[:, self._order])

    def gap_mm(self, coefficients: F32) -> float:
        """The gap between the lips, of one frame (52,)."""
        return float(self.face.aperture_mm(coefficients[None])[0])


def phone_sheet(studio: Studio, style: str) -> U8:
    """Every phone held still, from the front and from the side; a diphthong at its start and near its end."""
    rows: list[tuple[str, F32]] = []
    for name in PHONES:
        start, middle, end = held([name], style, at=(0.25, 0.5, 0.8))
        if name in _DIPHTHONGS:
            rows += [(f"{name}, start", start), (f"{name}, end", end)]
        else:
            rows.append((name, middle))
    motion = np.stack([row for _, row in rows])
    fronts, sides = (studio.pictures(motion, _TILE, view) for view in (MOUTH, _SIDE))
    tiles = [
        Tile(np.concatenate([front, side], 1), name, f"lips {studio.gap_mm(row):.1f} mm apart")
        for (name, row), front, side in _progress(zip(rows, fronts, sides, strict=True), len(rows), "phones")
    ]
    return captions.sheet(tiles, 5, f"Every phone held still, {style}")


def style_sheet(studio: Studio) -> U8:
    """One sequence of phones in a row per style."""
    motion = np.concatenate([held(_SEQUENCE, style, held_s=0.14) for style in STYLES])
    labels = [(style, name) for style in STYLES for name in _SEQUENCE]
    pictures = _progress(studio.pictures(motion, _TILE, MOUTH), len(motion), "styles")
    tiles = [
        Tile(picture, name, f"{style}, lips {studio.gap_mm(row):.1f} mm apart")
        for picture, (style, name), row in zip(pictures, labels, motion, strict=True)
    ]
    return captions.sheet(tiles, len(_SEQUENCE), "Eight styles, one sequence of phones")


def utterance_sheet(studio: Studio, speech: Speech, takes: Sequence[Take]) -> U8:
    """One tile per phone at its middle frame, with every take side by side."""
    middles = [round((start + end) / 2 * FPS) for _, start, end in speech.phones]
    rows = [take.motion[np.minimum(middles, len(take.motion) - 1)] for take in takes]
    pictures = zip(*(studio.pictures(row, _TILE, MOUTH) for row in rows), strict=True)
    tiles = []
    for k, faces in enumerate(_progress(pictures, len(middles), "phones of the utterance")):
        name, start, end = speech.phones[k]
        gaps = " and ".join(f"{studio.gap_mm(row[k]):.1f}" for row in rows)
        title = f"{name}  {(start + end) / 2:.2f} s"
        tiles.append(Tile(np.concatenate(faces, 1), title, f"lips {gaps} mm apart"))
    return captions.sheet(tiles, 10 // len(takes), f"{speech.text}  ({' | '.join(t.title for t in takes)})")


def write_film(path: Path, studio: Studio, speech: Speech, takes: Sequence[Take], size: int) -> None:
    """The takes side by side, speaking, with words and phones below where they are known."""
    subtitle = Subtitle(size * len(takes), words_of(speech), speech.phones) if speech.phones else None
    faces = [studio.pictures(take.motion, size, HEAD) for take in takes]
    frames = min(len(take.motion) for take in takes)
    height = size + (BAND_HEIGHT if subtitle else 0)
    heard = 0
    with record(path, (height, size * len(takes)), FPS, speech.rate_hz) as film:
        for frame in _progress(range(frames), frames, "pictures"):
            row = [next(face) for face in faces]
            if len(takes) > 1:
                row = [captions.titled(p, take.title) for p, take in zip(row, takes, strict=True)]
            picture = np.concatenate(row, 1)
            if subtitle:
                picture = np.concatenate([picture, subtitle.at(frame / FPS)], 0)
            film.show(picture)
            until = (frame + 1) * speech.rate_hz // FPS if frame + 1 < frames else len(speech.audio)
            film.play(speech.audio[heard:until])
            heard = until


def _progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    yield from tqdm(items, desc=what, total=total, unit="picture", disable=None, leave=False)


def _save(path: Path, picture: U8) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path)


# ---- the command -------------------------------------------------------------------------------------------

_SHIPPED = Path()  # what --bundle means when it names no folder
_OUTPUTS = {"out": ".mp4", "sheet": ".png", "plot": ".png", "phones": ".png", "styles": ".png"}


def show(options: argparse.Namespace) -> None:
    """Writes every file that was asked for."""
    bundle = Bundle.load(None if options.bundle in (None, _SHIPPED) else options.bundle)
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
        takes.append(Take("curves", taught(speech.phones, speech.audio, style=options.style)))
    elif options.bundle is None:
        raise NothingToShow(f"{options.speech} has no phones to make curves of: add --bundle to hear it.")
    elif options.sheet:
        raise NothingToShow("--sheet shows an utterance's phones, and a plain sound file has none.")
    if options.bundle is not None:
        takes.append(Take("prediction", predicted(bundle, speech.path, options.style)))
    if options.sheet:
        _save(options.sheet, utterance_sheet(studio, speech, takes))
    if options.plot:
        from model.plot_curves import plot

        motions = {take.title: take.motion for take in takes}
        figure = plot(studio.face, speech.audio, speech.rate_hz, speech.phones, motions, FPS)
        figure.savefig(options.plot, dpi=110)
    if options.out:
        if speech.phones:
            takes[0] = Take(takes[0].title, alive(takes[0].motion, options.style))
        write_film(options.out, studio, speech, takes, options.size)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m model.preview",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("speech", type=Path, nargs="?", help="a corpus (a folder of sound and *.jsonl), or one sound file")
    add("--utterance", type=int, default=0, metavar="N", help="which of the corpus, from 0 (%(default)s)")
    add("--out", type=Path, metavar="MP4", help="write a film with sound")
    add("--sheet", type=Path, metavar="PNG", help="write every phone of the utterance")
    add("--plot", type=Path, metavar="PNG", help="write the curves over time")
    add("--phones", type=Path, metavar="PNG", help="write every phone held still")
    add("--styles", type=Path, metavar="PNG", help="write one sequence of phones in all styles")
    which = "show this bundle's prediction as well; the one that ships where no folder is named"
    add("--bundle", type=Path, nargs="?", const=_SHIPPED, metavar="FOLDER", help=which)
    add("--style", choices=STYLES, default=STYLES[0], help="the manner of speaking (%(default)s)")
    add("--size", type=int, default=512, help="height and width of a face in the film, pixels (%(default)s)")
    options = parser.parse_args(argv)
    spoken = options.out or options.sheet or options.plot
    if not (spoken or options.phones or options.styles):
        parser.error("say what to write: --out, --sheet, --plot, --phones or --styles")
    if spoken and options.speech is None:
        parser.error("--out, --sheet and --plot show speech: name a corpus or a sound file")
    if options.size < 64 or options.size % 2:
        parser.error("--size is an even number from 64 up")
    for name, ending in _OUTPUTS.items():
        path: Path | None = getattr(options, name)
        if path and (path.suffix.lower() != ending or not path.absolute().parent.is_dir()):
            parser.error(f"--{name} {path}: name a file that ends in {ending}, in a folder that exists")
    try:
        show(options)
    except KeyboardInterrupt:
        print("Stopped; what was not finished was not written.", file=sys.stderr)
        return 130
    except (NothingToShow, FileNotFoundError, FaceError) as error:
        print(f"model.preview: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
