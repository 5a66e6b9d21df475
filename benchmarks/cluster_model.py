"""Speakers, gateways and replicas, simulated: what a frame's latency would be on machines that nobody has.

The parts and their rules are those of ``streamer.server``, ``streamer.engine`` and ``streamer.engine.pool``:

1. A speaker sends a chunk every 20 ms. The chunk that completes a window makes it due; a session has one
   window under way, the others wait behind it. Where the fleet ``joins``, as servers do by default, a window
   that took longer than a hop has those behind it denoised as one, while there are some.
2. A gateway is one thread. It wakes for every chunk, to ask for a window and to take its answer, and works
   for each call, half when the call goes and half when its answer comes. What has gathered goes as one call
   as soon as the oldest window has waited for the gathering time, or the batch is full, and a call is free.
3. A call goes to the replica with fewer calls of two that are drawn. The replica's loop takes it and sends
   the answer, half of its work each. Calls that wait are joined into one batch, after the batch wait, and one
   thread computes it. How long that takes is drawn from a log-normal distribution about its median.
4. In a server that denoises by itself an idle worker takes its share of what waits; there is no way to go.
5. Who has machines of its own shares no cores; on the machine that was measured, all share them.

A frame's latency is that of ``benchmarks.load``: from the instant when all audio that it may hear exists to
its arrival. Not simulated: calls that are given up after half a second, time that a hypervisor steals, and
machines that fail.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from benchmarks.capacity import SETTLE_S
from benchmarks.cluster_parts import CALLS, Found, Gateway, Pool, Station, Window, Workers, World
from benchmarks.load import CHUNK_S
from benchmarks.queueing import Done, Thread
from benchmarks.service_times import FRAME_S, HOP_FRAMES, HOP_S, Costs

LOOKAHEAD_S = 0.08
MOST_JOINED = 5  # windows: the segment reaches no further, see streamer.core.session


@dataclass(frozen=True)
class Fleet:
    """What is simulated.

    Attributes:
        phases_s: when each speaker begins. gateways: speakers take turns at them.
        replicas: of the pool; or workers of each server, where it ``is_local``.
        cores: that all share; None where everybody has their own.
        joins: whether late windows are denoised as one (``--late-windows join``).
    """

    phases_s: tuple[float, ...]
    gateways: int = 1
    replicas: int = 2
    is_local: bool = False
    cores: float | None = None
    joins: bool = False


class Speaker:
    """One session, from its client's chunks to its frames; windows wait here for each other (rule 1)."""

    def __init__(
        self,
        world: World,
        gateway: Gateway,
        client: Thread,
        aside: Thread,
        begin: float,
        stop: float,
        joins: bool,
    ) -> None:
        self._world = world
        self._gateway = gateway
        self._client, self._aside = client, aside
        self._begin, self._stop, self._joins = begin, stop, joins
        self._due: deque[int] = deque()
        self._windows = self._chunks = 0
        self._asks = self._is_behind = False
        world.clock.at(begin + CHUNK_S, self._send)

    def _send(self) -> None:
        """A chunk leaves the client."""
        self._chunks += 1
        has_window = self._chunks >= chunks_of(self._windows)
        number = self._windows
        self._windows += has_window

        def heard() -> None:
            if has_window:
                self._due.append(number)
                self._ask()

        work_s = self._world.costs.client_s * CHUNK_S / HOP_S / 2
        self._client.do(work_s, lambda: self._gateway.wake(heard))
        if (following := self._begin + (self._chunks + 1) * CHUNK_S) <= self._stop:
            self._world.clock.at(following, self._send)

    def _ask(self) -> None:
        if self._due and not self._asks:
            self._asks = True
            first = last = self._due.popleft()
            while self._joins and self._is_behind and self._due and last - first + 1 < MOST_JOINED:
                last = self._due.popleft()
            window = Window(self, first, last, self._world.clock.now)
            self._gateway.wake(lambda: self._gateway.ask(window))
            self._aside.do(self._world.costs.aside_s, lambda: None)

    def answers(self, window: Window) -> Done:
        """What follows when the gateway has woken for a window's answer."""

        def delivered() -> None:
            self._asks = False
            is_late = self._world.clock.now - window.wanted > HOP_S
            self._is_behind = is_late or (self._is_behind and bool(self._due))
            self._ask()
            self._client.do(self._world.costs.client_s / 2, lambda: self._arrive(window))

        return delivered

    def _arrive(self, window: Window) -> None:
        for frame in range(HOP_FRAMES * window.first, HOP_FRAMES * (window.last + 1)):
            if frame * FRAME_S >= SETTLE_S:
                exists = self._begin + frame * FRAME_S + LOOKAHEAD_S
                self._world.found.latency_s.append(self._world.clock.now - exists)


def chunks_of(window: int) -> int:
    """How many chunks complete a window: its newest frame's audio, with the lookahead, has come."""
    newest = HOP_FRAMES * (window + 1) - 1
    return math.ceil((newest * FRAME_S + LOOKAHEAD_S) / CHUNK_S - 1e-6)


def simulate(fleet: Fleet, costs: Costs, seconds: float, seed: int = 0) -> Found:
    """Lets everybody speak for so long after the first seconds, and hears all frames.

    Raises:
        ValueError: nobody speaks, or there is nobody to serve them.
    """
    if not fleet.phases_s or fleet.gateways < 1 or fleet.replicas < 1:
        raise ValueError("a fleet has speakers, a gateway and a replica at least")
    world = World(costs, fleet.cores, seed, SETTLE_S)
    client, aside = world.thread("generator"), world.thread("aside")
    pool = None if fleet.is_local else Pool(world, fleet.replicas)
    gateways = [
        Gateway(world, pool or Workers(world, fleet.replicas), CALLS if pool else fleet.replicas)
        for _ in range(fleet.gateways)
    ]
    stop = SETTLE_S + seconds
    for number, phase_s in enumerate(fleet.phases_s):
        gateway = gateways[number % len(gateways)]
        own = client if fleet.cores else Thread(world.clock, world.cores)
        Speaker(world, gateway, own, aside, phase_s, phase_s + stop, fleet.joins)
    world.clock.run(SETTLE_S)
    before = world.totals()
    world.clock.run(stop)
    after = world.totals()
    for kind, threads in world.threads.items():
        busy, waited, worked, bursts = (b - a for a, b in zip(before[kind], after[kind], strict=True))
        world.found.stations[kind] = Station(
            len(threads), busy / seconds / len(threads), waited / max(1, bursts), worked / seconds
        )
    world.clock.run()
    return world.found


def drawn_phases(speakers: int) -> tuple[float, ...]:
    """When the speakers of ``benchmarks.capacity`` begin at a level of so many: its dice, thrown again."""
    dice = random.Random(speakers)
    return tuple((dice.uniform(0, 1 / 15), dice.uniform(0, 4))[0] for _ in range(speakers))


def any_phases(speakers: int, seed: int) -> tuple[float, ...]:
    """Speakers who begin whenever they like: hops and chunks meet again after 0.2 s."""
    dice = random.Random(seed)
    return tuple(dice.uniform(0, 0.2) for _ in range(speakers))
