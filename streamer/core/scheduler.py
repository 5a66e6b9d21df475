"""Decides which windows are denoised together, and when: earliest deadline first, across all sessions.

A request waits until a batch has room for it, and batches are filled in the order of the deadlines. With
``fill_wait_s`` above zero a batch that is not full may wait that long for company, never past the moment at
which its earliest deadline could still be met (``reserve_s`` before it). By default nothing waits when the
engine is idle: on a CPU a batch of two takes twice as long as one, and waiting would only add delay.

Rules
1. A session has at most one request here, waiting or in flight: ``submit`` raises for a second one.
2. ``next_batch`` puts what it returns in flight; ``done`` takes it out again.
3. ``cancel`` forgets a request; one in flight finishes, and ``done`` says that nobody wants its result.
4. A request that is picked after its deadline is late: it is denoised all the same, and counted.
5. ``retry`` puts a request of a batch that failed back; ``alone``, it will be a batch by itself, and is
   judged for what it is.

The time is always an argument, in seconds of any one monotonic clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from itertools import count
from typing import Generic, TypeVar

Request = TypeVar("Request")


@dataclass(frozen=True)
class Ticket(Generic[Request]):
    """A request on its way.

    Attributes:
        session_id: whose it is. request: what was submitted.
        deadline: when its frames should be there. submitted: when it came in; both in seconds.
        is_alone: whether it shares its batch with no other (rule 5).
    """

    session_id: str
    request: Request
    deadline: float
    submitted: float
    is_alone: bool = False


class Scheduler(Generic[Request]):
    """Requests in, batches out.

    Args:
        max_batch: the largest batch, at least 1.
        fill_wait_s: how long a batch may wait to be filled.
        reserve_s: the time before a deadline at which its batch must leave.
    """

    def __init__(self, max_batch: int, fill_wait_s: float = 0.0, reserve_s: float = 0.0) -> None:
        if max_batch < 1:
            raise ValueError("a batch holds at least one request")
        self.max_batch = max_batch
        self.fill_wait_s = fill_wait_s
        self.reserve_s = reserve_s
        self.late = 0
        self._order = count()  # ties go to the one that came first
        self._heap: list[tuple[float, int, Ticket[Request]]] = []
        self._waiting: dict[str, Ticket[Request]] = {}
        self._in_flight: dict[str, Ticket[Request]] = {}

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many requests are being denoised whose results are wanted."""
        return len(self._in_flight)

    def submit(self, session_id: str, request: Request, deadline: float, now: float) -> None:
        """Adds a session's request.

        Raises:
            RuntimeError: the session has one already.
        """
        if session_id in self._waiting or session_id in self._in_flight:
            raise RuntimeError(f"session {session_id} has a request already")
        self._queue(Ticket(session_id, request, deadline, now))

    def next_batch(self, now: float, share: int = 1) -> list[Ticket[Request]]:
        """The requests to denoise now, earliest deadline first; empty where none is or it pays to wait.

        ``share`` is how many could begin a batch now: each takes its part of what waits.
        """
        wake = self.wake_at()
        if wake is None or now < wake:
            return []
        batch: list[Ticket[Request]] = []
        most = min(self.max_batch, -(-len(self._waiting) // max(1, share)))
        while self._heap and len(batch) < most:
            ticket = self._heap[0][2]
            if self._waiting.get(ticket.session_id) is not ticket:
                heapq.heappop(self._heap)  # cancelled
                continue
            if batch and ticket.is_alone:
                break
            heapq.heappop(self._heap)
            del self._waiting[ticket.session_id]
            self._in_flight[ticket.session_id] = ticket
            self.late += now > ticket.deadline
            batch.append(ticket)
            if ticket.is_alone:
                break
        return batch

    def wake_at(self) -> float | None:
        """The moment from which ``next_batch`` returns something; None where nothing waits."""
        if not self._waiting:
            return None
        oldest = min(ticket.submitted for ticket in self._waiting.values())
        if len(self._waiting) >= self.max_batch:
            return oldest
        earliest = min(ticket.deadline for ticket in self._waiting.values())
        return min(oldest + self.fill_wait_s, max(oldest, earliest - self.reserve_s))

    def done(self, ticket: Ticket[Request]) -> bool:
        """Takes a request out of flight; says whether its result is still wanted."""
        if self._in_flight.get(ticket.session_id) is not ticket:
            return False
        del self._in_flight[ticket.session_id]
        return True

    def retry(self, ticket: Ticket[Request], alone: bool = True) -> None:
        """Puts a request that is in flight back (rule 5); nothing where nobody wants it."""
        if self.done(ticket):
            self._queue(replace(ticket, is_alone=ticket.is_alone or alone))

    def cancel(self, session_id: str) -> None:
        """Forgets a session's request, wherever it is; does nothing where there is none."""
        self._waiting.pop(session_id, None)
        self._in_flight.pop(session_id, None)

    def drain(self) -> list[Ticket[Request]]:
        """Takes out everything that waits, earliest deadline first, without denoising it."""
        waiting = sorted(self._waiting.values(), key=lambda ticket: ticket.deadline)
        self._waiting.clear()
        self._heap.clear()
        return waiting

    def _queue(self, ticket: Ticket[Request]) -> None:
        self._waiting[ticket.session_id] = ticket
        heapq.heappush(self._heap, (ticket.deadline, next(self._order), ticket))
