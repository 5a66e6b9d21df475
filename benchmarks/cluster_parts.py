"""The parts of a simulated cluster: gateways, their pool of replicas, or their own workers.

Their rules are those of ``streamer.engine`` and ``streamer.engine.pool``, and stand in
``benchmarks.cluster_model``, which gives them speakers. ``benchmarks.service_times`` says what it all costs.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.queueing import Clock, Cores, Done, Thread
from benchmarks.service_times import BATCH_WAIT_S, Costs

GATHER_S, CALLS, MAX_BATCH = 0.003, 8, 8  # streamer.cli.serve
MOST_CALLS, MOST_WINDOWS = 16, 32  # streamer.engine.pool.replica


class Asks(Protocol):
    """Who is told of a window's answer."""

    def answers(self, window: Window) -> Done:
        """What follows when the gateway has woken for the answer."""


@dataclass(frozen=True)
class Station:
    """What the threads of one kind did, after the first seconds.

    Attributes:
        threads: how many. busy: the share of the time that they worked, or waited for a core, in the mean.
        wait_s: how long a burst waited for its turn, in the mean. cores: that all of them took.
    """

    threads: int
    busy: float
    wait_s: float
    cores: float


@dataclass
class Found:
    """What a simulation saw, after its first seconds.

    Attributes:
        latency_s: of every frame. queue_s, call_s: how long each window waited for its call, and was asked.
        batch: the windows of each window's call. joined: the windows of each batch that was computed.
        engine_wait_s: how long each call waited at its replica to be computed.
        stations: what each kind of thread did: ``gateway``, ``replica loop``, ``engine``, ``generator``, and
            ``aside``, which is what else works.
    """

    latency_s: list[float] = field(default_factory=list)
    queue_s: list[float] = field(default_factory=list)
    call_s: list[float] = field(default_factory=list)
    batch: list[int] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    engine_wait_s: list[float] = field(default_factory=list)
    stations: dict[str, Station] = field(default_factory=dict)


@dataclass(eq=False)
class Window:
    """A window under way.

    Attributes:
        speaker: whose it is. first, last: within its speaker, from 0; one window, or several late ones.
        wanted: when its speaker asked. asked: when it was in the queue for a call.
    """

    speaker: Asks
    first: int
    last: int
    wanted: float
    asked: float = 0.0


class World:
    """The clock, the dice, the costs, the threads by their kind, and what was seen."""

    def __init__(self, costs: Costs, cores: float | None, seed: int, settle_s: float) -> None:
        self.clock = Clock()
        self.cores = Cores(self.clock, math.inf if cores is None else max(0.1, cores - costs.idle_cores))
        self.costs = costs
        self.dice = random.Random(seed)
        self.found = Found()
        self.threads: dict[str, list[Thread]] = {}
        self._settle_s = settle_s

    @property
    def has_settled(self) -> bool:
        """Whether the first seconds have passed."""
        return self.clock.now >= self._settle_s

    def thread(self, kind: str) -> Thread:
        """A thread on these cores."""
        thread = Thread(self.clock, self.cores)
        self.threads.setdefault(kind, []).append(thread)
        return thread

    def batch_s(self, windows: int) -> float:
        """How long this batch takes; it is noted."""
        if self.has_settled:
            self.found.joined.append(windows)
        return self.costs.of_batch(windows) * math.exp(self.dice.gauss(0.0, self.costs.spread))

    def totals(self) -> dict[str, tuple[float, float, float, int]]:
        """Of each kind: busy, waited and worked seconds, and bursts."""
        return {
            kind: (
                sum(one.busy_s for one in threads),
                sum(one.wait_s for one in threads),
                sum(one.work_s for one in threads),
                sum(one.bursts for one in threads),
            )
            for kind, threads in self.threads.items()
        }


