"""``python -m benchmarks.engine``: milliseconds per window, by batch, provider and variant.

Each row is a batch size of a variant on a provider, through the same backend that serves. Beside the time
stand the operations that the graph needs for it (``benchmarks.graph_cost``) and the share that this is of
the machine's *peak*: a square matrix product of the same number type, as fast as the same runtime computes
it on the same threads. Rows take turns, so that what else the machine does disturbs all alike.

``streams`` is how many speakers the engine alone would hold: a batch of b windows whose 99th percentile is
t ≤ 33 ms serves b · hop / t of them. Sockets and loops are not in it; ``benchmarks.capacity`` has those.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tqdm import tqdm

from benchmarks.graph_cost import count
from benchmarks.provenance import provenance, write
from streamer.core.session import WindowRequest
from streamer.engine.backend import OnnxBackend, available_providers
from streamer.engine.bundle import Bundle
from streamer.engine.providers import CPU, CUDA, TENSORRT, named_providers, session_options, short
from streamer.engine.tuning import requests_of

BATCHES_CPU = (1, 2, 4, 8, 16, 32)
BATCHES_GPU = (1, 2, 4, 8, 16, 32, 64, 128, 256)
IN_TIME_MS = 33.0
PEAK_SIZE = 1024


@dataclass
class Row:
    """One setting and how long its batches took."""

    provider: str
    variant: str
    batch: int
    batch_ms: list[float] = field(default_factory=list)


def peak_graph(variant: str, size: int) -> onnx.ModelProto:
    """A product of two square matrices in the variant's number type; the second is a constant weight."""
    random = np.random.default_rng(0)
    f32, weight = TensorProto.FLOAT, (random.standard_normal((size, size)) / size**0.5).astype(np.float32)
    ends = [helper.make_tensor_value_info(name, f32, [size, size]) for name in ("x", "y")]
    if variant == "int8":
        scale = np.full(size, np.abs(weight).max() / 127, np.float32)
        stored = [
            numpy_helper.from_array(np.rint(weight / scale).astype(np.int8), "w"),
            numpy_helper.from_array(scale, "ws"),
            numpy_helper.from_array(np.zeros(size, np.int8), "wz"),
            numpy_helper.from_array(np.float32(1 / 32), "xs"),
            numpy_helper.from_array(np.uint8(128), "xz"),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
            helper.make_node("MatMul", ["xd", "wd"], ["y"]),
        ]
    elif variant == "fp16":
        stored = [numpy_helper.from_array(weight.astype(np.float16), "w")]
        nodes = [
            helper.make_node("Cast", ["x"], ["xh"], to=TensorProto.FLOAT16),
            helper.make_node("MatMul", ["xh", "w"], ["yh"]),
            helper.make_node("Cast", ["yh"], ["y"], to=f32),
        ]
    else:
        stored = [numpy_helper.from_array(weight, "w")]
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "peak", ends[:1], ends[1:], initializer=stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def peak_per_s(variant: str, provider: str, threads: int, size: int, rounds: int = 10) -> float:
    """Operations per second of the best round; what goes in and out stays on a GPU."""
    session = onnxruntime.InferenceSession(
        peak_graph(variant, size).SerializeToString(),
        session_options(onnxruntime, threads),
        providers=[provider] if provider == CPU else [provider, CPU],
    )
    device = "cpu" if provider == CPU else "cuda"
    value = np.random.default_rng(1).standard_normal((size, size)).astype(np.float32)
    bound = session.io_binding()
    bound.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(value, device, 0))
    bound.bind_output("y", device)
    best = float("inf")
    for _ in range(rounds + 2):
        started = time.perf_counter()
        session.run_with_iobinding(bound)
        bound.synchronize_outputs()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def timed(
    backends: Sequence[OnnxBackend], batches: Sequence[int], requests: Sequence[WindowRequest], rounds: int
) -> list[Row]:
    """Every backend at every batch size, in turns; the first turn is not counted."""
    rows = [
        (backend, Row(backend.provider, backend.variant, batch)) for backend in backends for batch in batches
    ]
    for turn in tqdm(range(rounds + 1), desc="timing", unit="round", disable=None):
        for backend, row in rows:
            started = time.perf_counter()
            backend.infer(requests[: row.batch])
            if turn:
                row.batch_ms.append(1000 * (time.perf_counter() - started))
    return [row for _, row in rows]


