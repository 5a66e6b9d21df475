"""What computes motion: the ``Backend`` protocol, and the one that runs a bundle's graph in ONNX Runtime.

One call denoises one batch: audio encoder and all denoise steps are one graph, described in
``streamer.contract.manifest.Model``. A graph whose names or shapes contradict the manifest is refused at the
door.

``OnnxBackend`` stands on a rung of a ladder (``streamer.engine.providers``) and may climb down, never up:

1. At the start the rungs are tried from the top. ``tried`` says what became of each.
2. The int8 graph on a CPU has to answer a test window as the float32 one does: older processors add 8-bit
   products in 16 bits and overflow, without an error.
3. A rung that fails while it serves is left for the next one, with a warning and a count (``fallbacks``), and
   the batch is computed there. Where there is no next one, the batch fails.

Not thread-safe: one thread calls ``infer``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.manifest import REFERENCE
from streamer.engine.binding import OUTPUT, Binding, fixed_size, graph_shapes, input_shapes
from streamer.engine.bundle import Bundle
from streamer.engine.providers import (
    CPU,
    TENSORRT,
    Rung,
    engine_cache,
    ladder,
    preferred_providers,
    provider_options,
    session_options,
)

F32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

INT8_RMS = 0.02  # of a coefficient; an overflow is far beyond it


class Question(Protocol):
    """What a backend needs of a request: the graph's inputs, float32, as ``WindowRequest`` has them."""

    @property
    def audio(self) -> F32:
        """(window_samples,)"""

    @property
    def noise(self) -> F32:
        """(T, N)"""

    @property
    def prefix(self) -> F32:
        """(T, C)"""

    @property
    def prefix_mask(self) -> F32:
        """(T,)"""

    @property
    def style(self) -> F32:
        """(S,)"""


class Backend(Protocol):
    """Anything that turns requests into motion: a graph in this process, or a pool of machines."""

    @property
    def name(self) -> str:
        """What computes, for people."""

    @property
    def provider(self) -> str:
        """Where it computes, for people."""

    @property
    def variant(self) -> str:
        """How it computes: ``fp32``, ``fp16``, ``int8``."""

    @property
    def fallbacks(self) -> int:
        """How often it had to go on elsewhere or otherwise, the start included."""

    @property
    def is_away(self) -> bool:
        """Whether it cannot be asked just now, and comes back by itself."""

    def infer(self, requests: Sequence[Question]) -> F32:
        """Motion float32 (B, T, C) for B requests.

        Raises:
            FaceError: ``inference_failed``; ``engine_away``, where asking again may help.
        """

    def warm_up(self, max_batch: int = 1) -> None:
        """Computes something of every likely batch size, so that the first real window is not slow."""


@dataclass(frozen=True)
class Tried:
    """A rung that was tried, and why it was left; ``reason`` is None for the one that computes."""

    rung: Rung
    reason: str | None


def available_providers() -> list[str]:
    """The execution providers of the installed ONNX Runtime; raises ``bad_config`` where there is none."""
    return list(_runtime().get_available_providers())


