"""``diffspeaker animate``: speech files in, face animation files out, through exactly the live path."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from streamer.cli.config import inputs, option, parse
from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions, parse_style
from streamer.engine import animation_file, offline
from streamer.engine.animation import formats
from streamer.engine.animation.look import Look, parse_size
from streamer.engine.animation.targets import targets_of
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording

DESCRIPTION = f"""Turns speech files into face animation, exactly as the live server would, only faster.

  diffspeaker animate speech.wav -o face.csv
  diffspeaker animate speech.wav -o face.mp4
  diffspeaker animate take1.flac take2.mp3 -o faces/ --format npz
  diffspeaker animate speech.wav -o frames/

The output's ending says what it is:

{formats.table()}

Of several recordings, a folder gets a file each, in the format that --format names. A bundle that moves
vertices itself (the paper's models) has no coefficients: it writes .npz."""


@dataclass(frozen=True)
class AnimateOptions:
    """The options of ``diffspeaker animate``."""

    audio: tuple[str, ...] = inputs(
        "speech: wav, flac, ogg or mp3, of any rate and channels", metavar="AUDIO"
    )
    out: str | None = option(
        None,
        "the file to write, or a folder for several; a folder for one, with a slash, gets numbered pictures",
        metavar="OUT",
        short="-o",
    )
    format: str | None = option(
        None,
        "what to write where the ending does not say (csv in a folder, if the bundle has coefficients)",
        choices=tuple(formats.FORMATS),
    )
    size: str = option(
        "720", "of pictures, in pixels: WIDTHxHEIGHT, or a number for a square", metavar="SIZE"
    )
    turn: float = option(
        0.0,
        "in pictures, how far the camera goes to the face's left, in degrees",
        metavar="DEGREES",
        minimum=-90,
        maximum=90,
    )
    lookahead_ms: float | None = option(
        None, "how much of the future the face may hear, in milliseconds", metavar="MS"
    )
    hop_ms: float | None = option(None, "how much each step advances, in milliseconds", metavar="MS")
    style: str | None = option(
        None, "the manner of speaking; a name, or NAME=0.5,NAME2=0.5 for a mixture", metavar="STYLE"
    )
    seed: int = option(0, "chooses among the many faces that fit; the same seed repeats", minimum=0)
    bundle: Path | None = option(None, "the model's folder; the one that ships where none is given")
    threads: int | None = option(None, "threads for the model", minimum=1)
    json: bool = option(False, "print a JSON object per file instead of a sentence")


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = parse(AnimateOptions, argv, "diffspeaker animate", DESCRIPTION)
    bundle = Bundle.load(options.bundle)
    targets, kind = targets_of(options.out, options.audio, options.format, bundle)
    look = Look(parse_size(options.size), options.turn)
    recordings = [Recording.open(Path(path)) for path in options.audio]
    style = None if options.style is None else parse_style(options.style)
    choices = [
        SessionOptions.choose(
            bundle.manifest,
            sample_rate_hz=recording.sample_rate_hz,
            lookahead_ms=options.lookahead_ms,
            hop_ms=options.hop_ms,
            style=style,
            seed=options.seed,
        )
        for recording in recordings
    ]
    backend = OnnxBackend(bundle, threads=options.threads)
    backend.warm_up()
    with tqdm(
        total=round(sum(recording.duration_s for recording in recordings), 1),
        bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} s of audio, {elapsed}<{remaining}",
        disable=not sys.stderr.isatty(),
        leave=False,
    ) as bar:
        for recording, choice, target in zip(recordings, choices, targets, strict=True):
            summary = _animate(recording, choice, target, kind, look, bundle, backend, bar)
            bar.clear()
            print(json.dumps(summary) if options.json else _sentence(summary), flush=True)
    return 0


def _animate(
    recording: Recording,
    choice: SessionOptions,
    target: Path,
    kind: str,
    look: Look,
    bundle: Bundle,
    backend: OnnxBackend,
    bar: tqdm[None],
) -> dict[str, object]:
    """Animates one file; returns what was done, for people and programs."""
    manifest = bundle.manifest
    grid = manifest.timing.grid()
    samples = 0

    def chunks() -> Iterator[npt.NDArray[np.float32]]:
        nonlocal samples
        for chunk in recording.chunks():
            samples += len(chunk)
            yield chunk
            bar.update(len(chunk) / recording.sample_rate_hz)

    about: dict[str, object] = {
        "input": str(recording.path),
        "output": str(target),
        "format": kind,
        "sample_rate_hz": recording.sample_rate_hz,
        "frame_rate_hz": grid.frame_rate_hz,
        "lookahead_ms": grid.lookahead_ms(choice.lookahead_frames),
        "hop_ms": grid.hop_ms(choice.hop_frames),
        "style": dict(choice.style),
        "seed": choice.seed,
        "bundle": f"{manifest.name} {manifest.version}",
        "provider": backend.provider,
    }
    started = time.perf_counter()
    blocks = offline.animate(chunks(), manifest, backend, choice)
    try:
        frames = animation_file.write(kind, target, blocks, bundle, recording, about, look)
    except FaceError as error:
        if str(recording.path) in error.message or str(target) in error.message:
            raise
        raise FaceError(error.code, f"{recording.path}: {error.message}", error.hint) from error
    audio_s, compute_s = samples / recording.sample_rate_hz, time.perf_counter() - started
    return {
        **about,
        "audio_s": audio_s,
        "frames": frames,
        "compute_s": compute_s,
        "real_time_factor": compute_s / audio_s,
    }


def _sentence(summary: dict[str, object]) -> str:
    speed = 1 / max(float(str(summary["real_time_factor"])), 1e-9)
    return (
        f"{summary['input']} -> {summary['output']}: {summary['frames']} frames for "
        f"{summary['audio_s']:.2f} s of audio, {speed:.1f} times as fast as real time"
    )
