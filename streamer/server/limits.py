"""What one client may take of a server, by its address and by its token. Pure: time is passed in.

- *Connections at one time*, of an address and of a token.
- *Connections a minute*, of an address: who reconnects without end is refused before the handshake.
- *Handshakes a second*, of everybody: they are work that windows wait behind, so those who knock take turns,
  the fuller the server the slower, down to ``SLOWEST_PER_S``. Who would wait over ``LONGEST_S`` is refused.
- *Bytes a second*, of an address: who sends more is read later (TCP tells it so), and slows nobody else.

Rates are buckets: ten seconds' worth may be used at once, and refills as time passes. An address that has not
been heard of for as long as its bucket takes to fill is forgotten, so that memory is bounded by who is there.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamer.contract.errors import FaceError

BURST_S = 10.0
SLOWEST_PER_S, FASTEST_PER_S = 25.0, 225.0  # handshakes: of a full server, and of an empty one
LONGEST_S = 5.0
RETRY_S = 5  # after which somebody who found no place is told to come back
_FORGET_EVERY = 256  # knocks


@dataclass(frozen=True)
class Guest:
    """Whom the doors let in.

    Attributes:
        name: for the log, never a secret. max_connections: at one time; None is no limit.
    """

    name: str
    max_connections: int | None = None


class Bucket:
    """So much a second, some seconds' worth at once.

    Args:
        rate: units a second; may be changed. now_s: monotonic seconds; the bucket is full then.
        burst_s: seconds' worth that may be used at once.
    """

    def __init__(self, rate: float, now_s: float, burst_s: float = BURST_S) -> None:
        self.rate = rate
        self._at_s = now_s
        self._level = self._full = max(1.0, rate * burst_s)

    def take(self, amount: float, now_s: float) -> float:
        """Takes what was used already; returns how many seconds to wait until it is paid for."""
        self._fill(now_s)
        self._level -= amount
        return max(0.0, -self._level / self.rate)

    def try_take(self, amount: float, now_s: float) -> float:
        """Takes it only if it is there; returns 0, or how many seconds it would take."""
        self._fill(now_s)
        if self._level >= amount:
            self._level -= amount
            return 0.0
        return (amount - self._level) / self.rate

    def give_back(self, amount: float) -> None:
        """Takes a ``take`` back."""
        self._level += amount

    def is_full(self, now_s: float) -> bool:
        """Whether nothing was taken for long: forgetting it changes nothing."""
        self._fill(now_s)
        return self._level >= self._full

    def _fill(self, now_s: float) -> None:
        self._level = min(self._full, self._level + max(0.0, now_s - self._at_s) * self.rate)
        self._at_s = now_s


class Limits:
    """Counts what clients take.

    Args:
        max_per_address: connections of an address at one time. connects_per_minute: new ones of an address.
        bytes_per_s: what an address may send. None is no limit.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_per_address: int | None,
        connects_per_minute: int | None,
        bytes_per_s: int | None,
        clock: Callable[[], float],
    ) -> None:
        self._max_per_address = max_per_address
        self._connects_per_minute = connects_per_minute
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._addresses: Counter[str] = Counter()
        self._guests: Counter[str] = Counter()
        self._knocks: dict[str, Bucket] = {}
        self._bytes: dict[str, Bucket] = {}
        self._since_forgotten = 0
        self._handshakes = Bucket(FASTEST_PER_S, clock(), burst_s=1.0)

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._addresses.total()

    @property
    def remembered(self) -> int:
        """How many addresses' rates are kept."""
        return len(self._knocks.keys() | self._bytes.keys())

    def knock(self, address: str) -> None:
        """Counts a new connection; raises ``at_capacity`` where its address makes too many."""
        self._forget()
        if self._connects_per_minute is None:
            return
        now_s = self._clock()
        rate = self._connects_per_minute / 60
        bucket = self._knocks.setdefault(address, Bucket(rate, now_s))
        if wait_s := bucket.try_take(1.0, now_s):
            raise FaceError(
                "at_capacity",
                f"This address connects more than {self._connects_per_minute} times a minute.",
                f"Try again in {max(1, round(wait_s))} s.",
            )

    def turn(self, fullness: float) -> float:
        """How many seconds a new connection waits for its handshake.

        Args:
            fullness: of the server's places for speakers, 0 to 1.

        Raises:
            FaceError: ``at_capacity`` where too many wait.
        """
        now_s, bucket = self._clock(), self._handshakes
        bucket.rate = FASTEST_PER_S - (FASTEST_PER_S - SLOWEST_PER_S) * min(1.0, fullness)
        wait_s = bucket.take(1.0, now_s)
        if wait_s > LONGEST_S:
            bucket.give_back(1.0)
            raise FaceError("at_capacity", "Too many connect at once.", f"Try again in {RETRY_S} s.")
        return wait_s

    def check(self, address: str, guest: Guest) -> None:
        """Raises ``at_capacity`` where an address or a token has as many connections as it may."""
        most = self._max_per_address
        if most is not None and self._addresses[address] >= most:
            raise FaceError("at_capacity", f"This address has {most} connections already.")
        most = guest.max_connections
        if most is not None and self._guests[guest.name] >= most:
            raise FaceError("at_capacity", f"This token has {most} connections already.")

    @contextlib.contextmanager
    def held(self, address: str, guest: Guest) -> Iterator[None]:
        """Counts a connection until it is closed."""
        self._addresses[address] += 1
        self._guests[guest.name] += 1
        try:
            yield
        finally:
            for counter, key in ((self._addresses, address), (self._guests, guest.name)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def pay(self, address: str, sent_bytes: int) -> float:
        """How many seconds to wait before an address that has sent so much is read on."""
        if self._bytes_per_s is None:
            return 0.0
        now_s = self._clock()
        bucket = self._bytes.setdefault(address, Bucket(self._bytes_per_s, now_s))
        return bucket.take(sent_bytes, now_s)

    def _forget(self) -> None:
        self._since_forgotten += 1
        if self._since_forgotten < _FORGET_EVERY:
            return
        self._since_forgotten, now_s = 0, self._clock()
        for buckets in (self._knocks, self._bytes):
            for address in [key for key, bucket in buckets.items() if bucket.is_full(now_s)]:
                del buckets[address]
