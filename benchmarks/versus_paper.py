"""``python -m benchmarks.versus_paper``: this bundle against the paper's own pipeline, in processor time.

The paper's pipeline is wav2vec2 base and the VOCASET network with 50 steps of its sampler, in PyTorch, with
random weights, which cost as much as trained ones. It runs as published and, beside that, *folded*: the
same loop in the network's width instead of in the mesh's 15,069 values, which is exact
(``model.paper.folded``) and which nobody who publishes a pipeline is asked to find. Both sides use the same
number of threads and take turns in one run, and what counts is processor time, so that what else the
machine does disturbs both alike and little.

Two jobs:

- *streaming*: the job of this server. Every window of one second, at every hop, is encoded and denoised:
  ``ratio`` is the paper's processor time for a window ÷ ours, one window at a time.
- *offline*: the paper's best case. Its pipeline sees the whole clip once, while we still stream it with all
  the overlap: ``ratio_offline`` is the paper's processor time for the clip ÷ ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.provenance import provenance, write
from model.diffusion import ddim_legacy, published_steps
from model.paper.folded import sample as folded_sample
from model.paper.network import PaperDiffSpeaker
from model.paper.shape import VOCASET
from streamer.core.options import SessionOptions
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.tuning import requests_of

F32 = npt.NDArray[np.float32]
SPEECH = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"
AIMS = {"ratio": 100.0, "ratio_offline": 10.0}
BATCH = 8


def as_published(net: PaperDiffSpeaker, audio: Tensor, steps: list[int]) -> Tensor:
    """Offsets (B, T, V·3) of audio (B, N): encode once, denoise in V·3 dimensions at every step."""
    features = net.encode(audio)
    style = torch.zeros(len(audio), dtype=torch.int64)
    noise = torch.randn(*features.shape[:2], net.shape.channels)
    return ddim_legacy(lambda noisy, step: net.denoiser(noisy, features, style, step), noise, steps)


def folded(net: PaperDiffSpeaker, audio: Tensor, steps: list[int]) -> Tensor:
    """The same in d dimensions."""
    features = net.encode(audio)
    style = torch.zeros(len(audio), dtype=torch.int64)
    image = torch.randn(*features.shape[:2], net.shape.width)
    return folded_sample(net.denoiser, image, features, style, steps, ddim_legacy)


def processor_s(job: Callable[[], object]) -> float:
    """Processor time of a job, all threads together, in seconds."""
    started = time.process_time()
    job()
    return time.process_time() - started


def measure(jobs: dict[str, Callable[[], object]], rounds: int, label: str) -> dict[str, float]:
    """The median processor time of each job; they take turns, and the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in tqdm(range(rounds + 1), desc=label, unit="round", disable=None):
        for name, job in jobs.items():
            took_s = processor_s(job)
            if turn:
                times[name].append(took_s)
    return {name: float(np.median(of)) for name, of in times.items()}


def clip_of(seconds: float) -> F32:
    """So much of the sample, repeated, at 16 kHz."""
    speech, rate = soundfile.read(SPEECH, dtype="float32")
    return np.resize(np.asarray(speech, np.float32), int(seconds * rate))


def compare(
    bundle: Bundle, backend: OnnxBackend, net: PaperDiffSpeaker, steps: list[int], seconds: float, rounds: int
) -> dict[str, Any]:
    """Both jobs, all sides. The sides' figures are processor milliseconds per second of speech."""
    grid, timing = bundle.manifest.timing.grid(), bundle.manifest.timing
    clip = clip_of(seconds)
    window = torch.from_numpy(clip[: grid.window_samples])[None]
    requests = requests_of(bundle, BATCH)
    chosen = SessionOptions.choose(bundle.manifest)

    def stream() -> None:
        for _ in offline.animate([clip], bundle.manifest, backend, chosen):
            pass

    with torch.inference_mode():
        windows = measure(
            {
                "ours": lambda: [backend.infer(requests[:1]) for _ in range(20)],
                "ours_batched": lambda: [backend.infer(requests) for _ in range(5)],
                "paper": lambda: as_published(net, window, steps),
                "paper_folded": lambda: folded(net, window, steps),
            },
            rounds,
            "one window",
        )
        windows["ours"] /= 20
        windows["ours_batched"] /= 5 * BATCH
        whole = torch.from_numpy(clip)[None]
        clips = measure(
            {
                "ours": stream,
                "paper": lambda: as_published(net, whole, steps),
                "paper_folded": lambda: folded(net, whole, steps),
            },
            max(1, rounds // 2),
            "the whole clip",
        )
    per_second = 1000 * 1000 / grid.hop_ms(timing.hop.default_frames)
    return {
        "ratio": round(windows["paper"] / windows["ours"], 1),
        "ratio_offline": round(clips["paper"] / clips["ours"], 1),
        "ratio_folded": round(windows["paper_folded"] / windows["ours"], 1),
        "ratio_offline_folded": round(clips["paper_folded"] / clips["ours"], 1),
        "streaming_ms_per_s": {name: round(took * per_second, 1) for name, took in windows.items()},
        "offline_ms_per_s": {name: round(1000 * took / seconds, 1) for name, took in clips.items()},
        "window_ms": {name: round(1000 * took, 2) for name, took in windows.items()},
    }


def main(argv: list[str] | None = None) -> int:
    """Measures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.versus_paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=10, help="length of the clip (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="of each side's turns (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of both sides (%(default)s)")
    parser.add_argument("--variant", help="of the bundle: fp32, int8 (its best)")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bundle = Bundle.load(options.bundle)
    backend = OnnxBackend(bundle, threads=options.threads, variant=options.variant)
    net = PaperDiffSpeaker(VOCASET).eval()
    result = compare(bundle, backend, net, published_steps(), options.seconds, options.rounds)
    for name, value in result.items():
        aim = f"  (aim ≥ {AIMS[name]:g}: {'yes' if value >= AIMS[name] else 'no'})" if name in AIMS else ""
        print(f"{name.replace('_', ' '):22} {value}{aim}")
    config = {
        "seconds": options.seconds,
        "rounds": options.rounds,
        "threads": options.threads,
        "steps": len(published_steps()),
        "variant": backend.variant,
        "provider": backend.provider,
        "bundle": f"{bundle.manifest.name} {bundle.manifest.version}",
    }
    write(options.json, {**result, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
