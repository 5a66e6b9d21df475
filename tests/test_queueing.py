"""The simulator against the theory of queues: what is known in closed form must come out."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.queueing import Clock, Cores, Done, Thread

MEAN_S, JOBS = 0.01, 60_000


def sojourns(
    load: float, work_s: list[float], seed: int, cores: float = math.inf, shared: bool = False
) -> list[float]:
    """How long each job stays: Poisson arrivals at one thread, or each at its own on shared cores."""
    dice, clock = random.Random(seed), Clock()
    processor = Cores(clock, cores)
    thread = Thread(clock, processor)
    stays: list[float] = []

    def arrive(number: int) -> None:
        came = clock.now

        def done() -> None:
            stays.append(clock.now - came)

        (Thread(clock, processor) if shared else thread).do(work_s[number], done)
        if number + 1 < len(work_s):
            clock.after(dice.expovariate(load / MEAN_S), lambda: arrive(number + 1))

    arrive(0)
    clock.run()
    return stays


def exponential(seed: int) -> list[float]:
    """Work with the mean ``MEAN_S``."""
    dice = random.Random(seed)
    return [dice.expovariate(1 / MEAN_S) for _ in range(JOBS)]


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_random_work_waits_as_in_an_m_m_1_queue(load: float) -> None:
    stays = sojourns(load, exponential(1), seed=2)
    assert sum(stays) / JOBS == pytest.approx(MEAN_S / (1 - load), rel=0.06)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_constant_work_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    stays = sojourns(load, [MEAN_S] * JOBS, seed=3)
    assert sum(stays) / JOBS - MEAN_S == pytest.approx(load * MEAN_S / (2 * (1 - load)), rel=0.06)


def test_a_shared_core_serves_as_an_m_m_1_queue_that_shares() -> None:
    stays = sojourns(0.6, exponential(4)[: JOBS // 2], seed=5, cores=1, shared=True)
    assert sum(stays) / len(stays) == pytest.approx(MEAN_S / (1 - 0.6), rel=0.06)


def test_two_cores_are_two_only_for_two_threads() -> None:
    clock = Clock()
    cores = Cores(clock, 2)
    ends: dict[str, float] = {}

    def notes(name: str) -> Done:
        return lambda: ends.update({name: clock.now})

    for name, work_s in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        Thread(clock, cores).do(work_s, notes(name))
    clock.run()
    # Two thirds of a core each, then c has a whole one.
    assert ends == pytest.approx({"a": 1.5, "b": 1.5, "c": 2.5})


def test_littles_law_and_nothing_is_lost() -> None:
    clock, dice = Clock(), random.Random(6)
    thread, inside, seen, stays = Thread(clock, Cores(clock)), 0, [0.0, 0.0], []

    def note(change: int) -> None:
        nonlocal inside
        seen[0] += inside * (clock.now - seen[1])
        seen[1] = clock.now
        inside += change

    def arrive(left: int, came: float) -> None:
        def done() -> None:
            note(-1)
            stays.append(clock.now - came)

        note(+1)
        thread.do(dice.expovariate(1 / MEAN_S), done)
        if left:
            clock.after(dice.expovariate(0.7 / MEAN_S), lambda: arrive(left - 1, clock.now))

    clock.at(0.0, lambda: arrive(4999, 0.0))
    clock.run()
    assert len(stays) == thread.bursts == 5000 and inside == 0 and len(thread) == 0
    assert seen[0] == pytest.approx(sum(stays))  # L = λ W, both sides times the whole time
    assert thread.work_s == pytest.approx(thread.busy_s)
    assert thread.wait_s == pytest.approx(sum(stays) - thread.work_s)


def test_events_of_one_instant_keep_their_order_and_the_past_is_now() -> None:
    clock, said = Clock(), []
    clock.at(1.0, lambda: clock.at(0.5, lambda: said.append(("late", clock.now))))
    clock.at(1.0, lambda: said.append(("second", clock.now)))
    clock.at(3.0, lambda: said.append(("never", clock.now)))
    clock.run(until=2.0)
    assert said == [("second", 1.0), ("late", 1.0)]


def test_no_core_is_refused() -> None:
    with pytest.raises(ValueError, match="core"):
        Cores(Clock(), 0)