def default_threads() -> int:
    """Threads for one graph: half of the machine, from 1 to 4. A window is too small to feed more."""
    return max(1, min(4, (os.cpu_count() or 2) // 2))


class OnnxBackend:
    """A bundle's graph in ONNX Runtime.

    Args:
        bundle: the bundle.
        providers: execution providers, best first; ``preferred_providers`` where none are given.
        threads: threads within one operator, ``default_threads`` where none are given.
        variant: the only variant allowed; each provider's best where none is given.

    Attributes:
        tried: every rung that was tried so far, the one that computes last.
        fallbacks: how many of them were left.

    Raises:
        FaceError: ``bad_bundle``, the graph cannot be loaded or contradicts the manifest; ``bad_config``,
            there is no ONNX Runtime, it lacks a provider that was asked for, or the bundle the variant.
    """

    name = "onnxruntime"
    is_away = False

    def __init__(
        self,
        bundle: Bundle,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        variant: str | None = None,
    ) -> None:
        self._bundle = bundle
        available = available_providers()
        asked = preferred_providers(available) if providers is None else list(providers)
        for provider in asked:
            if provider not in available:
                raise FaceError(
                    "bad_config",
                    f"ONNX Runtime has no provider {provider}, only {', '.join(available)}.",
                    "See `diffspeaker info`.",
                )
        self._threads = default_threads() if threads is None else threads
        self._below = ladder(asked, bundle.variants, variant)
        self.tried: list[Tried] = []
        self._step_down()

    @property
    def provider(self) -> str:
        """The execution provider that computes."""
        return self._rung.provider

    @property
    def variant(self) -> str:
        """The variant that computes."""
        return self._rung.variant

    @property
    def fallbacks(self) -> int:
        """How many rungs were left."""
        return len(self.tried) - 1

    def infer(self, requests: Sequence[Question]) -> F32:
        """Motion for a batch.

        Args:
            requests: B requests, at least one.

        Returns:
            float32 (B, T, C), in output units.

        Raises:
            FaceError: ``inference_failed``.
        """
        while True:
            binding = self._binding(len(requests))
            for row, request in enumerate(requests):
                for name, array in binding.inputs.items():
                    array[row] = getattr(request, name)
            try:
                return binding.run(len(requests))
            except Exception as error:  # the runtime's exceptions share no base class
                reason = _first_line(error)
                if not self._below:
                    raise FaceError("inference_failed", f"The model failed: {reason}.") from error
            self._leave(f"it failed while computing: {reason}")
            self._step_down()

    def warm_up(self, max_batch: int = 1) -> None:
        """Runs silence in batches of 1, 2, 4 … up to ``max_batch``."""
        size = 1
        while size <= max_batch:
            self._binding(size).run(size)
            size *= 2

    # ---- the ladder ----

    def _step_down(self) -> None:
        """Opens the next rung that works; raises what the last one failed with."""
        while True:
            rung = self._below.pop(0)
            self._bindings: dict[int, Binding] = {}
            self._rung = rung
            try:
                self._session = self._open(rung)
                self._check_graph()
                if rung.on_gpu:
                    self._try_out()
                elif rung.provider == CPU and rung.variant == "int8":
                    self._check_int8()
            except FaceError as refusal:
                if not self._below:
                    raise
                self.tried.append(Tried(rung, refusal.message))
                self._warn(refusal.message)
                continue
            self.tried.append(Tried(rung, None))
            return

    def _leave(self, reason: str) -> None:
        self.tried[-1] = Tried(self._rung, reason)
        self._warn(reason)

    def _warn(self, reason: str) -> None:
        log.warning("%s cannot be used, so %s computes instead: %s", self._rung, self._below[0], reason)

    def _open(self, rung: Rung) -> Any:
        runtime = _runtime()
        path = str(self._bundle.variants[rung.variant])
        options = session_options(runtime, self._threads)
        inputs = input_shapes(self._bundle.manifest)
        if rung.provider == TENSORRT:
            engine_cache().mkdir(parents=True, exist_ok=True)
        try:
            # The runtime's own fallback prints to stdout and hides the reason.
            session = runtime.InferenceSession(
                path, options, providers=provider_options(rung, inputs), enable_fallback=0
            )
        except Exception as error:  # the runtime's exceptions share no base class
            raise self._refusal(f"its graph cannot be loaded: {_first_line(error)}") from None
        if session.get_providers()[0] != rung.provider:
            raise FaceError("bad_config", "Its libraries could not be loaded.")
        return session

    def _try_out(self) -> None:
        """A GPU shows in its first batches whether its memory suffices and the kernels can be captured."""
        try:
            for _ in range(2):
                self._binding(1).run(1)
        except Exception as error:  # the runtime's exceptions share no base class
            raise FaceError("inference_failed", f"Its first batch failed: {_first_line(error)}.") from error

    def _check_int8(self) -> None:
        """Rule 2."""
        binding, random = self._binding(1), np.random.default_rng(0)
        inputs = {
            name: (0.1 * random.standard_normal(array.shape)).astype(np.float32)
            for name, array in binding.inputs.items()
        }
        for name, array in inputs.items():
            binding.inputs[name][:] = array
        reference = self._open(Rung(CPU, REFERENCE)).run([OUTPUT], inputs)[0]
        rms = float(np.sqrt(np.square(binding.run(1) - reference).mean()))
        if not rms <= INT8_RMS:
            raise FaceError("bad_config", f"This processor's 8-bit products are wrong (by {rms:.2g}).")

    # ---- the graph ----

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return graph_shapes(self._bundle.manifest)

    def _check_graph(self) -> None:
        found = {node.name: node for node in (*self._session.get_inputs(), *self._session.get_outputs())}
        expected = self._shapes()
        if set(found) != set(expected):
            raise self._refusal(
                f"its graph has {', '.join(sorted(found))} where {', '.join(sorted(expected))} are needed"
            )
        for name, shape in expected.items():
            node = found[name]
            if node.type != "tensor(float)":
                raise self._refusal(f"its graph's {name} is {node.type}, not tensor(float)")
            if not node.shape or isinstance(node.shape[0], int) or tuple(node.shape[1:]) != shape:
                raise self._refusal(
                    f"its graph's {name} has the shape {tuple(node.shape)} where (batch, "
                    f"{', '.join(map(str, shape))}) is needed"
                )

    def _binding(self, batch: int) -> Binding:
        size = fixed_size(batch) if self._rung.on_gpu else batch
        if size not in self._bindings:
            device = "cuda" if self._rung.on_gpu else "cpu"
            self._bindings[size] = Binding(_runtime(), self._session, self._shapes(), OUTPUT, size, device)
        return self._bindings[size]

    def _refusal(self, sentence: str) -> FaceError:
        return FaceError("bad_bundle", f"The bundle {self._bundle.folder} is refused: {sentence}.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise FaceError(
            "bad_config",
            "There is no ONNX Runtime here.",
            'Install it with pip install "diffspeaker-live[cpu]" (or [gpu]).',
        ) from None
    return onnxruntime
