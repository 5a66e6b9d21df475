"""A small discrete-event simulator: a clock, cores that are shared, and threads that work on them.

Pure and seeded by whoever draws the random numbers; nothing here does. Times are seconds. Rules:

1. Events happen in the order of their times, those of one time in the order in which they were set.
2. A ``Thread`` does one burst of work at a time, first come first served: an event loop, a computing thread.
3. ``Cores`` are shared among the threads that work (processor sharing): of ``n`` threads on ``c`` cores each
   runs at the rate min(1, c / n). Where nothing says how many cores there are, each thread has its own.

``tests/test_queueing.py`` holds it to the theory: M/M/1, M/D/1, processor sharing, Little's law.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import count

Done = Callable[[], None]


class Clock:
    """Simulated time.

    Attributes:
        now: seconds since the start.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Done]] = []

    def at(self, when: float, what: Done) -> None:
        """Has something done at an instant; one that has passed is now."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), what))

    def after(self, delay_s: float, what: Done) -> None:
        """Has something done so much later."""
        self.at(self.now + delay_s, what)

    def run(self, until: float = math.inf) -> None:
        """Lets time pass, until nothing is to be done any more or the instant is reached."""
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()


class Cores:
    """Cores that threads share.

    Args:
        clock: the simulated time.
        number: how many; a fraction is what others leave of them. As many as are wanted, where infinite.
    """

    def __init__(self, clock: Clock, number: float = math.inf) -> None:
        if number <= 0:
            raise ValueError("there must be a core, or a part of one")
        self._clock = clock
        self._number = number
        self._left: dict[int, tuple[float, Done]] = {}  # each burst's end on the meter, and what follows
        self._names = count()
        self._meter = 0.0  # the work that a thread would have done that always works
        self._read = 0.0  # when the meter was read
        self._plan = 0  # the number of the event that counts, when there is a newer one

    def work(self, burst_s: float, done: Done) -> None:
        """Does a burst of so many core seconds beside those under way."""
        if math.isinf(self._number):
            self._clock.after(burst_s, done)
            return
        self._look()
        self._left[next(self._names)] = (self._meter + burst_s, done)
        self._set()

    def _rate(self) -> float:
        return min(1.0, self._number / len(self._left))

    def _look(self) -> None:
        if self._left:
            self._meter += self._rate() * (self._clock.now - self._read)
        self._read = self._clock.now

    def _set(self) -> None:
        self._plan += 1
        if self._left:
            plan, ends = self._plan, min(end for end, _ in self._left.values())
            self._clock.after((ends - self._meter) / self._rate(), lambda: self._finish(plan))

    def _finish(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._look()
        name = min(self._left, key=lambda one: self._left[one][0])
        _, done = self._left.pop(name)
        self._set()
        done()


class Thread:
    """Does bursts of work, one at a time, in the order in which they came.

    Attributes:
        work_s: core seconds of the bursts so far. wait_s: how long they waited for their turn, together.
        busy_s: how long it was at work, or waited for a core. bursts: how many have begun.

    Args:
        clock: the simulated time. cores: where it works.
    """

    def __init__(self, clock: Clock, cores: Cores) -> None:
        self.work_s = self.wait_s = self.busy_s = 0.0
        self.bursts = 0
        self._clock = clock
        self._cores = cores
        self._queue: deque[tuple[float, float, Done]] = deque()
        self._works = False

    def __len__(self) -> int:
        """How many bursts wait or are under way."""
        return len(self._queue) + self._works

    def do(self, burst_s: float, done: Done) -> None:
        """Queues a burst of so many core seconds; ``done`` follows it."""
        self._queue.append((self._clock.now, burst_s, done))
        if not self._works:
            self._begin()

    def _begin(self) -> None:
        came, burst_s, done = self._queue.popleft()
        began = self._clock.now
        self._works = True
        self.bursts += 1
        self.work_s += burst_s
        self.wait_s += began - came

        def end() -> None:
            self.busy_s += self._clock.now - began
            self._works = False
            if self._queue:
                self._begin()
            done()

        self._cores.work(burst_s, end)
