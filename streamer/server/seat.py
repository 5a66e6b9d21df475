"""Who speaks on a stream: the connection that opened it, or one that came back for it.

A network drops connections that people want to keep. So when a speaker is lost, the stream waits for it with
everything that it has: its watchers, its clock, the numbers of its frames. Rules:

1. One connection at a time holds the seat. Who takes it from another, which is dead and does not know it yet,
   ends that one's connection, not the stream.
2. A seat that was lost is kept for a grace time. Nobody came back: the stream's input is over.
3. Who leaves without holding the seat, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamer.contract.errors import FaceError
from streamer.server.subscriber import Subscriber


class Seat:
    """The speaker's seat of one stream.

    Args:
        on_given_up: called when nobody will speak any more.
    """

    def __init__(self, on_given_up: Callable[[], None]) -> None:
        self._on_given_up = on_given_up
        self._holder: Subscriber | None = None
        self._patience: asyncio.TimerHandle | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it is empty and kept for a speaker who was lost."""
        return self._patience is not None

    def take(self, speaker: Subscriber) -> None:
        """Seats a speaker; one that holds the seat is told ``stream_taken``."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        previous, self._holder = self._holder, speaker
        if previous is not None:
            previous.finish(FaceError("stream_taken", "Another connection has resumed this stream."))

    def leave(self, speaker: Subscriber, grace_s: float = 0.0) -> None:
        """The speaker is gone; the seat is kept for ``grace_s`` seconds."""
        if self._holder is not speaker:
            return
        self._holder = None
        if grace_s > 0:
            self._patience = asyncio.get_running_loop().call_later(grace_s, self.give_up)
        else:
            self.give_up()

    def give_up(self) -> None:
        """Waits for nobody any more."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._on_given_up()
