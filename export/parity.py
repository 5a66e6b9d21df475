"""``python -m export.parity BUNDLE``: does every graph of a bundle compute what PyTorch computes?

The network is filled from the bundle's own weights (or from ``--checkpoint``, rounded as the export does)
and run as it is defined: ``DiffSpeaker`` and the sampler, not the fused module that was exported. Inputs are
fresh on every call: several batch sizes, every style, mixtures and scales, prefixes present and absent; half
of the audio is noise of any level, half a stretch of speech. Exits with 1 where a graph is off by more than:

- fp32: 1e-4 at most, 1e-5 rms. Both compute in float32 with equal weights; only the order of sums differs.
- fp16: 0.001 rms. Sums of 1,536 products in 11 bits.
- int8: 0.01 rms. Each product's input has 8 bits; where a lip closes within a frame, a single value may be
  off by a tenth and more, so no maximum says much. What it costs in lips is the evaluation's to say.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from export.graph import INPUTS, OUTPUT, example_inputs
from export.variants import round_weights
from export.weights import read_weights, steps_of
from model.diffusion import few_steps
from model.network import DiffSpeaker
from model.shape import GRID
from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.engine.providers import CPU, session_options

BATCHES = (1, 2, 3, 8, 13)
SPEECH = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"


@dataclass(frozen=True)
class Bound:
    """What a variant may be off by: a coefficient's largest and root-mean-square difference."""

    largest: float
    rms: float


BOUNDS = {"fp32": Bound(1e-4, 1e-5), "fp16": Bound(1.0, 1e-3), "int8": Bound(1.0, 1e-2)}


def fresh_inputs(batch: int, seed: int) -> dict[str, Tensor]:
    """``example_inputs`` with every other row's audio a stretch of speech, at levels from −30 to 0 dB."""
    inputs, random = example_inputs(batch, seed), np.random.default_rng(seed)
    speech, _ = soundfile.read(SPEECH, dtype="float32")
    for row in range(batch):
        if row % 2:
            end = random.integers(GRID.window_samples, len(speech))
            inputs["audio"][row] = torch.from_numpy(speech[end - GRID.window_samples : end].copy())
        inputs["audio"][row] *= 10 ** (random.uniform(-30, 0) / 20)
    return inputs


def defined(net: DiffSpeaker, steps: tuple[int, ...], inputs: Mapping[str, Tensor]) -> Tensor:
    """Motion (B, T, C) by the network's and the sampler's definitions."""
    net.eval()
    with torch.no_grad():
        features = net.ear(inputs["audio"])
        heard, prefix = net.project(features), net.normalise(inputs["prefix"])

        def denoise(noisy: Tensor, step: Tensor) -> Tensor:
            clean: Tensor = net.denoiser(noisy, heard, inputs["style"], step, prefix, inputs["prefix_mask"])
            return clean

        drawn = few_steps(denoise, net.quieted(inputs["noise"]), steps)
        return net.coefficients(drawn, net.contact_logits(features))


def agree(
    net: DiffSpeaker, steps: tuple[int, ...], graphs: Mapping[str, Path], seed: int | None = None
) -> bool:
    """Whether every graph is within its bound; prints a line for each.

    Args:
        net: the network, its weights rounded as the graphs'. steps: its diffusion steps.
        graphs: file by variant. seed: of the inputs; a new one where none is given, and printed.
    """
    seed = int(time.time()) if seed is None else seed
    trials = [fresh_inputs(batch, seed + number) for number, batch in enumerate(BATCHES)]
    for inputs in trials:  # a prefix is something that this network said
        alone = inputs | {"prefix_mask": torch.zeros_like(inputs["prefix_mask"])}
        inputs["prefix"] = defined(net, steps, alone)
    answers = [defined(net, steps, inputs).numpy() for inputs in trials]
    fine = True
    for name, path in graphs.items():
        session = onnxruntime.InferenceSession(
            str(path), session_options(onnxruntime, threads=1), providers=[CPU]
        )
        apart = np.concatenate(
            [
                (session.run([OUTPUT], {key: inputs[key].numpy() for key in INPUTS})[0] - answer).ravel()
                for inputs, answer in zip(trials, answers, strict=True)
            ]
        )
        bound = BOUNDS[name]
        largest, rms = float(np.abs(apart).max()), float(np.sqrt(np.square(apart).mean()))
        # Not "greater than", so that a NaN is never fine.
        within = largest <= bound.largest and rms <= bound.rms
        verdict = "fine" if within else "TOO FAR"
        print(f"{name}: off by {largest:.1e} at most, {rms:.1e} rms (allowed {bound.rms:.0e}): {verdict}")
        fine = fine and within
    print(f"{sum(BATCHES)} windows in batches of {', '.join(map(str, BATCHES))}; --seed {seed} repeats them")
    return fine


def main(argv: list[str] | None = None) -> int:
    """Compares; returns the exit code."""
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m export.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="the bundle's folder (the one that ships)")
    parser.add_argument("--checkpoint", type=Path, help="compare with these weights, not the bundle's own")
    parser.add_argument("--seed", type=int, help="of the inputs (new ones on every call)")
    options = parser.parse_args(argv)
    bundle = Bundle.load(options.bundle)
    torch.manual_seed(0)
    net, graph = DiffSpeaker(), onnx.load(bundle.model_file)
    steps = steps_of(graph)
    if options.checkpoint is None:
        read_weights(graph.graph, net, steps)
    else:
        net.load_state_dict(load_file(options.checkpoint))
        round_weights(net)
    return 0 if agree(net, steps, bundle.variants, options.seed) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (FaceError, FileNotFoundError, ValueError) as error:
        print(f"export.parity: {error}", file=sys.stderr)
        sys.exit(2)
