"""A server that speaks nothing itself: it watches streams of another one, once each, and serves many.

::

    upstream server → one connection for each stream and format → every watcher's outbox

Relays stack, so that fan-out is a tree. Messages are passed on as they came, byte for byte: nothing is
decoded but their kind, and nothing is encoded. Rules:

1. A stream is watched upstream while somebody watches it here, once for each format that is asked for; the
   last one to leave ends it.
2. A slow watcher loses its own oldest frames (its outbox). A slow relay loses those of its own watchers:
   what is older than ``_STALE_S`` when it is read is not passed on, so that a relay that cannot write to all
   of its watchers in time shows them a face with gaps, not one that lags further and further.
3. An upstream connection that is lost is made anew. Where the same session answers, those who watch see a gap
   in ``seq`` at most; another session, or none for ``_PATIENCE_S``, ends it for them, and they come back by
   themselves.
4. Time is the upstream's, stream by stream, as a balancer may stand before many servers: a question for the
   clock is answered on the clock of the frames' ``emit_time_s``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import struct
import time
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from streamer.contract import wire
from streamer.contract.errors import CODES, FaceError
from streamer.server.far_clock import FarClock
from streamer.server.house import House
from streamer.server.metrics import Metrics
from streamer.server.settings import Settings
from streamer.server.stream import Stream
from streamer.server.subscriber import Media, Subscriber, show_all

log = logging.getLogger(__name__)

_PATIENCE_S, _PAUSE_S = 10.0, 0.25
_ANSWER_S = 10.0  # for a welcome
_CLOCK_EVERY_S = 10.0
_STALE_S = 1.0
_TOLD_EVERY_S = 10.0  # that frames are late
_COUNT = struct.Struct("<I")  # of frames, at 16 in a frames message
_EMITTED = struct.Struct("<d")  # at 32 there

Key = tuple[str, wire.OutputFormat, bool]


class Relay(House):
    """Streams of an upstream server.

    Args:
        upstream: its address, ``ws://host:port`` or ``wss://…``. token: for it, or None.
        settings: bounds. metrics: where it counts. tasks: where upstream connections run.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        upstream: str,
        token: str | None,
        settings: Settings,
        metrics: Metrics,
        tasks: asyncio.TaskGroup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, metrics, clock)
        self._upstream = upstream.rstrip("/")
        self._token = token
        self._tasks = tasks
        self._streams: dict[Key, Relayed] = {}
        self.is_accepting = True
        metrics.capacity.set(0)
        metrics.frames_dropped.labels("slow_relay")

    async def watch(self, name: str, hello: wire.Hello) -> Relayed:
        """The upstream's stream of a name, in the hello's format; raises what the upstream says."""
        if not self.is_accepting:
            raise FaceError("shutting_down", "The relay takes no new watchers.")
        key = (name, hello.output, hello.audio_passthrough)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = Relayed(key, self)
            task = self._tasks.create_task(stream.run(), name=f"relay {name}")
            stream.task = task
            task.add_done_callback(lambda _: self.forget(stream))
            self._update_idle()
        await stream.answered()  # its caller joins before anything else happens
        return stream

    def speak(self, name: str, hello: wire.Hello) -> Stream:
        """Nobody speaks to a relay."""
        raise FaceError("not_allowed", "This is a relay, for watching.", f"Speak to {self._upstream}.")

    def check_output(self, output: wire.OutputFormat) -> None:
        """The upstream knows what frames it has, and says so."""

    def end_all(self, farewell: FaceError) -> None:
        """Ends every stream."""
        for stream in list(self._streams.values()):
            stream.end(farewell)

    def abandon(self) -> None:
        """Stops the streams where they are."""
        for stream in list(self._streams.values()):
            stream.task.cancel()

    @property
    def fullness(self) -> float:
        """A relay has no places that could be taken."""
        return 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a stream is watched."""
        return bool(self._streams)

    # ---- for its streams ----

    def open(self, name: str) -> Any:
        """A connection to the upstream's stream of a name, to be entered."""
        return connect(
            f"{self._upstream}/v1/streams/{name}",
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            compression=None,
            max_size=wire.MAX_MESSAGE_BYTES,
            ping_timeout=None,
        )

    def hello(self, output: wire.OutputFormat, passthrough: bool) -> str:
        """What is said to the upstream."""
        hello = wire.Hello(
            wire.VERSION, "watch", token=self._token, output=output, audio_passthrough=passthrough
        )
        return wire.encode_message(hello)

    def forget(self, stream: Relayed) -> None:
        """The stream is over, or watched by nobody."""
        if self._streams.get(stream.key) is stream:
            del self._streams[stream.key]
        self._update_idle()


