"""The thread that computes: it owns the scheduler, denoises its batches, and calls back with each result.

Sockets live on an event loop and a graph blocks for tens of milliseconds, so the two meet here. ``submit``
and ``cancel`` may be called from any thread; ``on_done`` is called on this one (a server wraps it in
``loop.call_soon_threadsafe``). Nothing that a backend or a callback raises ends the thread.

On a processor with several cores several threads compute side by side, each with a backend of its own: two
windows on a core each are done sooner than both on two. What waits is shared out among those that are idle.

Who shares a batch with a window that breaks the model loses nothing by it:

1. A batch that raises is tried again window by window; rows that are not finite are, too. A window is a pure
   question, so asking twice is harmless. One that fails alone is reported to its session.
2. A thread that does not come back hangs. Its windows are tried again by the others, each alone, at most
   once; a window that hung alone is reported. What the thread still answers is dropped, and it serves again.
3. Where all hang, everything is reported and nothing new is taken.
4. A backend that is away (``engine_away``: it asks other machines) is asked again at once while the windows'
   deadlines allow it; later it is for the sessions to ask again.

Hanging is counted in ``look``s of whoever watches, not in seconds: a machine that slept has not hung. The
clock is injected, so that tests own the time. The threads are daemons so that one that hangs for good cannot
keep the process from ending; whoever starts them stops them all the same.
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


@dataclass(eq=False)
class _Worker:
    backend: Backend
    batch: Sequence[Ticket[_Job]] = ()
    looks: int = 0  # at this batch so far
    hangs: bool = False


class InferenceThread:
    """A backend behind a queue; use it as a context manager, or call ``start`` and ``stop``.

    Args:
        backend: computes the batches; several compute side by side, a thread each.
        max_batch: the largest batch.
        fill_wait_s: how long a batch may wait for company; see ``Scheduler``.
        clock: monotonic seconds; deadlines are on it.
        hang_looks: a batch that was seen in more looks than these hangs.
        spreads: whether what waits is shared out among idle threads. For backends that ask other machines it
            is better sent as one batch.
    """

    def __init__(
        self,
        backend: Backend | Sequence[Backend],
        max_batch: int = 8,
        fill_wait_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        hang_looks: int = 20,
        spreads: bool = True,
    ) -> None:
        backends = list(backend) if isinstance(backend, Sequence) else [backend]
        self._workers = [_Worker(one) for one in backends]
        self._clock = clock
        self._hang_looks = hang_looks
        self._spreads = spreads
        self._retries = 0
        self._changed = threading.Condition()  # guards the scheduler, the workers and _stopping
        self._scheduler: Scheduler[_Job] = Scheduler(max_batch, fill_wait_s)
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._loop, args=(worker,), name=f"inference {number}", daemon=True)
            for number, worker in enumerate(self._workers)
        ]

    @property
    def backend(self) -> Backend:
        """What computes, the first of several that are alike."""
        return self._workers[0].backend

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
    def retries(self) -> int:
        """How many windows were asked again, because a backend was away."""
        with self._changed:
            return self._retries

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        with self._changed:
            return len(self._scheduler)

    @property
    def all_hang(self) -> bool:
        """Whether there is no thread that could answer."""
        with self._changed:
            return all(worker.hangs for worker in self._workers)

    def start(self) -> None:
        """Starts the thread, or all of them."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finishes the batch in flight, answers what waits with ``shutting_down``, and joins the thread.

        One that hangs is left behind.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker, thread in zip(self._workers, self._threads, strict=True):
            if thread.ident is not None and not worker.hangs:
                thread.join()

    def submit(self, session_id: str, request: WindowRequest, deadline: float, on_done: OnDone) -> None:
        """Queues a session's request, at most one at a time.

        Raises:
            RuntimeError: the session has one here already.
            FaceError: ``shutting_down``, or ``inference_failed`` where all threads hang.
        """
        with self._changed:
            if self._stopping:
                raise FaceError("shutting_down", "The inference thread is stopping.")
            if all(worker.hangs for worker in self._workers):
                raise _hung()
            self._scheduler.submit(session_id, _Job(request, on_done), deadline, self._clock())
            self._changed.notify()

    def cancel(self, session_id: str) -> None:
        """Forgets a session's request: its ``on_done`` will not be called, unless it is being called now."""
        with self._changed:
            self._scheduler.cancel(session_id)

    def look(self) -> int:
        """Notices what hangs (rules 2 and 3); to be called at a steady pace.

        Returns:
            How many threads hang.
        """
        lost: list[Ticket[_Job]] = []
        with self._changed:
            for worker in self._workers:
                worker.looks += bool(worker.batch)
                if worker.batch and not worker.hangs and worker.looks > self._hang_looks:
                    worker.hangs = True
                    log.error("a batch does not come back", extra={"batch": len(worker.batch)})
                    if len(worker.batch) == 1:
                        lost += [ticket for ticket in worker.batch if self._scheduler.done(ticket)]
                    for ticket in worker.batch:
                        self._scheduler.retry(ticket)
            hanging = sum(worker.hangs for worker in self._workers)
            if hanging == len(self._workers):
                lost += self._scheduler.drain()
            self._changed.notify_all()
            now = self._clock()
        for ticket in lost:
            self._answer(ticket, None, _hung(), now, 0.0, 0)
        return hanging

    # ---- on the thread ----

    def _loop(self, worker: _Worker) -> None:
        while batch := self._next_batch(worker):
            started = self._clock()
            motions, error = self._infer(worker.backend, batch)
            compute_s = self._clock() - started
            bad = [ticket for ticket, motion in zip(batch, motions, strict=True) if not _is_good(motion)]
            is_away = error is not None and error.code == "engine_away"
            with self._changed:
                worker.batch, worker.hangs = (), False
                if is_away:
                    bad = [ticket for ticket in bad if self._clock() < ticket.deadline]
                    self._retries += len(bad)
                elif len(batch) == 1:
                    bad = []
                for ticket in bad:
                    self._scheduler.retry(ticket, alone=not is_away)
                if bad:
                    self._changed.notify_all()
                wanted = [self._scheduler.done(ticket) for ticket in batch]
            for ticket, motion, is_wanted in zip(batch, motions, wanted, strict=True):
                if is_wanted:
                    self._answer(ticket, motion, error, started, compute_s, len(batch))
        self._refuse_waiting()

    def _infer(
        self, backend: Backend, batch: Sequence[Ticket[_Job]]
    ) -> tuple[Sequence[F32 | None], FaceError | None]:
        try:
            motions = backend.infer([ticket.request.request for ticket in batch])
            if len(motions) == len(batch):
                return list(motions), None
            error = FaceError("inference_failed", f"{len(batch)} windows gave {len(motions)} motions.")
        except FaceError as refusal:
            error = refusal
        except Exception as unexpected:
            log.exception("the backend failed")
            error = FaceError("inference_failed", f"The model failed: {unexpected}.")
        return [None] * len(batch), error

    def _next_batch(self, worker: _Worker) -> list[Ticket[_Job]]:
        """Waits for a batch; empty when it is time to stop."""
        with self._changed:
            while not self._stopping:
                now = self._clock()
                idle = sum(not one.batch for one in self._workers) if self._spreads else 1
                batch = self._scheduler.next_batch(now, share=idle)
                if batch:
                    worker.batch, worker.looks = batch, 0
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


def _is_good(motion: F32 | None) -> bool:
    return motion is not None and bool(np.isfinite(motion).all())


def _hung() -> FaceError:
    return FaceError("inference_failed", "The model does not answer any more.")
