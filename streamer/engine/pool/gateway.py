"""The backend of a gateway: it computes nothing and asks the pool, one call for each micro-batch.

``ray://HOST:PORT`` reaches a cluster's Ray Client server from anywhere; ``ray://auto`` is the cluster that
this machine is a node of, which is the shorter way. Ray chooses the replica. Rules:

1. A pool with another bundle than the gateway's, or another version of the packing, is refused at the door.
2. A call that finds no replica, or one of another release, whose replica dies, or that takes too long
   raises ``engine_away``: the windows may be asked again, because a window is a pure question. What the
   model itself fails with is ``inference_failed``.
3. A pool that has not answered several calls in a row is looked for anew, as long as it takes: it may have
   been deployed again, or its cluster begun again. Meanwhile the backend is away (``is_away``). A process
   that is itself a node of a cluster whose head is gone is ended by Ray within a minute, and must be started
   again.
4. Thread-safe: several threads may each have a call under way.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
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
_NODE = f"{SCHEME}auto"
log = logging.getLogger(__name__)

_LOOKING = threading.Lock()  # a process has one connection to a cluster, however many backends
_CLIENT_PORT = 10001
_KNOCK_S, _FIRST_S = 3.0, 30.0
_LOST_AFTER, _LOOK_EVERY_S = 4, 1.0  # unanswered calls in a row
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
        self._address = address
        self._bundle = f"{bundle.manifest.name} {bundle.manifest.version}"
        self._digest = bundle.digest
        self._shapes = input_shapes(bundle.manifest)
        self._motion_shape = graph_shapes(bundle.manifest)[OUTPUT]
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # guards what follows
        self._unanswered, self._is_looking = 0, False
        self._handle, facts = self._found()
        self.provider, self.variant = str(facts["provider"]), str(facts["variant"])

    @property
    def is_away(self) -> bool:
        """Whether the pool is being looked for."""
        return self._is_looking

    def _found(self) -> tuple[Any, dict[str, Any]]:
        """The pool's handle and its facts; raises ``FaceError`` where there is none for this gateway."""
        handle, facts = _reach(self._address)
        if facts["version"] != VERSION:
            raise FaceError(
                "bad_config",
                f"The pool at {self._address} speaks version {facts['version']}, this gateway {VERSION}.",
                "Deploy the same release to both.",
            )
        if facts["digest"] != self._digest:
            raise FaceError(
                "bad_bundle",
                f"The pool at {self._address} holds the bundle {facts['bundle']} ({facts['digest'][:12]}), "
                f"this gateway {self._bundle} ({self._digest[:12]}).",
                "Give both the same bundle: frames of different models do not join.",
            )
        return handle, facts

    def _note(self, is_answered: bool) -> None:
        """Counts calls that were not answered, and begins to look for the pool where there were too many."""
        with self._lock:
            self._unanswered = 0 if is_answered else self._unanswered + 1
            if self._unanswered < _LOST_AFTER or self._is_looking:
                return
            self._is_looking = True
        log.warning("the pool is lost, and looked for", extra={"address": self._address})
        threading.Thread(target=self._look, name="looks for the pool", daemon=True).start()

    def _look(self) -> None:
        said = ""
        while True:
            with _LOOKING:
                try:
                    handle, _ = self._found()
                    break
                except FaceError as error:
                    if error.message != said:
                        said = error.message
                        log.warning("the pool is not found", extra={"reason": said})
                    _forget(self._address)
            time.sleep(_LOOK_EVERY_S)
        with self._lock:
            self._handle, self._unanswered, self._is_looking = handle, 0, False
        log.warning("the pool is found again", extra={"address": self._address})

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
            self._note(is_answered=False)
            raise FaceError("engine_away", f"The pool does not answer: {reason}.") from error
        self._note(is_answered=True)
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
    is_node = address == _NODE
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


def _forget(address: str) -> None:
    """Lets go of what is kept of a cluster, so that the next call finds what there is."""
    import ray
    from ray.serve import context

    if address == _NODE:  # its connection is part of this process, and Ray's to look after
        context._disconnect()  # type: ignore[no-untyped-call]
        return
    with contextlib.suppress(Exception):  # whatever a broken connection raises while it is closed
        ray.shutdown()


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