class Relayed:
    """One stream of the upstream in one format; ``run`` is its task.

    Args:
        key: the stream's name, the format, and whether its audio comes too. relay: its house.
    """

    task: asyncio.Task[None]

    def __init__(self, key: Key, relay: Relay) -> None:
        self.key = key
        self._relay = relay
        self._name, self._output, self._passthrough = key
        self._subscribers: dict[Subscriber, None] = {}
        self._far = FarClock(relay.clock)
        self._is_late = False
        self._told_late = -math.inf
        self._welcome: wire.Welcome | None = None
        self._stats = wire.Stats(0, 0, 0, 0.0)
        self._failure: FaceError | None = None
        self._answered = asyncio.Event()
        self._is_over = False
        self._waiting = 0  # who has not joined yet

    @property
    def who(self) -> dict[str, object]:
        """The fields of every event of this stream."""
        session = self._welcome.session if self._welcome else None
        return {"stream": self._name, "session": session}

    async def answered(self) -> None:
        """Waits for the upstream's welcome; raises what it said instead."""
        self._waiting += 1
        try:
            await self._answered.wait()
        except asyncio.CancelledError:
            if self._waiting == 1 and not self._subscribers:
                self._stop()
            raise
        finally:
            self._waiting -= 1
        if self._failure is not None:
            raise self._failure

    def welcome(self, role: wire.Role, output: wire.OutputFormat) -> wire.Welcome:
        """The upstream's welcome, at this instant."""
        assert self._welcome is not None
        return msgspec.structs.replace(self._welcome, server_time_s=self.now())

    def now(self) -> float:
        """The upstream's clock."""
        return self._far.now()

    def join(self, subscriber: Subscriber) -> None:
        """Adds a subscriber, who begins with the next block."""
        self._subscribers[subscriber] = None
        if self._is_over:  # between its welcome and now
            subscriber.finish(self._failure)

    def leave(self, subscriber: Subscriber) -> None:
        """Forgets a subscriber; the last one ends the stream (rule 1)."""
        self._subscribers.pop(subscriber, None)
        if not self._subscribers and not self._waiting:
            self._stop()

    def stats(self, subscriber: Subscriber) -> wire.Stats:
        """The upstream's counts of the stream, and ours of the subscriber."""
        return msgspec.structs.replace(self._stats, dropped_frames=subscriber.dropped_frames)

    def end(self, farewell: FaceError | None) -> None:
        """Nothing follows for those who watch."""
        self._is_over, self._failure = True, farewell
        self._answered.set()
        for subscriber in self._subscribers:
            subscriber.finish(farewell)
        self.task.cancel()

    # ---- the task ----

    async def run(self) -> None:
        """Watches upstream until the stream is over; never raises."""
        farewell: FaceError | None = None
        try:
            while await self._watch_until_lost():
                pass
        except FaceError as error:
            farewell = error
        except Exception as error:
            log.exception("relaying failed", extra=self.who)
            farewell = FaceError("internal", f"The relay failed: {type(error).__name__}.")
        self._is_over, self._failure = True, farewell
        self._answered.set()
        for subscriber in self._subscribers:
            subscriber.finish(farewell)

    async def _watch_until_lost(self) -> bool:
        """One connection; whether another should follow. Raises what the upstream ended the stream with."""
        given_up = self._relay.clock() + _PATIENCE_S
        while True:
            try:
                async with self._relay.open(self._name) as socket:
                    await self._greet(socket)
                    return await self._read(socket)
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
                if self._relay.clock() > given_up:
                    raise FaceError(
                        "engine_away", f"The relay's upstream does not answer: {type(error).__name__}."
                    ) from None
                log.info("upstream away", extra=self.who | {"reason": type(error).__name__})
                await asyncio.sleep(_PAUSE_S)

    async def _greet(self, socket: Any) -> None:
        asked = self._relay.clock()
        async with asyncio.timeout(_ANSWER_S):
            await socket.send(self._relay.hello(self._output, self._passthrough))
            answer = wire.decode_server_message(await socket.recv())
        if isinstance(answer, wire.ErrorMessage):
            raise _error_of(answer)
        assert isinstance(answer, wire.Welcome)
        self._far = FarClock(self._relay.clock)  # another server may answer this time
        self._far.heard(asked, answer.server_time_s)
        if self._welcome is not None and answer.session != self._welcome.session:
            raise FaceError("shutting_down", "The stream was begun anew.", "Connect again.")
        self._welcome = answer
        self._answered.set()
        log.info("stream relayed", extra=self.who)

    async def _read(self, socket: Any) -> bool:
        asked = self._relay.clock()
        async for message in socket:
            if isinstance(message, bytes):
                await self._pass_on(message)
                if (now := self._relay.clock()) - asked > _CLOCK_EVERY_S:
                    asked = now
                    await socket.send(wire.encode_message(wire.ClockRequest(now)))
                continue
            event = wire.decode_server_message(message)
            match event:
                case wire.ErrorMessage():
                    raise _error_of(event)
                case wire.Stats():
                    self._stats = event
                case wire.ClockReply():
                    self._far.heard(event.client_time_s, event.server_time_s)
                case wire.Ended():
                    self._tell(event)
                    return False
                case _:
                    self._tell(event)
        return True  # closed without a word: lost

    async def _pass_on(self, message: bytes) -> None:
        frames = 0
        if message[0] == wire.FRAMES:
            frames = _COUNT.unpack_from(message, 16)[0]
            age_s = self._far.age_s(_EMITTED.unpack_from(message, 32)[0])
            self._is_late = age_s > _STALE_S
            if self._is_late and (now := self._relay.clock()) - self._told_late > _TOLD_EVERY_S:
                self._told_late = now
                log.warning("frames are late", extra=self.who | {"late_s": round(age_s, 2)})
        if not self._is_late:
            self._relay.metrics.frames.inc(frames)
            await show_all(Media(message, frames), self._subscribers)
        elif frames:  # audio goes with the frames that it came with, uncounted
            self._relay.metrics.frames_dropped.labels("slow_relay").inc(frames * len(self._subscribers))
            for subscriber in self._subscribers:
                subscriber.dropped_frames += frames

    def _stop(self) -> None:
        self._relay.forget(self)
        self.task.cancel()

    def _tell(self, event: wire.ServerMessage) -> None:
        for subscriber in self._subscribers:
            subscriber.tell(event)


def _error_of(message: wire.ErrorMessage) -> FaceError:
    code = message.code if message.code in CODES else "internal"
    return FaceError(code, message.message, message.hint)
