"""Another machine's monotonic clock, as one knows it from questions and answers (Cristian 1989).

State: how far it is ahead of ours, and how sure that is. Rules:

1. Half of the way is assumed to be the answer's, so an answer is sure to half of its whole way.
2. A surer answer replaces a less sure one; after a minute any answer does, as clocks drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_HOLDS_S = 60.0


class FarClock:
    """A clock that is asked over a network; ours until it has answered.

    Args:
        clock: ours, monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ahead_s = 0.0
        self._unsure_s = math.inf
        self._heard = 0.0

    def heard(self, asked: float, theirs: float) -> None:
        """Takes an answer that has just come: when it was asked for, on our clock, and what it said."""
        now = self._clock()
        unsure_s = (now - asked) / 2
        if unsure_s <= self._unsure_s or now - self._heard > _HOLDS_S:
            self._ahead_s, self._unsure_s, self._heard = theirs - (asked + now) / 2, unsure_s, now

    def now(self) -> float:
        """The far clock at this instant."""
        return self._clock() + self._ahead_s

    def age_s(self, instant: float) -> float:
        """How long ago an instant of the far clock was, at least; less than nothing where that is unsure."""
        return self.now() - instant - self._unsure_s