def figures(row: Row, operations: int, bytes_per_window: float, peak: float, hop_ms: float) -> dict[str, Any]:
    """A row as it is written."""
    p50, p99 = (float(np.percentile(row.batch_ms, q)) for q in (50, 99))
    reached = operations * row.batch / (p50 / 1000)
    return {
        "provider": short(row.provider),
        "variant": row.variant,
        "batch": row.batch,
        "ms_per_window": round(p50 / row.batch, 3),
        "batch_p50_ms": round(p50, 3),
        "batch_p99_ms": round(p99, 3),
        "gops_per_s": round(reached / 1e9, 1),
        "share_of_peak": round(reached / peak, 3),
        "operations_per_byte": round(operations / bytes_per_window, 1),
        "streams": int(row.batch * hop_ms / p99) if p99 <= IN_TIME_MS else 0,
    }


def measure(
    bundle: Bundle, providers: Sequence[str], variants: Sequence[str], threads: int, rounds: int, size: int
) -> dict[str, Any]:
    """The whole table.

    Raises:
        FaceError: as ``OnnxBackend``.
    """
    timing = bundle.manifest.timing
    hop_ms = timing.grid().hop_ms(timing.hop.default_frames)
    table, peaks, costs = [], {}, {}
    for provider in providers:
        batches = BATCHES_CPU if provider == CPU else BATCHES_GPU
        backends = [OnnxBackend(bundle, [provider], threads, variant) for variant in variants]
        requests = requests_of(bundle, max(batches))
        for row in timed(backends, batches, requests, rounds):
            kind = f"{short(provider)} {row.variant}"
            if kind not in peaks:
                peaks[kind] = peak_per_s(row.variant, provider, threads, size)
                costs[row.variant] = count(bundle.variants[row.variant], row.variant)
            cost = costs[row.variant]
            moved = cost.bytes_per_window(row.batch)
            table.append(figures(row, cost.operations, moved, peaks[kind], hop_ms))
    return {
        "streams": max((row["streams"] for row in table), default=0),
        "best_share_of_peak": max((row["share_of_peak"] for row in table), default=0.0),
        "peak_gops_per_s": {kind: round(peak / 1e9, 1) for kind, peak in peaks.items()},
        "mega_operations_per_window": {name: round(cost.operations / 1e6, 1) for name, cost in costs.items()},
        "rows": table,
    }


def show(result: dict[str, Any]) -> None:
    """Prints the table."""
    head = ("provider", "variant", "batch", "ms_per_window", "batch_p99_ms", "share_of_peak", "streams")
    print("".join(f"{name.replace('_', ' '):>15}" for name in head))
    for row in result["rows"]:
        print("".join(f"{row[name]:>15}" for name in head))
    print(f"peak, 10⁹ operations per second: {result['peak_gops_per_s']}")
    print(f"10⁶ operations per window: {result['mega_operations_per_window']}")


def parser_of(prog: str, description: str | None) -> argparse.ArgumentParser:
    """The options that this and the GPU's measurement share."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", help="of the bundle, with commas (those that suit the provider)")
    parser.add_argument("--rounds", type=int, default=30, help="how often each row is timed (%(default)s)")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


def suiting(bundle: Bundle, asked: str | None, provider: str) -> list[str]:
    """The variants to time: those asked for, or all but what the provider computes badly."""
    if asked:
        return [name.strip() for name in asked.split(",")]
    without = "fp16" if provider == CPU else "int8"
    return [name for name in bundle.variants if name != without]


def main(argv: list[str] | None = None) -> int:
    """Measures; returns the exit code."""
    parser = parser_of("python -m benchmarks.engine", __doc__)
    parser.add_argument(
        "--provider", default="cpu", help="tensorrt, cuda, coreml, directml, cpu (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="on a processor (%(default)s)")
    options = parser.parse_args(argv)
    bundle = Bundle.load(options.bundle)
    (provider,) = named_providers(options.provider)
    variants = suiting(bundle, options.variants, provider)
    result = measure(bundle, [provider], variants, options.threads, options.rounds, PEAK_SIZE)
    show(result)
    config = {"threads": options.threads, "rounds": options.rounds, "peak_size": PEAK_SIZE}
    config["bundle"] = f"{bundle.manifest.name} {bundle.manifest.version}"
    write(options.json, {**result, "config": config, **provenance()})
    return 0


def gpus() -> list[str]:
    """The GPU's providers that the installed runtime was built with."""
    return [name for name in (TENSORRT, CUDA) if name in available_providers()]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
