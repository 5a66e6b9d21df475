"""One connection's end of a stream: its outbox, and a way to wait for it.

Everything that a client is sent goes through here, in order. State: the outbox, the number of frames in each
media message that waits there, and how the connection ends. Rules:

1. Nothing blocks whoever puts something in; a full outbox drops its oldest media.
2. Where nothing waits, neither here nor in the socket, a message is written at once, as bytes that are the
   same for everybody: with thousands of watchers a task that wakes up for each would cost most. A task
   empties the outbox of who is behind.
3. ``finish`` is said once (later calls change nothing): what waits is still sent, then ``next`` returns None,
   and ``farewell`` says how to close.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from websockets.frames import Frame, Opcode

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.core.outbox import Outbox
from streamer.server.metrics import Metrics

_AT_ONCE = 256  # subscribers that are served before the loop's other work has its turn
_CROWDED = 512  # control messages are never dropped, so whoever causes them must wait beyond this


class Media:
    """A media message for many.

    Args:
        message: its bytes. frames: how many it holds, 0 for audio.
    """

    __slots__ = ("frames", "message", "written")

    def __init__(self, message: bytes, frames: int) -> None:
        self.message = message
        self.frames = frames
        self.written = Frame(Opcode.BINARY, message).serialize(mask=False)


class Subscriber:
    """What waits to be sent to one client.

    Args:
        outbox: an empty one, with its bounds.
        output: the frames that the client wants, None for none.
        audio_passthrough: whether it wants the speaker's audio.
        write: writes a whole WebSocket frame, unless something waits in the socket; whether it did.
        metrics: where dropped frames and errors are counted.
    """

    def __init__(
        self,
        outbox: Outbox,
        output: wire.OutputFormat | None,
        audio_passthrough: bool,
        write: Callable[[bytes], bool],
        metrics: Metrics,
    ) -> None:
        self.output = output
        self.audio_passthrough = audio_passthrough
        self.dropped_frames = 0
        self.farewell: FaceError | None = None
        self.finished = asyncio.Event()
        self._outbox = outbox
        self._write = write
        self._is_at_rest = False  # nothing waits and nothing is being sent
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
        if self.finished.is_set():
            return
        text = wire.encode_message(message)
        if self._is_at_rest and self._write(Frame(Opcode.TEXT, text.encode()).serialize(mask=False)):
            return
        self._outbox.put_control(text)
        self._wake()

    def show(self, media: Media) -> None:
        """Adds a media message."""
        if (self._is_at_rest and self._write(media.written)) or self.finished.is_set():
            return
        self._waiting_frames.append(media.frames)
        for _ in range(self._outbox.put_media(media.message)):
            lost = self._waiting_frames.popleft()
            self.dropped_frames += lost
            self._metrics.frames_dropped.labels("slow_watcher").inc(lost)
        self._wake()

    def finish(self, error: FaceError | None = None) -> None:
        """Nothing follows what waits; an error is told last."""
        if self.finished.is_set():
            return
        if error is not None:
            self._metrics.errors.labels(error.code).inc()
            self.tell(wire.ErrorMessage(error.code, error.message, error.hint))
        self.farewell = error
        self.finished.set()
        self._wake()
        self._taken.set()

    async def next(self) -> bytes | str | None:
        """Waits for the next message; None when all was taken and nothing follows."""
        while not self._outbox:
            if self.finished.is_set():
                return None
            self._arrived.clear()
            self._is_at_rest = True
            await self._arrived.wait()
        message = self._outbox.take()
        if isinstance(message, bytes):
            self._waiting_frames.popleft()
        self._taken.set()
        return message

    def _wake(self) -> None:
        self._is_at_rest = False
        self._arrived.set()


async def show_all(media: Media, subscribers: Iterable[Subscriber]) -> None:
    """Adds a media message to each of those who are there now, in order, and lets others run in between."""
    for number, subscriber in enumerate(list(subscribers), 1):
        subscriber.show(media)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
