"""The inference thread, as something to await: the one place where the event loop and the engine meet.

State: how long the latest windows took, waiting included. Their 95th percentile is the time that a published
face delay allows for computing; it follows the load, so a stream that opens on a busy server is told more.

It also keeps an eye on the engine: ``watch`` runs beside the server, and sets ``failed`` when no thread of it
has answered for so long that only a new process will help.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable

from streamer.core.session import WindowRequest
from streamer.engine.inference_thread import InferenceThread, Outcome

_REMEMBERED = 200  # windows: some 13 seconds of one speaker
_GIVE_UP_LOOKS = 100


class Denoiser:
    """Awaitable inference.

    Args:
        thread: a started inference thread.
    """

    def __init__(self, thread: InferenceThread) -> None:
        self._thread = thread
        self._took_s: deque[float] = deque(maxlen=_REMEMBERED)
        self.failed = asyncio.Event()
        """Set when no thread answers and waiting is no use."""

    @property
    def usual_s(self) -> float:
        """The 95th percentile of what recent windows took, in seconds; 0 before the first."""
        ranked = sorted(self._took_s)
        return ranked[math.ceil(0.95 * len(ranked)) - 1] if ranked else 0.0

    @property
    def is_working(self) -> bool:
        """Whether there is a thread that answers."""
        return not self._thread.all_hang

    async def watch(self, look_interval_s: float, tell: Callable[[int], object]) -> None:
        """Looks after the inference threads until it is cancelled.

        Args:
            look_interval_s: how often; see ``InferenceThread.look``. tell: told how many threads hang.
        """
        looks = 0  # since one of them answered
        while True:
            await asyncio.sleep(look_interval_s)
            tell(self._thread.look())
            looks = looks + 1 if self._thread.all_hang else 0
            if looks > _GIVE_UP_LOOKS:
                self.failed.set()

    def forget(self) -> None:
        """Forgets what windows took until now."""
        self._took_s.clear()

    async def denoise(self, session_id: str, request: WindowRequest, deadline: float) -> Outcome:
        """Waits for a request's outcome, at most one at a time for each session.

        Args:
            session_id: whose it is. request: the window. deadline: monotonic seconds.

        Raises:
            FaceError: what the engine failed with.
        """
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Outcome] = loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not settled.done():
                settled.set_result(outcome)

        def on_done(outcome: Outcome) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, outcome)

        self._thread.submit(session_id, request, deadline, on_done)
        try:
            outcome = await settled
        except asyncio.CancelledError:
            self._thread.cancel(session_id)
            raise
        if outcome.error is not None:
            raise outcome.error
        self._took_s.append(outcome.queue_s + outcome.compute_s)
        return outcome
