"""``python -m benchmarks.steps RUN CORPUS``: what fewer denoise steps cost, and what they save.

Streams the same held-out voices through the teacher with many steps of correct DDIM and through its student
with 4, 2 and 1, all in PyTorch on one thread, with the same noise, prefix and crossfade as live. Per row:

- ``lve_mm2`` against the curves that the phones and this noise stand for, and its ratio to the first row's;
- ``closure_auc``, as ``model.evaluate`` has it;
- liveliness: ``fdd_mm`` (how much stiller the upper face is than those curves'), ``blinks_per_minute``,
  ``diversity_mm`` between ten seeds, ``jitter`` of the lips as a ratio to those curves';
- ``ms_per_window`` of the network (p50), one window at a time, and its ratio to the first row's.

RUN is a training run's folder (teacher.safetensors, student.safetensors).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from benchmarks.provenance import provenance, write
from model import measures
from model.articulation import IDLE_REACH_FRAMES
from model.diffusion import SCHEDULES, Denoise, ddim, few_steps, spaced_steps
from model.lessons import taught, with_idle
from model.measures import CONTRASTS, Face
from model.network import DiffSpeaker
from model.shape import CHANNELS, GRID
from model.speech import is_held_out, read_corpus
from streamer.core import noise
from streamer.core.options import SessionOptions
from streamer.core.session import Session, WindowRequest
from streamer.engine.bundle import Bundle
from streamer.engine.offline import animate_together

F32 = npt.NDArray[np.float32]
Sampler = Callable[[Denoise, Tensor], Tensor]
TEACHER_STEPS = (50, 8)
SEEDS, DIVERSE, TIMED = 10, 2, 30


class TorchBackend:
    """A network and a sampler as an engine's backend."""

    name, provider, variant, fallbacks, is_away = "PyTorch", "CPU", "fp32", 0, False

    def __init__(self, net: DiffSpeaker, sample: Sampler) -> None:
        self.net, self.sample = net.eval(), sample

    def warm_up(self, max_batch: int = 1) -> None:
        """Nothing is compiled."""

    def infer(self, requests: Sequence[WindowRequest]) -> F32:
        """Motion float32 (B, T, C) for B requests."""

        def gather(name: str) -> Tensor:
            return torch.from_numpy(np.stack([np.asarray(getattr(r, name), np.float32) for r in requests]))

        net, style, mask = self.net, gather("style"), gather("prefix_mask")
        with torch.inference_mode():
            features = net.ear(gather("audio"))
            heard, prefix = net.project(features), net.normalise(gather("prefix"))

            def denoise(noisy: Tensor, step: Tensor) -> Tensor:
                return net.denoiser(noisy, heard, style, step, prefix, mask)

            drawn = self.sample(denoise, gather("noise"))
            motion = net.coefficients(drawn, net.contact_logits(features))
        return np.asarray(motion.numpy(), np.float32)


def load(path: Path) -> DiffSpeaker:
    """A checkpoint's network."""
    net = DiffSpeaker()
    net.load_state_dict(load_file(path))
    return net


def rows(run: Path, teacher_steps: Sequence[int] = TEACHER_STEPS) -> dict[str, TorchBackend]:
    """The samplers to compare, the most careful first."""
    teacher, student = load(run / "teacher.safetensors"), load(run / "student.safetensors")

    def many(steps: int) -> Sampler:
        return lambda denoise, noise: ddim(denoise, noise, spaced_steps(steps))

    def few(steps: int) -> Sampler:
        return lambda denoise, noise: few_steps(denoise, student.quieted(noise), SCHEDULES[steps])

    table = {f"teacher, {n} steps": TorchBackend(teacher, many(n)) for n in teacher_steps}
    return table | {
        f"student, {n} steps": TorchBackend(student, few(n)) for n in sorted(SCHEDULES, reverse=True)
    }


def stream(
    backend: TorchBackend, clips: Iterable[F32], bundle: Bundle, seeds: Sequence[int], label: str
) -> list[F32]:
    """The whole motion of each clip at the default lookahead, one seed each."""
    chosen = [SessionOptions.choose(bundle.manifest, seed=seed) for seed in seeds]
    parts: dict[int, list[F32]] = {}
    jobs = (([audio], session) for audio, session in zip(clips, chosen, strict=True))
    bar = tqdm(desc=label, unit="frame", disable=None)
    for number, block in animate_together(jobs, bundle.manifest, backend):
        parts.setdefault(number, []).append(np.array(block.values))
        bar.update(len(block.values))
    bar.close()
    return [np.concatenate(parts[number]) for number in sorted(parts)]


