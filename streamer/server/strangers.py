"""Connections that have not yet said who they are, and how many of them there may be.

A connection costs a file descriptor from the moment it is accepted, long before a token can be asked for. So
whoever owes the server something (its request, its hello) or makes it hold bytes (of a hello that is not
finished, of a file that is not read) is counted here, and where that gets too much the one that has been here
longest is cut off. A real client owes nothing for longer than a round trip; who opens many and says nothing
is the oldest soon.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MOST, MOST_BYTES = 1024, 256 << 20


def most() -> int:
    """How many there may be: a quarter of this process's file descriptors, ``MOST`` at most."""
    if resource is None:
        return MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 4)


class Strangers:
    """Who is counted, oldest first.

    Args:
        most: how many at one time. most_bytes: how much may be held for them all.
    """

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._entered: dict[Hashable, tuple[int, Callable[[], None]]] = {}
        self._bytes = 0
        self.cut_off = 0
        """How many were, since the start."""

    def __len__(self) -> int:
        return len(self._entered)

    def enter(self, who: Hashable, cut_off: Callable[[], None], holds_bytes: int = 0) -> None:
        """Counts somebody, as the newest; where that is too much, ``cut_off`` of the oldest is called."""
        self.leave(who)
        self._entered[who] = (0, cut_off)
        self.hold(who, holds_bytes)

    def hold(self, who: Hashable, more_bytes: int) -> None:
        """So much more is held for somebody; nothing changes where they are not counted."""
        if who not in self._entered:
            return
        holds_bytes, cut_off = self._entered[who]
        self._entered[who] = (holds_bytes + more_bytes, cut_off)
        self._bytes += more_bytes
        while len(self) > 1 and (len(self) > self._most or self._bytes > self._most_bytes):
            oldest = next(iter(self._entered))
            _, cut = self._entered[oldest]
            self.leave(oldest)
            self.cut_off += 1
            cut()

    def leave(self, who: Hashable) -> None:
        """Counts somebody no longer; who is not counted may leave too."""
        holds_bytes, _ = self._entered.pop(who, (0, None))
        self._bytes -= holds_bytes
