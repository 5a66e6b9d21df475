"""Which execution providers there are, in which order they are tried, and what each computes with.

A *rung* is a provider, a variant of the bundle's graph, and on CUDA whether its kernels are captured once and
replayed. Rungs are tried from the top; the CPU in float32
is the last one and the one that nothing can take away. By default the list is TensorRT, CUDA, CPU, as far as
the installed ONNX Runtime was built with them; CoreML and DirectML convert graphs in ways that must be looked
at first, so they are used when they are named, never by themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamer.contract.errors import FaceError
from streamer.contract.manifest import REFERENCE

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
NAMES = {
    "tensorrt": TENSORRT,
    "cuda": CUDA,
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "cpu": CPU,
}
MAX_BATCH = 256
_PREFERRED = (TENSORRT, CUDA, CPU)
_ON_GPU = (TENSORRT, CUDA)
# Best first. What a provider cannot compute well is not in its list.
_VARIANTS: dict[str, tuple[str, ...]] = {
    TENSORRT: ("fp16", REFERENCE),
    CUDA: ("fp16", REFERENCE),
    NAMES["directml"]: ("fp16", REFERENCE),
    CPU: ("int8", REFERENCE),
}


@dataclass(frozen=True)
class Rung:
    """A provider, by ONNX Runtime's name, and a variant."""

    provider: str
    variant: str
    captured: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether its memory is a CUDA device's."""
        return self.provider in _ON_GPU

    def __str__(self) -> str:
        """``cuda fp16``: as people write it."""
        return f"{short(self.provider)} {self.variant}{' captured' if self.captured else ''}"


def short(provider: str) -> str:
    """``cuda`` of ``CUDAExecutionProvider``; a name that has no short form stays."""
    return next((name for name, full in NAMES.items() if full == provider), provider)


def preferred_providers(available: Sequence[str]) -> list[str]:
    """The providers to try, best first."""
    return [name for name in _PREFERRED if name in available]


def named_providers(listed: str) -> list[str]:
    """``cuda,cpu`` as ONNX Runtime's names; raises ``bad_config`` for another word."""
    names = [word.strip().lower() for word in listed.split(",") if word.strip()]
    for name in names:
        if name not in NAMES:
            raise FaceError("bad_config", f"There is no provider {name!r}: choose among {', '.join(NAMES)}.")
    if not names:
        raise FaceError("bad_config", f"Name a provider: {', '.join(NAMES)}.")
    return [NAMES[name] for name in names]


def ladder(providers: Sequence[str], variants: Mapping[str, Path], asked: str | None = None) -> list[Rung]:
    """What to try, best first: each provider's best variant; on the CPU all of them.

    Args:
        providers: execution providers, best first.
        variants: what the bundle has.
        asked: the only variant allowed, where one is wished for.

    Raises:
        FaceError: ``bad_config``, the bundle has no such variant.
    """
    if asked is not None and asked not in variants:
        raise FaceError(
            "bad_config", f"The bundle has no variant {asked!r}, only {', '.join(variants)}.", _INFO
        )
    rungs: list[Rung] = []
    for provider in providers:
        wanted = (asked,) if asked else _VARIANTS.get(provider, (REFERENCE,))
        usable = [Rung(provider, variant) for variant in wanted if variant in variants]
        usable = usable if provider == CPU else usable[:1]
        if provider == CUDA:  # a graph with one node that CUDA lacks cannot be captured
            usable = [*(replace(rung, captured=True) for rung in usable), *usable]
        rungs += usable
    return rungs


_INFO = "See `diffspeaker info`."


def provider_options(rung: Rung, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, dict[str, str]]]:
    """The providers of a rung's session with their options: its own, its help, and the CPU for the rest."""
    options: dict[str, str] = {}
    if rung.provider == CUDA:
        # A window's kernels take microseconds each: launching them one by one would take longer.
        options = {"enable_cuda_graph": "1" if rung.captured else "0", "use_tf32": "1"}
    elif rung.provider == TENSORRT:
        # An engine takes minutes to build; it is built once for each machine and bundle, for every batch.
        options = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engine_cache()),
            "trt_fp16_enable": "1" if rung.variant == "fp16" else "0",
            **{
                f"trt_profile_{name}_shapes": _profile(shapes, batch)
                for name, batch in (("min", 1), ("opt", 16), ("max", MAX_BATCH))
            },
        }
    order = [(rung.provider, options)]
    if rung.provider == TENSORRT:
        order.append((CUDA, {}))
    return [*order, (CPU, {})] if rung.provider != CPU else order


def engine_cache() -> Path:
    """Where TensorRT's engines are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffspeaker" / "tensorrt"


def _profile(shapes: Mapping[str, tuple[int, ...]], batch: int) -> str:
    """``audio:16x16000,style:16x12``: the shapes of the inputs as TensorRT wants to be told."""
    return ",".join(f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in shapes.items())


def session_options(runtime: Any, threads: int) -> Any:
    """ONNX Runtime's options of every session here.

    The runtime's threads sleep between batches (no spinning), because audio arrives in real time and the rest
    of the machine belongs to the avatar.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
