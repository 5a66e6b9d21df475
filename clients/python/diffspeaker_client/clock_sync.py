"""How the server's clock relates to ours, from questions and answers. Pure: time is passed in.

State: the last 16 answers. An answer that took a round trip of ``r`` seconds fixes the difference to ± r / 2,
so of those remembered the quickest is believed. Remembering few follows two clocks that drift apart. It is
``clients/web/src/clock-sync.js``, for Python.
"""

from __future__ import annotations

from collections import deque

_REMEMBERED = 16


class ClockSync:
    """Answers in, the difference out.

    Attributes:
        round_trip_s: of the quickest recent answer; NaN before the first.
        difference_s: the server's clock minus ours; NaN before the first answer.
    """

    def __init__(self) -> None:
        self._answers: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)  # (round trip, difference)
        self.round_trip_s = float("nan")
        self.difference_s = float("nan")

    def observe(self, asked_s: float, server_s: float, answered_s: float) -> None:
        """Takes one answer.

        Args:
            asked_s: our clock when the question was sent. server_s: the server's as it answered.
            answered_s: ours when the answer came; one that came before it was asked for is ignored.
        """
        round_trip_s = answered_s - asked_s
        if not round_trip_s >= 0:
            return
        self._answers.append((round_trip_s, server_s - (asked_s + answered_s) / 2))
        self.round_trip_s, self.difference_s = min(self._answers, key=lambda answer: answer[0])