def milliseconds(backends: dict[str, TorchBackend], bundle: Bundle) -> dict[str, float]:
    """Median time of one window. The rows take turns, so that what else the machine does hits all alike."""
    session = Session(bundle.manifest, SessionOptions.choose(bundle.manifest))
    session.feed(0.1 * np.random.default_rng(0).standard_normal(GRID.sample_rate_hz).astype(np.float32))
    request = session.next_request()
    assert request is not None
    times: dict[str, list[float]] = {label: [] for label in backends}
    for _ in range(TIMED):
        for label, backend in backends.items():
            started = time.perf_counter()
            backend.infer([request])
            times[label].append(1000 * (time.perf_counter() - started))
    return {label: float(np.median(of)) for label, of in times.items()}


def lesson(utterance: dict[str, Any], audio: F32, frames: int, seed: int) -> F32:
    """The right answer, blinks and glances of this seed's noise included."""
    phones = [(str(p), float(s), float(e)) for p, s, e in utterance["phones"]]
    own = noise.for_frames(seed, 0, -IDLE_REACH_FRAMES, IDLE_REACH_FRAMES + frames, len(CHANNELS))
    return with_idle(taught(phones, audio, frames), own)


def measure(
    backend: TorchBackend,
    utterances: Sequence[Any],
    clips: Sequence[F32],
    bundle: Bundle,
    face: Face,
    label: str,
) -> dict[str, float]:
    """One row of the table."""
    seeds = range(len(clips))
    motions = stream(backend, clips, bundle, seeds, label)
    fps = bundle.manifest.timing.frame_rate_hz
    answers = [
        lesson(u, clip, len(m), seed)
        for u, clip, m, seed in zip(utterances, clips, motions, seeds, strict=True)
    ]
    scores = [
        score
        for u, m in zip(utterances, motions, strict=True)
        for score in measures.phone_scores(face.curves(m)["closure"], u["phones"], fps)
    ]
    (still,) = stream(backend, [np.zeros(60 * GRID.sample_rate_hz, np.float32)], bundle, [1], label)
    diverse = [
        measures.diversity_mm(face, stream(backend, [clip] * SEEDS, bundle, range(SEEDS), label))
        for clip in clips[:DIVERSE]
    ]
    pairs = list(zip(answers, motions, strict=True))
    return {
        "lve_mm2": float(np.mean([measures.lip_error_mm2(face, m, a) for a, m in pairs])),
        "closure_auc": measures.auc(*measures.split(scores, CONTRASTS["closure"])),
        "fdd_mm": float(np.mean([measures.upper_face_dynamics_mm(face, a, m) for a, m in pairs])),
        "jitter": float(
            np.mean(np.concatenate([measures.bends_mm(face, m) for m in motions]))
            / np.mean(np.concatenate([measures.bends_mm(face, a) for a in answers]))
        ),
        "blinks_per_minute": measures.blinks(still),
        "diversity_mm": float(np.mean(diverse)),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="a training run's folder")
    parser.add_argument("corpus", type=Path, help="folder of Ogg files and *.jsonl with phone times")
    parser.add_argument("--bundle", type=Path, help="whose rig and timing are used (the default one)")
    parser.add_argument("--count", type=int, default=40, help="held-out utterances (%(default)s)")
    parser.add_argument(
        "--teacher-steps", default="50,8", help="of the teacher's rows; fifty take half an hour (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write the table here")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    bundle = Bundle.load(options.bundle)
    with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
        face = Face(rig)
    held_out = [u for u in read_corpus(options.corpus) if is_held_out(str(u["voice"]))]
    chosen: list[Any] = held_out[:: max(1, len(held_out) // options.count)][: options.count]
    clips = [soundfile.read(options.corpus / u["audio"], dtype="float32")[0] for u in chosen]
    backends = rows(options.run, [int(n) for n in options.teacher_steps.split(",")])
    table = {label: measure(b, chosen, clips, bundle, face, label) for label, b in backends.items()}
    times = milliseconds(backends, bundle)
    first = next(iter(backends))
    for label, row in table.items():
        row["lve_ratio"] = row["lve_mm2"] / table[first]["lve_mm2"]
        row["ms_per_window"], row["ms_ratio"] = times[label], times[label] / times[first]
        table[label] = {name: round(value, 4) for name, value in row.items()}
        print(label, table[label])
    config = {"utterances": len(chosen), "seconds": round(sum(map(len, clips)) / GRID.sample_rate_hz, 1)}
    write(options.json, {"steps": table, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
