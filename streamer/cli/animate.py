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
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording

DESCRIPTION = """Turns speech files into face animation, exactly as the live server would, only faster.

  diffspeaker animate speech.wav -o face.csv
  diffspeaker animate take1.flac take2.mp3 -o faces/ --format npz

A .csv has a header and one row per frame: the time in seconds, then the 52 ARKit coefficients.
A .npz has coefficients, vertices and metadata as numpy arrays. A bundle that moves vertices itself (the
paper's models) has no coefficients: it writes .npz."""


@dataclass(frozen=True)
class AnimateOptions:
    """The options of ``diffspeaker animate``."""

    audio: tuple[str, ...] = inputs(
        "speech: wav, flac, ogg or mp3, of any rate and channels", metavar="AUDIO"
    )
    out: Path | None = option(
        None, "the file to write (.csv or .npz), or a folder for several", metavar="OUT", short="-o"
    )
    format: str | None = option(
        None,
        "what to write into a folder (csv where not said, and the bundle has coefficients)",
        choices=animation_file.FORMATS,
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
    targets = _targets(options, "csv" if bundle.manifest.motion.kind == "coefficients" else "npz")
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
            summary = _animate(recording, choice, target, bundle, backend, bar)
            bar.clear()
            print(json.dumps(summary) if options.json else _sentence(summary), flush=True)
    return 0


def _animate(
    recording: Recording,
    choice: SessionOptions,
    target: Path,
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
        if target.suffix.lower() == ".csv":
            frames = animation_file.write_csv(target, blocks, bundle)
        else:
            frames = animation_file.write_npz(target, blocks, bundle, about)
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


def _targets(options: AnimateOptions, usual: str) -> list[Path]:
    """The file to write for each input; into a folder in the ``usual`` format where none is asked for."""
    out = options.out
    if out is None:
        raise FaceError("bad_config", "There is no output.", "Say where to write with -o OUT.")
    suffix = out.suffix.lower().lstrip(".")
    is_folder = out.is_dir() or suffix not in animation_file.FORMATS
    if not is_folder:
        if len(options.audio) > 1:
            raise FaceError(
                "bad_config", f"{out} is one file for {len(options.audio)} inputs.", "Give a folder with -o."
            )
        if options.format not in (None, suffix):
            raise FaceError(
                "bad_config", f"{out} does not end in .{options.format}, which --format asks for."
            )
        return [out]
    if len(options.audio) == 1 and options.format is None and not out.is_dir() and out.suffix:
        raise FaceError("bad_config", f"{out} ends neither in .csv nor in .npz.", "Name the output so.")
    first: dict[str, str] = {}
    for path in options.audio:
        other = first.setdefault(Path(path).stem.casefold(), path)
        if other is not path:
            raise FaceError(
                "bad_config",
                f"{other} and {path} would write the same file.",
                "Animate them one by one, or rename one.",
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FaceError("bad_output", f"The folder {out} cannot be made: {error.strerror}.") from None
    return [out / f"{Path(path).stem}.{options.format or usual}" for path in options.audio]
