"""Another machine's clock, from questions and answers."""

from __future__ import annotations

import pytest

from streamer.server.far_clock import FarClock


class Ours:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(far: FarClock, ours: Ours, there: float, back: float, ahead: float) -> None:
    """One question, ``there`` and ``back`` in seconds, to a clock that is so far ahead."""
    began = ours.now
    ours.now += there
    theirs = ours.now + ahead
    ours.now += back
    far.heard(began, theirs)


def test_a_clock_is_known_to_half_of_the_way_there_and_back() -> None:
    ours = Ours()
    far = FarClock(ours)
    assert far.now() == 100.0
    assert far.age_s(50.0) < 0, "nothing is known of it yet"
    asked(far, ours, 0.1, 0.1, ahead=1000.0)
    assert far.now() == pytest.approx(ours.now + 1000)
    assert far.age_s(ours.now + 1000 - 3) == pytest.approx(3 - 0.1)


@pytest.mark.parametrize("ways", [(0.0, 4.0), (4.0, 0.0)])
def test_an_age_is_never_overrated_whichever_way_was_slow(ways: tuple[float, float]) -> None:
    ours = Ours()
    far = FarClock(ours)
    asked(far, ours, *ways, ahead=1000.0)
    assert far.age_s(ours.now + 1000 - 3) <= 3 + 1e-9


def test_a_surer_answer_counts_and_any_answer_does_after_a_minute() -> None:
    ours = Ours()
    far = FarClock(ours)
    asked(far, ours, 0.1, 0.1, ahead=1000.0)
    asked(far, ours, 0.0, 4.0, ahead=1000.0)
    assert far.now() == pytest.approx(ours.now + 1000)
    asked(far, ours, 0.01, 0.01, ahead=1000.5)
    assert far.now() == pytest.approx(ours.now + 1000.5)
    ours.now += 61
    asked(far, ours, 0.1, 0.1, ahead=1002.0)
    assert far.now() == pytest.approx(ours.now + 1002)
