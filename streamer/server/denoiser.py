"""The inference thread, as something to await: the one place where the event loop and the engine meet."""

from __future__ import annotations

import asyncio
import contextlib

from streamer.core.session import WindowRequest
from streamer.engine.inference_thread import InferenceThread, Outcome


class Denoiser:
    """Awaitable inference.

    Args:
        thread: a started inference thread.
    """

    def __init__(self, thread: InferenceThread) -> None:
        self._thread = thread

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
        return outcome
