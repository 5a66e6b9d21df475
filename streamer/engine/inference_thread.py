"""The thread that computes: it owns the scheduler, denoises its batches, and calls back with each result.

Sockets live on an event loop and a graph blocks for tens of milliseconds, so the two meet here. ``submit``
and ``cancel`` may be called from any thread; ``on_done`` is called on this one (a server wraps it in
``loop.call_soon_threadsafe``). A batch that fails is reported to the sessions in it and to nobody else;
nothing that a backend or a callback raises ends the thread. It is no daemon: whoever starts it stops it.

On a processor with several cores several threads compute side by side, each with a backend of its own: two
windows on a core each are done sooner than both on two. What waits is shared out among those that are idle.

The clock is injected, so that tests own the time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.core.scheduler import Scheduler, Ticket
from streamer.core.session import WindowRequest
from streamer.engine.backend import Backend

F32 = npt.NDArray[np.float32]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a request.

    Attributes:
        request: what was submitted.
        motion: float32 (T, C); None where it failed. error: why, where it failed.
        queue_s: how long it waited. compute_s: how long its batch took. batch: how many requests shared it.
        late: whether its deadline had passed when it was picked.
    """

    request: WindowRequest
    motion: F32 | None
    error: FaceError | None
    queue_s: float
    compute_s: float
    batch: int
    late: bool


OnDone = Callable[[Outcome], None]


@dataclass(frozen=True, eq=False)
class _Job:
    request: WindowRequest
    on_done: OnDone


class InferenceThread:
    """A backend behind a queue; use it as a context manager, or call ``start`` and ``stop``.

    Args:
        backend: computes the batches; several compute side by side, a thread each.
        max_batch: the largest batch.
        fill_wait_s: how long a batch may wait for company; see ``Scheduler``.
        clock: monotonic seconds; deadlines are on it.
    """

    def __init__(
        self,
        backend: Backend | Sequence[Backend],
        max_batch: int = 8,
        fill_wait_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backends = list(backend) if isinstance(backend, Sequence) else [backend]
        self._idle = len(self._backends)
        self._clock = clock
        self._changed = threading.Condition()  # guards the scheduler and _stopping
        self._scheduler: Scheduler[_Job] = Scheduler(max_batch, fill_wait_s)
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._loop, args=(one,), name=f"inference {number}")
            for number, one in enumerate(self._backends)
        ]

    @property
    def backend(self) -> Backend:
        """What computes, the first of several that are alike."""
        return self._backends[0]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def late(self) -> int:
        """How many requests were picked after their deadline."""
        with self._changed:
            return self._scheduler.late

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        with self._changed:
            return len(self._scheduler)

    def start(self) -> None:
        """Starts the thread, or all of them."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finishes the batch in flight, answers what waits with ``shutting_down``, and joins the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def submit(self, session_id: str, request: WindowRequest, deadline: float, on_done: OnDone) -> None:
        """Queues a session's request, at most one at a time.

        Raises:
            RuntimeError: the session has one here already.
            FaceError: ``shutting_down``.
        """
        with self._changed:
            if self._stopping:
                raise FaceError("shutting_down", "The inference thread is stopping.")
            self._scheduler.submit(session_id, _Job(request, on_done), deadline, self._clock())
            self._changed.notify()

    def cancel(self, session_id: str) -> None:
        """Forgets a session's request: its ``on_done`` will not be called, unless it is being called now."""
        with self._changed:
            self._scheduler.cancel(session_id)

    # ---- on the thread ----

    def _loop(self, backend: Backend) -> None:
        while batch := self._next_batch():
            started = self._clock()
            motions: F32 | None = None
            error: FaceError | None = None
            try:
                motions = backend.infer([ticket.request.request for ticket in batch])
            except FaceError as refusal:
                error = refusal
            except Exception as unexpected:
                log.exception("the backend failed")
                error = FaceError("inference_failed", f"The model failed: {unexpected}.")
            compute_s = self._clock() - started
            with self._changed:
                self._idle += 1
                wanted = [self._scheduler.done(ticket.session_id) for ticket in batch]
            for row, ticket in enumerate(batch):
                if wanted[row]:
                    motion = None if motions is None else motions[row]
                    self._answer(ticket, motion, error, started, compute_s, len(batch))
        self._refuse_waiting()

    def _next_batch(self) -> list[Ticket[_Job]]:
        """Waits for a batch; empty when it is time to stop."""
        with self._changed:
            while not self._stopping:
                now = self._clock()
                batch = self._scheduler.next_batch(now, share=self._idle)
                if batch:
                    self._idle -= 1
                    return batch
                wake = self._scheduler.wake_at()
                self._changed.wait(None if wake is None else max(0.0, wake - now))
            return []

    def _answer(
        self,
        ticket: Ticket[_Job],
        motion: F32 | None,
        error: FaceError | None,
        started: float,
        compute_s: float,
        batch: int,
    ) -> None:
        outcome = Outcome(
            request=ticket.request.request,
            motion=motion,
            error=error,
            queue_s=started - ticket.submitted,
            compute_s=compute_s,
            batch=batch,
            late=started > ticket.deadline,
        )
        try:
            ticket.request.on_done(outcome)
        except Exception:
            log.exception("a callback failed")

    def _refuse_waiting(self) -> None:
        now = self._clock()
        error = FaceError("shutting_down", "The server stopped before this window was denoised.")
        with self._changed:
            waiting = self._scheduler.drain()
        for ticket in waiting:
            self._answer(ticket, None, error, now, 0.0, 0)
