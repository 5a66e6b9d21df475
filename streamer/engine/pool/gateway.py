"""The backend of a gateway: it computes nothing and asks the pool, one call for each micro-batch.

``ray://HOST:PORT`` reaches a cluster's Ray Client server from anywhere; ``ray://auto`` is the cluster that
this machine is a node of, which is the shorter way. Ray chooses the replica. Rules:

1. A pool with another bundle than the gateway's, or another version of the packing, is refused at the door.
2. A call that finds no replica, or one of another release, whose replica dies, or that takes too long
   raises ``engine_away``: the windows may be asked again, because a window is a pure question. What the
   model itself fails with is ``inference_failed``.
3. Thread-safe: several threads may each have a call under way.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.engine.backend import Question
from streamer.engine.binding import OUTPUT, graph_shapes, input_shapes
from streamer.engine.bundle import Bundle
from streamer.engine.pool.packing import VERSION, pack_windows, unpack_motion

F32 = npt.NDArray[np.float32]

SCHEME = "ray://"
_CLIENT_PORT = 10001
_KNOCK_S, _FIRST_S = 3.0, 30.0
_USUAL_S = 0.5  # many hops: whoever has not answered by then is asked no more, another replica may be there


class PoolBackend:
    """A pool of replicas in a Ray cluster, as a backend.

    Args:
        address: ``ray://HOST:PORT`` or ``ray://auto``. bundle: the gateway's.
        timeout_s: how long a call may take.

    Raises:
        FaceError: ``bad_config``, Ray is not installed, nothing answers there or no pool runs;
            ``bad_bundle``, the pool has another one.
    """

    name = "ray"
    fallbacks = 0

    def __init__(self, address: str, bundle: Bundle, timeout_s: float = _USUAL_S) -> None:
        self._digest = bundle.digest
        self._shapes = input_shapes(bundle.manifest)
        self._motion_shape = graph_shapes(bundle.manifest)[OUTPUT]
        self._timeout_s = timeout_s
        self._handle, facts = _reach(address)
        self.provider, self.variant = str(facts["provider"]), str(facts["variant"])
        if facts["version"] != VERSION:
            raise FaceError(
                "bad_config",
                f"The pool at {address} speaks version {facts['version']}, this gateway {VERSION}.",
                "Deploy the same release to both.",
            )
        if facts["digest"] != self._digest:
            own = f"{bundle.manifest.name} {bundle.manifest.version}"
            raise FaceError(
                "bad_bundle",
                f"The pool at {address} holds the bundle {facts['bundle']} ({facts['digest'][:12]}), this "
                f"gateway {own} ({self._digest[:12]}).",
                "Give both the same bundle: frames of different models do not join.",
            )

    def infer(self, requests: Sequence[Question]) -> F32:
        """Motion float32 (B, T, C) for B requests.

        Raises:
            FaceError: ``engine_away`` or ``inference_failed``, see rule 2.
        """
        packed = pack_windows(requests, self._shapes)
        try:
            call = self._handle.denoise.remote(VERSION, self._digest, packed)
            answer = call.result(timeout_s=self._timeout_s)
        except Exception as error:  # Ray's exceptions share no base class with those of its transport
            reason = type(error).__name__
            raise FaceError("engine_away", f"The pool does not answer: {reason}.") from error
        if isinstance(answer, tuple):
            code, sentence = answer
            raise FaceError(code, f"The pool refused a batch: {sentence.rstrip('.')}.")
        return unpack_motion(answer, self._motion_shape)

    def warm_up(self, max_batch: int = 1) -> None:
        """Nothing: the replicas are warm before they are asked."""


def join(address: str) -> Any:
    """Joins this process to a Ray cluster, once; returns the module ``ray.serve``.

    Raises:
        FaceError: ``bad_config``, it cannot be done.
    """
    if not address.startswith(SCHEME):
        raise FaceError(
            "bad_config", f"{address} is no address of an engine.", "Write ray://HOST:10001, or ray://auto."
        )
    try:
        import ray
        from ray import serve
    except ImportError:
        raise FaceError(
            "bad_config",
            f"{address} needs Ray, which is not installed.",
            'Install it with pip install "diffspeaker-live[cluster]".',
        ) from None
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # stderr is for our events; Ray keeps files
    if ray.is_initialized():
        return serve
    is_node = address == f"{SCHEME}auto"
    try:
        if not is_node:  # Ray itself would try for half a minute
            place = urlsplit(address)
            socket.create_connection((place.hostname or "", place.port or _CLIENT_PORT), _KNOCK_S).close()
        ray.init("auto" if is_node else address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # whatever the transport raises
        raise FaceError(
            "bad_config",
            f"No Ray cluster answers at {address}: {_first_line(error)}.",
            "Name it as ray://HOST:10001, or ray://auto on a machine that is a node of it.",
        ) from None
    return serve


def _reach(address: str) -> tuple[Any, dict[str, Any]]:
    """The pool's handle and its facts."""
    serve = join(address)
    from streamer.engine.pool.replica import APP

    try:
        handle: Any = serve.get_app_handle(APP)
        return handle, handle.facts.remote().result(timeout_s=_FIRST_S)
    except Exception as error:
        raise FaceError(
            "bad_config",
            f"The Ray cluster at {address} has no pool that answers: {_first_line(error)}.",
            "Start one with `diffspeaker pool`.",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