class Replica:
    """One replica of the pool (rule 3)."""

    def __init__(self, world: World) -> None:
        self.calls = 0
        self._world = world
        self._loop, self._engine = world.thread("replica loop"), world.thread("engine")
        self._waiting: deque[tuple[float, int, Done]] = deque()
        self._works = False

    def ask(self, windows: int, answer: Done) -> None:
        """Takes a call; ``answer`` leaves it."""
        self.calls += 1
        costs = self._world.costs
        half_s = (costs.replica_s + windows * costs.replica_window_s) / 2

        def leaves() -> None:
            self.calls -= 1
            answer()

        def taken() -> None:
            self._waiting.append((self._world.clock.now, windows, lambda: self._loop.do(half_s, leaves)))
            if not self._works:
                self._gather()

        self._loop.do(half_s, taken)

    def _gather(self) -> None:
        self._works = True
        wait_s = 0.0 if len(self._waiting) >= MOST_CALLS else BATCH_WAIT_S
        self._world.clock.after(wait_s, self._compute)

    def _compute(self) -> None:
        calls = [self._waiting.popleft() for _ in range(min(MOST_CALLS, len(self._waiting)))]
        sizes = [windows for _, windows, _ in calls]
        batches = [sum(sizes)] if sum(sizes) <= MOST_WINDOWS else sizes
        if self._world.has_settled:
            self._world.found.engine_wait_s += [self._world.clock.now - came for came, _, _ in calls]

        def done() -> None:
            self._works = False
            if self._waiting:
                self._gather()
            for _, _, answer in calls:
                answer()

        self._engine.do(sum(map(self._world.batch_s, batches)), done)


class Pool:
    """All replicas, and Ray's choice of one."""

    gather_s, shares = GATHER_S, False

    def __init__(self, world: World, replicas: int) -> None:
        self._world = world
        self._replicas = [Replica(world) for _ in range(replicas)]

    def ask(self, loop: Thread, windows: int, answer: Done) -> None:
        """Sends a call from a gateway's thread; ``answer`` follows there."""
        world, half_s = self._world, self._world.costs.way_s / 2
        work_s = (world.costs.call_s + windows * world.costs.call_window_s) / 2

        def arrive() -> None:
            drawn = world.dice.sample(self._replicas, min(2, len(self._replicas)))
            best = min(drawn, key=lambda replica: replica.calls)
            best.ask(windows, lambda: world.clock.after(half_s, lambda: loop.do(work_s, answer)))

        loop.do(work_s, lambda: world.clock.after(half_s, arrive))


class Workers:
    """The engine in the server itself (rule 4)."""

    gather_s, shares = 0.0, True

    def __init__(self, world: World, workers: int) -> None:
        self._world = world
        self._threads = [world.thread("engine") for _ in range(workers)]

    def ask(self, loop: Thread, windows: int, answer: Done) -> None:
        """Computes a batch; there is an idle worker."""
        idle = next(thread for thread in self._threads if not len(thread))
        idle.do(self._world.batch_s(windows), answer)


class Gateway:
    """A server (rule 2), which may have so many calls under way."""

    def __init__(self, world: World, engine: Pool | Workers, calls: int) -> None:
        self._world = world
        self._engine = engine
        self._loop = world.thread("gateway")
        self._free = calls
        self._waiting: deque[Window] = deque()

    def wake(self, done: Done) -> None:
        """Has the loop wake for something."""
        self._loop.do(self._world.costs.wake_s, done)

    def ask(self, window: Window) -> None:
        """Takes a window that is to be asked for."""
        window.asked = self._world.clock.now
        self._waiting.append(window)
        if self._engine.gather_s:
            self._world.clock.after(self._engine.gather_s, self._send)
        self._send()

    def _send(self) -> None:
        while self._free and self._waiting:
            waited_s = self._world.clock.now - self._waiting[0].asked
            if len(self._waiting) < MAX_BATCH and waited_s < self._engine.gather_s - 1e-9:
                return
            share = self._free if self._engine.shares else 1
            size = min(MAX_BATCH, -(-len(self._waiting) // share))
            self._call([self._waiting.popleft() for _ in range(size)])

    def _call(self, windows: list[Window]) -> None:
        self._free -= 1
        began = self._world.clock.now

        def answered() -> None:
            self._free += 1
            for window in windows:
                self._note(window, began, len(windows))
                self.wake(window.speaker.answers(window))
            self._send()

        self._engine.ask(self._loop, len(windows), answered)

    def _note(self, window: Window, began: float, size: int) -> None:
        if self._world.has_settled:
            found = self._world.found
            found.queue_s.append(began - window.asked)
            found.call_s.append(self._world.clock.now - began)
            found.batch.append(size)
