"""Captured faces: one's own curves and voice as phone apps record them, beside or instead of the corpus.

A take is two files of one name: ``NAME.csv``, the curves, and ``NAME.wav`` (or ``.flac``), the sound. The CSV
holds ARKit coefficients as Apple's Live Link Face writes them (``Timecode`` as ``HH:MM:SS:FF.mmm``, where FF
counts frames and mmm thousandths of one, then PascalCase names), or as ``diffspeaker animate`` does
(``time_s``, then camelCase names). Columns are matched by name, in any case and order; what is none of ours,
such as the head's rotation, is not read. A folder may hold a ``capture.toml`` for the takes in it::

    offset_ms = 35       # how late the curves are against the sound
    style = "cheerful"   # the style that the takes are lessons in

Rules
1. Frame i of a take stands i/30 s into its sound, on the grid by which the server cuts windows. The CSV's
   first row stands at the sound's beginning, or ``offset_ms`` before it; between rows is interpolated.
2. Where rows are more than 0.1 s apart, or the app saw no face, the frames between are unknown, and no window
   that holds one of them is a lesson.
3. The eyes are not learnt from a capture: blinks and gaze are made from the window's noise, as everywhere
   (docs/decisions/0002-blinks-live-in-the-noise.md). Whoever reads aloud looks at the text anyway.
4. Only the audio is augmented. Which phone is heard is not known: all places are −100.

``python -m model.captures DIR`` shows what was read and how well each take's lips follow its sound.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch

from model.articulation import IDLE_REACH_FRAMES, idle_coefficients
from model.contacts import KINDS, UNKNOWN
from model.measures import best_lag_ms, correlation_at, level_db, runs
from model.options import option, read
from model.shape import CHANNELS, GRID, STYLE_SCALES, STYLES, TOKEN_SAMPLES
from model.speech import Batch, augment
from model.trainer import Lessons

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SOUNDS = (".wav", ".flac")
MAX_GAP_S = 0.1
UNKNOWN_PHONE = -100  # what torch's cross-entropy leaves out
LAGS = range(-18, 19)  # frames, ±600 ms: where the lag between lips and sound is looked for
ALLOWED_LAG_MS = 40  # a right take of our own rules' curves has −35 to +11
LEAST_CORRELATION = 0.2  # of jaw and loudness at their best lag; theirs is 0.67
SETTINGS = "capture.toml"
EYES = [place for place, name in enumerate(CHANNELS) if name.startswith("eye")]
_JAW = CHANNELS.index("jawOpen")
_ECHO_SAMPLES = 4000  # before a window, so that an echo has something to come from
_TIMECODE = re.compile(r"(\d+):(\d+):(\d+)[:;](\d+)(\.\d+)?$")
_TIMECODE_RATES = (24, 25, 30, 48, 50, 60)


@dataclass(frozen=True)
class Settings:
    """What ``capture.toml`` says of a folder's takes."""

    offset_ms: float = option(0.0, "how late the curves are against the sound", unit="ms")
    style: str = option(STYLES[0], "the style that the takes are lessons in", choices=STYLES)


@dataclass(frozen=True)
class Curves:
    """A CSV's rows: time_s (n,), rising from 0 where it is a timecode; values (n, 52) in [0, 1]; the channels
    that it lacks."""

    time_s: F64
    values: F32
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Take:
    """Curves and sound on one clock: audio (n,) at 16 kHz; motion (T, 52) at 30 fps, known (T,)."""

    name: str
    audio: F32
    motion: F32
    known: npt.NDArray[np.bool_]
    settings: Settings
    missing: tuple[str, ...]

    @property
    def known_s(self) -> float:
        """How much of it can be learnt from, in seconds."""
        return float(self.known.sum()) / GRID.frame_rate_hz


# ---- files -------------------------------------------------------------------------------------------------


