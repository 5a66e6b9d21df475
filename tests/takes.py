"""Takes as phone apps record them, made up: the Live Link Face layout, and a jaw that follows its sound."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from model.shape import CHANNELS

F32 = npt.NDArray[np.float32]

JAW = CHANNELS.index("jawOpen")
ROTATIONS = [f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll")]
# The app's own order: the right eye first, right before left.
APP = sorted((n[0].upper() + n[1:] for n in CHANNELS), key=lambda n: (not n.startswith("Eye"), "Left" in n))


def timecode(row: int, fps: int, start_s: int = 14 * 3600 + 3 * 60 + 52) -> str:
    second = (start_s + row // fps) % 86_400
    hours, minutes, seconds = second // 3600, second // 60 % 60, second % 60
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}:{row % fps:02d}.000"


def write_live_link(
    path: Path,
    motion: F32,
    fps: int,
    skip: Sequence[int] = (),
    start_s: int = 0,
    columns: Sequence[str] = APP,
) -> Path:
    """Curves (n, 52) as the Live Link Face app lays them out, without the rows ``skip``."""
    order = [CHANNELS.index(name[0].lower() + name[1:]) for name in columns]
    with path.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["Timecode", "BlendShapeCount", *columns, *ROTATIONS])
        for row in sorted(set(range(len(motion))) - set(skip)):
            values = [f"{value:.6f}" for value in motion[row, order]]
            out.writerow([timecode(row, fps, start_s), "61", *values, *["-0.3"] * 9])
    return path


def talk(seconds: float, seed: int = 0) -> tuple[F32, F32]:
    """Sound at 16 kHz whose loudness a jaw follows, and how open that jaw is at 60 fps."""
    random = np.random.default_rng(seed)
    beats = random.standard_normal(int(seconds * 4) + 2).clip(0, 2) / 2

    def opening(rate_hz: int) -> F32:
        place = np.arange(int(seconds * rate_hz)) / rate_hz * 4
        return np.interp(place, np.arange(len(beats)), beats).astype(np.float32)

    noise = random.standard_normal(int(seconds * 16_000)).astype(np.float32)
    return (0.2 * opening(16_000) * noise).clip(-1, 1), opening(60)


def write_talk(folder: Path, seconds: float = 8, name: str = "take", late_s: float = 0.0) -> Path:
    """A take whose jaw follows its loudness, ``late_s`` after it."""
    folder.mkdir(parents=True, exist_ok=True)
    audio, opening = talk(seconds)
    motion = np.zeros((len(opening), len(CHANNELS)), np.float32)
    motion[:, JAW] = np.interp(np.arange(len(opening)) / 60 - late_s, np.arange(len(opening)) / 60, opening)
    soundfile.write(folder / f"{name}.wav", audio, 16_000)
    return write_live_link(folder / f"{name}.csv", motion, 60)


def silence_for(path: Path, seconds: float) -> Path:
    """A sound file beside a CSV, quiet but not silent."""
    hiss = 0.01 * np.random.default_rng(0).standard_normal(int(16_000 * seconds))
    soundfile.write(path.with_suffix(".wav"), hiss, 16_000)
    return path.with_suffix(".wav")


def rising(frames: int, channels: int = len(CHANNELS)) -> F32:
    """Every value of the table another one, in [0, 1]."""
    return (np.arange(frames * channels, dtype=np.float32) / (frames * channels)).reshape(frames, channels)
