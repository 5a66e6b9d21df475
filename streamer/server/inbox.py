"""Audio that a speaker has sent and the session has not yet been fed, and when it came.

State: the samples that wait; how many of the epoch were received; their arrivals, for latencies; how far the
speaker was ever ahead of real time. Rules:

1. It holds some seconds; ``room`` waits while it is full, so that the socket is not read (TCP backpressure).
2. A speaker who was ever ahead of real time by more than a microphone hands over at once is not live. What a
   network held up and then delivers in a burst is late, not ahead: a gap of some seconds is remembered.
3. A paced epoch plays in real time from its first arrival on, and waits for more where it runs dry:
   ``plays_from`` is when its first sample would have been played, its gaps left out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

_SLICE_S = 0.1  # audio handed on at a time
_AHEAD_S = 0.25  # audio that no microphone hands over at once
_GAP_S = 5.0  # after which what comes in a burst is new, not late
_DRIFT = 1.02  # sound cards' clocks are a little off: being ahead is forgotten this much faster than it grows


class Inbox:
    """The audio of one speaker, mono.

    Args:
        rate_hz: of the samples. holds_s: how much it holds. clock: monotonic seconds.

    Attributes:
        received_samples: of this epoch. is_live: see rule 2. first_heard: when the first sample of all came.
        plays_from: see rule 3; None before the epoch's first sample.
    """

    def __init__(self, rate_hz: int, holds_s: float, clock: Callable[[], float]) -> None:
        self.received_samples = 0
        self.is_live = True
        self.first_heard: float | None = None
        self.plays_from: float | None = None
        self._rate_hz = rate_hz
        self._clock = clock
        self._slice = max(1, int(_SLICE_S * rate_hz))
        self._limit = int(holds_s * rate_hz)
        self._waiting: deque[F32] = deque()
        self._waiting_samples = 0
        self._is_closed = False
        self._arrivals: deque[tuple[int, float]] = deque()  # (received samples, when)
        self._last_heard = 0.0
        self._ahead_s = 0.0  # how much more audio came than time went by; below 0 it is late
        self._room = asyncio.Event()
        self._room.set()

    def __bool__(self) -> bool:
        """Whether audio waits."""
        return bool(self._waiting)

    @property
    def waiting_s(self) -> float:
        """How much audio waits, in seconds."""
        return self._waiting_samples / self._rate_hz

    async def room(self) -> None:
        """Waits until there is room."""
        await self._room.wait()

    def put(self, samples: F32) -> None:
        """Takes what was just received, float32 (n,), n > 0."""
        now = self._clock()
        if self.first_heard is None:
            self.first_heard = self._last_heard = now
        self._ahead_s = max(-_GAP_S, self._ahead_s - _DRIFT * (now - self._last_heard))
        self._ahead_s += len(samples) / self._rate_hz
        self._last_heard = now
        self.is_live = self.is_live and self._ahead_s <= _AHEAD_S
        received_s = self.received_samples / self._rate_hz
        if self.plays_from is None or now - self.plays_from > received_s:
            self.plays_from = now - received_s
        self.received_samples += len(samples)
        self._arrivals.append((self.received_samples, now))
        self._waiting.append(samples)
        self._waiting_samples += len(samples)
        self._update_room()

    def take(self) -> F32:
        """The next samples, a tenth of a second at most; raises IndexError where none wait."""
        samples = self._waiting.popleft()
        if len(samples) > self._slice:
            self._waiting.appendleft(samples[self._slice :])
            samples = samples[: self._slice]
        self._waiting_samples -= len(samples)
        self._update_room()
        return samples

    def begin_epoch(self) -> None:
        """Forgets what waits and when it came: what follows is a new epoch's."""
        self._drop()
        self.received_samples = 0
        self._arrivals.clear()
        self.plays_from = None

    def close(self) -> None:
        """Forgets what waits; whoever waits for room has it."""
        self._is_closed = True
        self._drop()

    def age_s(self, instant_s: float) -> float | None:
        """How long ago the sample at an instant of the epoch came; instants may only grow."""
        sample = int(instant_s * self._rate_hz)
        while len(self._arrivals) > 1 and self._arrivals[0][0] <= sample:
            self._arrivals.popleft()
        return self._clock() - self._arrivals[0][1] if self._arrivals else None

    def _drop(self) -> None:
        self._waiting.clear()
        self._waiting_samples = 0
        self._update_room()

    def _update_room(self) -> None:
        if self._waiting_samples < self._limit or self._is_closed:
            self._room.set()
        else:
            self._room.clear()