def timecode_s(codes: Sequence[str]) -> F64:
    """Timecodes in seconds after the first, (n,); a take may go over midnight.

    The rate at which frames are counted is the least usual one that exceeds every frame number.

    Raises:
        ValueError: one is not ``HH:MM:SS:FF.mmm``.
    """
    parts = [_TIMECODE.match(code.strip()) for code in codes]
    if None in parts:
        raise ValueError(f"the timecode {codes[parts.index(None)]!r} is not HH:MM:SS:FF.mmm")
    hours, minutes, seconds, frames, within = (
        np.array([float(part[group] or 0) for part in parts if part]) for group in range(1, 6)
    )
    rate = next((rate for rate in _TIMECODE_RATES if rate > frames.max()), frames.max() + 1)
    time_s = 3600 * hours + 60 * minutes + seconds + (frames + within) / rate
    return np.asarray(np.where(time_s < time_s[0] - 43_200, time_s + 86_400, time_s) - time_s[0])


def read_curves(path: Path) -> Curves:
    """A CSV's curves. Rows without values (the app saw no face) and rows that go back in time are left out.

    Raises:
        ValueError: it is not a table of ARKit curves over time.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            header, *rows = csv.reader(stream)
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise ValueError(f"{path} is not a CSV of curves") from None
    columns = {name.strip().lower(): place for place, name in enumerate(header)}
    clock = columns.get("timecode", columns.get("time_s"))
    places = {name: columns[name.lower()] for name in CHANNELS if name.lower() in columns}
    if clock is None or not places:
        raise ValueError(f"{path} has no Timecode or time_s, or no ARKit channels, in its first line")
    times, values = [], []
    for line, row in enumerate(rows, start=2):
        cells = [row[place].strip() if place < len(row) else "" for place in (clock, *places.values())]
        if "" in cells:
            continue
        try:
            values.append([float(cell) for cell in cells[1:]])
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
        times.append(cells[0])
    if not times:
        raise ValueError(f"{path} holds no row with values")
    try:
        time_s = timecode_s(times) if "timecode" in columns else np.array([float(time) for time in times])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    found = np.zeros((len(times), len(CHANNELS)), np.float32)
    found[:, [CHANNELS.index(name) for name in places]] = values
    if not np.isfinite(found).all() or np.abs(found).max() > 2:
        raise ValueError(f"{path} has values up to {np.abs(found).max():g}, where curves run from 0 to 1")
    later = np.concatenate([[True], time_s[1:] > np.maximum.accumulate(time_s)[:-1]])
    lacking = tuple(name for name in CHANNELS if name not in places)
    return Curves(time_s[later], found[later].clip(0, 1), lacking)


def read_sound(path: Path) -> F32:
    """A sound file of any rate and channel count as float32 (n,) at 16 kHz; ValueError where it is none."""
    try:
        pcm, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} cannot be read as sound: {error.error_string}") from None
    mono = pcm.mean(axis=1)
    return np.asarray(soxr.resample(mono, rate_hz, GRID.sample_rate_hz, quality="HQ"), np.float32)


def on_the_grid(curves: Curves, frames: int, offset_ms: float) -> tuple[F32, npt.NDArray[np.bool_]]:
    """The curves at frames 0 to ``frames``: motion float32 (frames, 52), and which of them are known."""
    time_s = np.arange(frames) / GRID.frame_rate_hz + offset_ms / 1000
    motion = np.stack([np.interp(time_s, curves.time_s, track) for track in curves.values.T], axis=1)
    after = np.searchsorted(curves.time_s, time_s - 1e-9).clip(1, len(curves.time_s) - 1)
    dense = np.diff(curves.time_s, prepend=-np.inf)[after] <= MAX_GAP_S
    inside = (time_s >= curves.time_s[0] - 1e-9) & (time_s <= curves.time_s[-1] + 1e-9)
    return motion.astype(np.float32), dense & inside


def read_take(table: Path, sound: Path) -> Take:
    """One take; ValueError says what is wrong with it."""
    toml = table.with_name(SETTINGS)
    settings = read(Settings, toml if toml.exists() else None)
    curves, audio = read_curves(table), read_sound(sound)
    frames = GRID.frames_within(len(audio) - GRID.tail_samples)  # those whose window the sound fills
    if len(curves.time_s) < 2 or frames < GRID.segment_frames:
        raise ValueError(f"{table} is too short: a window is {GRID.segment_frames} frames, a take minutes")
    motion, known = on_the_grid(curves, frames, settings.offset_ms)
    if not whole_windows(known).any():
        raise ValueError(f"{table} has no {GRID.segment_frames} frames in a row while {sound.name} sounds")
    if motion[known, _JAW].std() < 1e-3:
        raise ValueError(f"{table} never opens its jaw: there is no speech to learn in it")
    if audio.std() < 1e-4:
        raise ValueError(f"{sound} is silent: there is no speech to learn in it")
    return Take(table.stem, audio, motion, known, settings, curves.missing)


def read_takes(paths: Sequence[Path]) -> list[Take]:
    """Every take in and below the folders; FileNotFoundError where there is none."""
    takes, alone = [], []
    for folder in paths:
        for table in sorted(folder.rglob("*.csv")):
            sound = next((s for s in map(table.with_suffix, SOUNDS) if s.exists()), None)
            if sound is not None:
                takes.append(read_take(table, sound))
            else:
                alone.append(table)
    if not takes:
        where = ", ".join(map(str, paths))
        beside = f", such as {alone[0].with_suffix('.wav')}" if alone else ""
        raise FileNotFoundError(f"No capture in {where}: a take is a CSV beside a .wav of its name{beside}")
    return takes


# ---- what a person should know of a take -------------------------------------------------------------------


def lip_lag(take: Take) -> tuple[float, float]:
    """How late the jaw is against the loudness, in ms, and their correlation there."""
    level = level_db(take.audio, len(take.motion), GRID.frame_rate_hz)
    whole = [slice(*run) for run in runs(take.known) if run[1] - run[0] > 2 * LAGS.stop]
    pairs = [(take.motion[run, _JAW], level[run]) for run in whole or [slice(None)]]
    lag_ms = best_lag_ms(pairs, GRID.frame_rate_hz, LAGS)
    return lag_ms, correlation_at(pairs, round(lag_ms * GRID.frame_rate_hz / 1000))


def remarks(take: Take) -> list[str]:
    """What was read of a take, and a warning for each thing that looks wrong."""
    lag_ms, correlation = lip_lag(take)
    late = f"{abs(lag_ms):.0f} ms {'behind' if lag_ms > 0 else 'ahead of'} the sound"
    lines = [f"{take.name}: {take.known_s:.0f} s, {take.settings.style}, lips {late} (r {correlation:.2f})"]
    if correlation < LEAST_CORRELATION:
        lines.append("the jaw hardly follows the loudness: are sound and curves of the same take?")
    elif abs(lag_ms) > ALLOWED_LAG_MS:
        right = round(take.settings.offset_ms + lag_ms)
        lines.append(f"sound and lips are apart: set offset_ms = {right} in {SETTINGS} beside the CSV")
    unknown_s = (len(take.known) - take.known.sum()) / GRID.frame_rate_hz
    if unknown_s > 1:
        lines.append(f"{unknown_s:.0f} s of the sound have no curves and are left out")
    if take.missing:
        lines.append(f"these channels are not in the CSV and stay 0: {', '.join(take.missing)}")
    return lines


# ---- lessons -----------------------------------------------------------------------------------------------


def whole_windows(known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which frames may be a window's newest, (T,): it and the others of its segment are known."""
    count = np.cumsum(known)
    before = np.concatenate([np.zeros(GRID.segment_frames, count.dtype), count])[: len(count)]
    return np.asarray(count - before == GRID.segment_frames)


