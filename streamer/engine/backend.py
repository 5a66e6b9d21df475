"""What computes motion: the ``Backend`` protocol, and the one that runs a bundle's graph in ONNX Runtime.

One call denoises one batch: audio encoder and all denoise steps are one graph, described in
``streamer.contract.manifest.Model``. Inputs are gathered into arrays that are allocated once per batch
size. The runtime's threads sleep between batches (no spinning), because audio arrives in real time and the
rest of the machine belongs to the avatar. A graph whose names or shapes contradict the manifest is refused
at the door.

Not thread-safe: one thread calls ``infer``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.core.session import WindowRequest
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_OUTPUT = "motion"


class Backend(Protocol):
    """Anything that turns requests into motion."""

    @property
    def name(self) -> str:
        """What computes, for people."""

    @property
    def provider(self) -> str:
        """Where it computes, for people."""

    def infer(self, requests: Sequence[WindowRequest]) -> F32:
        """Motion float32 (B, T, C) for B requests; raises ``inference_failed``."""

    def warm_up(self, max_batch: int = 1) -> None:
        """Computes something of every likely batch size, so that the first real window is not slow."""


def available_providers() -> list[str]:
    """The execution providers of the installed ONNX Runtime; raises ``bad_config`` where there is none."""
    return list(_runtime().get_available_providers())


def preferred_providers(available: Sequence[str]) -> list[str]:
    """The providers to try, best first: CUDA where it is listed, and always the CPU."""
    return [name for name in (CUDA, CPU) if name in available]


def default_threads() -> int:
    """Threads for one graph: half of the machine, from 1 to 4. A window is too small to feed more."""
    return max(1, min(4, (os.cpu_count() or 2) // 2))


class OnnxBackend:
    """A bundle's graph in ONNX Runtime.

    Args:
        bundle: the bundle.
        providers: execution providers, best first; ``preferred_providers`` where none are given.
        threads: threads within one operator, ``default_threads`` where none are given.

    Raises:
        FaceError: ``bad_bundle``, the graph cannot be loaded or contradicts the manifest; ``bad_config``,
            there is no ONNX Runtime, or it lacks a provider that was asked for.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, providers: Sequence[str] | None = None, threads: int | None = None
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
        self._session = self._open(asked, default_threads() if threads is None else threads)
        self.provider: str = self._session.get_providers()[0]
        self._check_graph()
        self._gathered: dict[int, dict[str, F32]] = {}

    def infer(self, requests: Sequence[WindowRequest]) -> F32:
        """Motion for a batch.

        Args:
            requests: B requests, at least one.

        Returns:
            float32 (B, T, C), in output units.

        Raises:
            FaceError: ``inference_failed``.
        """
        arrays = self._arrays(len(requests))
        for row, request in enumerate(requests):
            for name, array in arrays.items():
                array[row] = getattr(request, name)
        return self._run(arrays)

    def warm_up(self, max_batch: int = 1) -> None:
        """Runs silence in batches of 1, 2, 4 … up to ``max_batch``."""
        size = 1
        while size <= max_batch:
            self._run(self._arrays(size))
            size *= 2

    # ---- inside ----

    def _open(self, providers: list[str], threads: int) -> Any:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        path = str(self._bundle.model_file)
        try:
            if CUDA in providers:
                try:
                    # The runtime's own fallback prints to stdout and hides the reason.
                    session = runtime.InferenceSession(path, options, providers=providers, enable_fallback=0)
                    reason = "its libraries could not be loaded"
                except Exception as error:
                    session, reason = None, str(error).splitlines()[0]
                if session is not None and session.get_providers()[0] == CUDA:
                    return session
                log.warning("CUDA cannot be used, so the CPU computes instead: %s.", reason)
            return runtime.InferenceSession(path, options, providers=[CPU])
        except Exception as error:  # the runtime's exceptions share no base class
            raise self._refusal(f"its graph cannot be loaded: {str(error).splitlines()[0]}") from None

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """What the manifest says of each input and the output, without the batch."""
        manifest = self._bundle.manifest
        frames, width = manifest.timing.segment_frames, manifest.frame_width
        prefix = {"prefix": (frames, width), "prefix_mask": (frames,)}
        return {
            "audio": (manifest.timing.window_samples,),
            "noise": (frames, manifest.noise_width),
            **(prefix if manifest.timing.prefix_frames else {}),
            "style": (len(manifest.styles) + len(manifest.style_scales),),
            _OUTPUT: (frames, width),
        }

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
            if isinstance(node.shape[0], int) or tuple(node.shape[1:]) != shape:
                raise self._refusal(
                    f"its graph's {name} has the shape {tuple(node.shape)} where (batch, "
                    f"{', '.join(map(str, shape))}) is needed"
                )

    def _arrays(self, batch: int) -> dict[str, F32]:
        if batch not in self._gathered:
            self._gathered[batch] = {
                name: np.zeros((batch, *shape), np.float32)
                for name, shape in self._shapes().items()
                if name != _OUTPUT
            }
        return self._gathered[batch]

    def _run(self, arrays: dict[str, F32]) -> F32:
        try:
            motion: F32 = self._session.run([_OUTPUT], arrays)[0]
        except Exception as error:  # the runtime's exceptions share no base class
            raise FaceError("inference_failed", f"The model failed: {str(error).splitlines()[0]}.") from error
        return motion

    def _refusal(self, sentence: str) -> FaceError:
        return FaceError("bad_bundle", f"The bundle {self._bundle.folder} is refused: {sentence}.")


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
