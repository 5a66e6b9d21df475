"""What every server has, whatever it serves: guests who are counted, limits, metrics, and a way to end.

``Hub`` is a house whose streams are spoken here, ``Relay`` one whose streams are spoken elsewhere; a
connection knows only this much of either.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.server.limits import Guest, Limits
from streamer.server.metrics import Metrics
from streamer.server.settings import Settings
from streamer.server.stream import Stream
from streamer.server.subscriber import Subscriber

_TURNS = 16  # in which the stats are told, so that thousands are not told at one time
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Watched(Protocol):
    """A stream, as who watches it knows it."""

    @property
    def who(self) -> dict[str, object]:
        """The fields of every event of this stream."""

    def welcome(self, role: wire.Role, output: wire.OutputFormat) -> wire.Welcome:
        """What a client must know before its first frame."""

    def now(self) -> float:
        """The clock of its frames' emission, which a client asks for."""

    def join(self, subscriber: Subscriber) -> None:
        """Adds a subscriber, who begins with the next block."""

    def leave(self, subscriber: Subscriber) -> None:
        """Forgets a subscriber; one that is not there is no mistake."""

    def stats(self, subscriber: Subscriber) -> wire.Stats:
        """The stream's and the subscriber's counts since their start."""


class House(ABC):
    """One server's streams and guests.

    Args:
        settings: bounds. metrics: where it counts. clock: monotonic seconds.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.metrics = metrics
        self.clock = clock
        self.is_accepting = False
        self.limits = Limits(
            settings.max_per_address, settings.connects_per_minute, settings.bytes_per_s, clock
        )
        self._idle = asyncio.Event()
        self._idle.set()
        self._turns: list[dict[Subscriber, Watched]] = [{} for _ in range(_TURNS)]
        self._turn = 0

    # ---- what a hello asks for ----

    @abstractmethod
    def check_output(self, output: wire.OutputFormat) -> None:
        """Raises ``bad_option`` where there are no frames of a kind."""

    @abstractmethod
    async def watch(self, name: str, hello: wire.Hello) -> Watched:
        """The stream that a watcher's hello names; raises what the watcher is refused for."""

    @abstractmethod
    def speak(self, name: str, hello: wire.Hello) -> Stream:
        """The stream that a speaker's hello opens, or goes on with; raises what it is refused for."""

    # ---- who is there ----

    def knock(self, address: str) -> float:
        """How many seconds a new connection waits for its handshake; raises ``at_capacity`` to refuse it."""
        self.limits.knock(address)
        return self.limits.turn(self.fullness)

    @contextlib.contextmanager
    def taking_part(self, address: str, guest: Guest) -> Iterator[None]:
        """Held by every connection that has a place in a stream, until it is closed."""
        try:
            with self.limits.held(address, guest):
                self._update_idle()
                yield
        finally:
            self._update_idle()

    @contextlib.contextmanager
    def reporting(self, stream: Watched, subscriber: Subscriber) -> Iterator[None]:
        """Held by every connection that is told the stats, first after an interval of theirs."""
        turn = self._turns[self._turn]
        turn[subscriber] = stream
        try:
            yield
        finally:
            del turn[subscriber]

    async def report(self) -> None:
        """Tells the stats, unless a client is behind already, until it is cancelled."""
        while True:
            await asyncio.sleep(self.settings.stats_interval_s / _TURNS)
            self._turn = (self._turn + 1) % _TURNS
            for subscriber, stream in list(self._turns[self._turn].items()):
                if not subscriber.is_crowded:
                    subscriber.tell(stream.stats(subscriber))

    async def idle(self) -> None:
        """Waits until no stream is open and no connection takes part in one."""
        await self._idle.wait()

    async def drain(self) -> None:
        """Takes no new streams, ends the open ones and waits until every connection was told and closed."""
        self.is_accepting = False
        self.end_all(FaceError("shutting_down", "The server is stopping."))
        await self.idle()

    @abstractmethod
    def end_all(self, farewell: FaceError) -> None:
        """Ends every stream; its subscribers are told why, after the last frames."""

    @abstractmethod
    def abandon(self) -> None:
        """Stops the streams where they are."""

    @property
    @abstractmethod
    def fullness(self) -> float:
        """How much of what it can hold is taken, from 0 to 1."""

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether a stream is open."""

    def _update_idle(self) -> None:
        if self.is_busy or self.limits.connections:
            self._idle.clear()
        else:
            self._idle.set()


def check_name(name: str) -> None:
    """Raises ``bad_stream_name`` unless the name is 1 to 64 letters, digits, '.', '_' or '-'."""
    if not _NAME.fullmatch(name):
        raise FaceError("bad_stream_name", f"{name[:80]!r} is no name for a stream.")