class Captures:
    """Draws random windows of captured takes. Seeded, so a run can be repeated.

    All takes lie on one strip, each after 1.3 s of silence. Takes begin where a frame and a sample share an
    instant (every 3 frames, 1600 samples), so that the strip has one frame grid, the server's.
    """

    def __init__(self, paths: Sequence[Path], seed: int) -> None:
        takes = read_takes(paths)
        for take in takes:
            print(*remarks(take), sep="\n  warning: ", flush=True)
        shared = GRID.frame_rate_hz // math.gcd(GRID.frame_rate_hz, GRID.sample_rate_hz)
        unit = GRID.frame_sample(shared)
        lead = -(-(GRID.window_samples + _ECHO_SAMPLES) // unit)
        audio: list[F32] = []
        motion: list[F32] = []
        newest: list[npt.NDArray[np.int64]] = []
        styles: list[npt.NDArray[np.int64]] = []
        at = 0
        for take in takes:
            units = lead + -(-len(take.audio) // unit)
            audio.append(np.zeros(units * unit, np.float32))
            audio[-1][lead * unit :][: len(take.audio)] = take.audio
            motion.append(np.zeros((units * shared, len(CHANNELS)), np.float32))
            motion[-1][lead * shared :][: len(take.motion)] = take.motion
            newest.append((at + lead) * shared + np.flatnonzero(whole_windows(take.known)))
            styles.append(np.full(len(newest[-1]), STYLES.index(take.settings.style)))
            at += units
        self.minutes = sum(take.known_s for take in takes) / 60
        self._audio, self._motion = np.concatenate(audio), np.concatenate(motion)
        self._newest, self._styles = np.concatenate(newest), np.concatenate(styles)
        self._ends = np.array([GRID.window_end(int(frame)) for frame in self._newest])
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Starts the sequence of draws that belongs to this seed."""
        self.random = np.random.default_rng(seed)
        self.torch_random = torch.Generator().manual_seed(seed)

    def draw(self, count: int, augmented: bool = True) -> Batch:
        """``count`` windows, each take as often as it is long."""
        chosen = self.random.integers(len(self._newest), size=count)
        segment = np.arange(1 - GRID.segment_frames, 1)
        motion = torch.from_numpy(self._motion[self._newest[chosen][:, None] + segment])
        audio = self._before(self._ends[chosen])
        if augmented:
            others = [self._before(self.random.choice(self._ends, count)) for _ in range(3)]
            audio = augment(audio, torch.stack(others).sum(0).flip(1), self.random)
        style = torch.eye(len(STYLES) + len(STYLE_SCALES))[self._styles[chosen]]
        reach = IDLE_REACH_FRAMES + GRID.segment_frames
        noise = torch.randn(count, reach, len(CHANNELS), generator=self.torch_random)
        motion[..., EYES] = idle_coefficients(noise, style)[..., EYES].clamp(0, 1)
        phones = torch.full((count, GRID.window_samples // TOKEN_SAMPLES), UNKNOWN_PHONE)
        contacts = torch.full((count, GRID.segment_frames, len(KINDS)), UNKNOWN)
        return Batch(audio[:, _ECHO_SAMPLES:], motion, noise[:, IDLE_REACH_FRAMES:], style, phones, contacts)

    def _before(self, ends: npt.NDArray[np.int64]) -> torch.Tensor:
        """The window that ends at each of these samples, with what lies before it: (B, n)."""
        span = np.arange(-(GRID.window_samples + _ECHO_SAMPLES), 0)
        return torch.from_numpy(self._audio[ends[:, None] + span])


class Mixed:
    """Windows of a corpus and of captures in every batch, ``share`` of them captured."""

    def __init__(self, windows: Lessons, captures: Lessons, share: float) -> None:
        self.windows, self.captures, self.share = windows, captures, share
        self.random = np.random.default_rng(0)

    def seed(self, seed: int) -> None:
        """Starts the sequence of draws that belongs to this seed."""
        self.random = np.random.default_rng(seed)
        self.windows.seed(seed)
        self.captures.seed(seed)

    def draw(self, count: int) -> Batch:
        """``count`` windows; a fraction of a window is drawn as often as it is large."""
        captured = int(self.share * count + self.random.random())
        sources = [(self.windows, count - captured), (self.captures, captured)]
        batches = [source.draw(some) for source, some in sources if some]
        return Batch(*(torch.cat([getattr(b, field.name) for b in batches]) for field in fields(Batch)))


def main(argv: Sequence[str] | None = None) -> int:
    """Shows what was read of a folder's takes, with a warning for whatever looks wrong."""
    parser = argparse.ArgumentParser(prog="python -m model.captures", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="the folder of takes: a CSV beside a .wav of its name each")
    options = parser.parse_args(argv)
    try:
        minutes = Captures([options.folder], seed=0).minutes
    except (ValueError, OSError) as error:
        print(f"model.captures: {error}", file=sys.stderr)
        return 2
    print(f"{minutes:.1f} minutes to learn from")
    return 0


if __name__ == "__main__":
    sys.exit(main())
