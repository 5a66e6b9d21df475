"""One connection's end of a stream: its outbox, and a way to wait for it.

Everything that a client is sent goes through here, in order, and one task empties it. State: the outbox, the
number of frames in each media message that waits there, and how the connection ends. Rules:

1. Nothing blocks whoever puts something in; a full outbox drops its oldest media.
2. ``finish`` is said once (later calls change nothing): what waits is still sent, then ``next`` returns None,
   and ``farewell`` says how to close.
"""

from __future__ import annotations

import asyncio
from collections import deque

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.core.outbox import Outbox
from streamer.server.metrics import Metrics

_CROWDED = 512  # control messages are never dropped, so whoever causes them must wait beyond this


class Subscriber:
    """What waits to be sent to one client.

    Args:
        outbox: an empty one, with its bounds.
        output: the frames that the client wants, None for none.
        audio_passthrough: whether it wants the speaker's audio.
        metrics: where dropped frames and errors are counted.
    """

    def __init__(
        self, outbox: Outbox, output: wire.OutputFormat | None, audio_passthrough: bool, metrics: Metrics
    ) -> None:
        self.output = output
        self.audio_passthrough = audio_passthrough
        self.dropped_frames = 0
        self.farewell: FaceError | None = None
        self.finished = asyncio.Event()
        self._outbox = outbox
        self._waiting_frames: deque[int] = deque()
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self._metrics = metrics

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits that only what must be said should be added."""
        return len(self._outbox) - len(self._waiting_frames) >= _CROWDED

    async def room(self) -> None:
        """Waits while it is crowded."""
        while self.is_crowded and not self.finished.is_set():
            self._taken.clear()
            await self._taken.wait()

    def tell(self, message: wire.ServerMessage) -> None:
        """Adds a control message."""
        if not self.finished.is_set():
            self._outbox.put_control(wire.encode_message(message))
            self._arrived.set()

    def show(self, message: bytes, frames: int) -> None:
        """Adds a media message that holds ``frames`` frames, 0 for audio."""
        if self.finished.is_set():
            return
        self._waiting_frames.append(frames)
        for _ in range(self._outbox.put_media(message)):
            lost = self._waiting_frames.popleft()
            self.dropped_frames += lost
            self._metrics.frames_dropped.labels("slow_watcher").inc(lost)
        self._arrived.set()

    def finish(self, error: FaceError | None = None) -> None:
        """Nothing follows what waits; an error is told last."""
        if self.finished.is_set():
            return
        if error is not None:
            self._metrics.errors.labels(error.code).inc()
            self.tell(wire.ErrorMessage(error.code, error.message, error.hint))
        self.farewell = error
        self.finished.set()
        self._arrived.set()
        self._taken.set()

    async def next(self) -> bytes | str | None:
        """Waits for the next message; None when all was taken and nothing follows."""
        while not self._outbox:
            if self.finished.is_set():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._outbox.take()
        if isinstance(message, bytes):
            self._waiting_frames.popleft()
        self._taken.set()
        return message
