"""One WebSocket, from its hello to its farewell.

::

    accepted → hello → welcome → reading and writing → farewell → closed

After the welcome two tasks share the socket: this one reads what the client says, a second one sends what
lies in its ``Subscriber``, and the house adds the stats. Rules:

1. After the welcome everything is sent through the ``Subscriber`` and the writing task closes, so that an
   error is told after all that came before it.
2. What a client does wrong ends its own connection. A speaker's stream then ends as if it had said ``end``:
   audio received before is animated, and watchers get those frames. So it does when the speaker closes; one
   whose connection is lost may come back (``Seat``).
3. After the farewell was decided, what the client still says is read and ignored, so that its closing
   handshake is seen.
"""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.core.outbox import Outbox
from streamer.server.house import House, Watched, check_name
from streamer.server.limits import Guest
from streamer.server.sockets import FaceConnection
from streamer.server.stream import Stream
from streamer.server.subscriber import Subscriber

log = logging.getLogger(__name__)

STREAMS_PATH = "/v1/streams/"


async def converse(socket: FaceConnection, house: House) -> None:
    """Serves one connection until it is closed; raises nothing.

    Args:
        socket: accepted, nothing read yet. house: the streams.
    """
    peer = _peer(socket)
    try:
        try:
            connection = await _greet(socket, house, peer.rpartition(":")[0])
        except FaceError as error:
            log.info("client refused", extra={"peer": peer, "code": error.code, "reason": error.message})
            house.metrics.errors.labels(error.code).inc()
            await _refuse(socket, error, house.settings.close_timeout_s)
        else:
            with house.taking_part(connection.address, connection.guest):
                await connection.run()
    except ConnectionClosed:
        pass
    except Exception:
        log.exception("connection failed", extra={"peer": peer})
        failure = FaceError("internal", "The connection failed.")
        await _refuse(socket, failure, house.settings.close_timeout_s)


def _peer(socket: FaceConnection) -> str:
    """Address and port."""
    peer = socket.remote_address
    return f"{peer[0]}:{peer[1]}" if peer else ":"


async def _greet(socket: FaceConnection, house: House, address: str) -> Connection:
    """Reads the hello and takes a place in a stream; raises what the client is refused for."""
    assert socket.request is not None
    headers = socket.request.headers
    name = urlsplit(socket.request.path).path.removeprefix(STREAMS_PATH)
    check_name(name)
    if socket.subprotocol is None and "Sec-WebSocket-Protocol" in headers:
        raise FaceError("unsupported_version", "None of the subprotocols offered is spoken here.")
    hello = await _read_hello(socket, house.settings.hello_timeout_s)
    guest = house.settings.doors.admit(hello.token, hello.role, name, headers.get("Origin"))
    house.limits.check(address, guest)
    if hello.role != "publish":
        house.check_output(hello.output)

    settings = house.settings
    stream: Watched
    if hello.role == "watch":
        stream = await house.watch(name, hello)
        outbox = Outbox(settings.watcher_messages, settings.watcher_bytes)
    else:
        stream = house.speak(name, hello)
        outbox = Outbox(settings.speaker_messages, settings.speaker_bytes)
    is_shown = hello.role != "publish"
    subscriber = Subscriber(
        outbox,
        hello.output if is_shown else None,
        is_shown and hello.audio_passthrough,
        socket.write,
        house.metrics,
    )
    subscriber.tell(stream.welcome(hello.role, hello.output))
    stream.join(subscriber)
    if isinstance(stream, Stream) and hello.role != "watch":
        stream.seat.take(subscriber)
    return Connection(socket, house, hello, stream, subscriber, address, guest)


async def _read_hello(socket: FaceConnection, timeout_s: float) -> wire.Hello:
    try:
        async with asyncio.timeout(timeout_s):
            message = await socket.recv()
    except TimeoutError:
        raise FaceError("hello_timeout", f"No hello came within {timeout_s:g} seconds.") from None
    if isinstance(message, bytes):
        raise FaceError("hello_expected", "The first message is audio.")
    hello = wire.decode_client_message(message)
    if not isinstance(hello, wire.Hello):
        raise FaceError("hello_expected", "The first message is no hello.")
    return hello


async def _refuse(socket: FaceConnection, error: FaceError, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await socket.send(wire.encode_message(wire.ErrorMessage(error.code, error.message, error.hint)))
            await socket.close(error.close_code, error.code)
    except ConnectionClosed:
        pass
    except TimeoutError:
        socket.transport.abort()


class Connection:
    """A welcomed client.

    Args:
        socket: its WebSocket. house: the streams. hello: what it chose. stream: where it takes part.
        subscriber: its end of the stream. address: where it comes from. guest: whose token it has.
    """

    def __init__(
        self,
        socket: FaceConnection,
        house: House,
        hello: wire.Hello,
        stream: Watched,
        subscriber: Subscriber,
        address: str,
        guest: Guest,
    ) -> None:
        self.address = address
        self.guest = guest
        self._socket = socket
        self._house = house
        self._hello = hello
        self._watched = stream
        self._spoken = stream if isinstance(stream, Stream) and hello.role != "watch" else None
        self._subscriber = subscriber
        self._who = {"peer": _peer(socket)} | stream.who

    async def run(self) -> None:
        """Reads and writes until the connection is closed."""
        watchers = self._house.metrics.watchers
        watchers.inc(self._subscriber.output is not None)
        log.info("client joined", extra=self._who | {"role": self._hello.role, "guest": self.guest.name})
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                with self._house.reporting(self._watched, self._subscriber):
                    await self._read()
        finally:
            self._leave()
            watchers.dec(self._subscriber.output is not None)
            log.info("client left", extra=self._who | {"close_code": self._socket.close_code})

    def _leave(self, grace_s: float = 0.0) -> None:
        self._watched.leave(self._subscriber)
        if self._spoken is not None:
            self._spoken.seat.leave(self._subscriber, grace_s)

    # ---- reading ----

    async def _read(self) -> None:
        try:
            while True:
                message = await self._socket.recv()
                if wait_s := self._house.limits.pay(self.address, len(message)):
                    await asyncio.sleep(wait_s)  # unread, so that TCP slows the sender
                if self._subscriber.finished.is_set():
                    continue
                try:
                    await self._obey(message)
                except FaceError as error:
                    why = {"code": error.code, "reason": error.message}
                    log.info("client failed", extra=self._who | why)
                    self._subscriber.finish(error)
                    self._leave()
        except ConnectionClosed as closed:
            is_lost = closed.rcvd is None and closed.sent is None
            if is_lost:
                log.info("client lost", extra=self._who)
            self._leave(self._house.settings.resume_s if is_lost else 0.0)
            self._subscriber.finish()

    async def _obey(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self._hear(message)
            return
        command = wire.decode_client_message(message)
        await self._subscriber.room()
        if self._subscriber.finished.is_set():
            return
        match command:
            case wire.ClockRequest():
                self._subscriber.tell(wire.ClockReply(command.client_time_s, self._watched.now()))
            case wire.Hello():
                raise FaceError("bad_message", "A second hello came.")
            case _ if self._spoken is None:
                raise FaceError("not_allowed", "A watcher may not do this.")
            case wire.SetStyle():
                self._spoken.set_style(command.style)
            case wire.Interrupt():
                await self._spoken.interrupt()
            case wire.End():
                self._spoken.end()

    async def _hear(self, message: bytes) -> None:
        if self._spoken is None:
            raise FaceError("not_allowed", "A watcher may not send audio.")
        assert self._hello.audio is not None
        samples = wire.decode_audio(message, self._hello.audio)
        await self._spoken.room()
        if not self._subscriber.finished.is_set():
            self._spoken.hear(samples)

    # ---- writing ----

    async def _write(self) -> None:
        settings, subscriber = self._house.settings, self._subscriber
        try:
            while (message := await subscriber.next()) is not None:
                async with asyncio.timeout(settings.stall_timeout_s):
                    await self._socket.send(message)
            farewell = subscriber.farewell
            async with asyncio.timeout(settings.close_timeout_s):
                if farewell is None:
                    await self._socket.close()
                else:
                    await self._socket.close(farewell.close_code, farewell.code)
        except ConnectionClosed:
            pass
        except TimeoutError:
            log.info("client cut off", extra=self._who | {"reason": "it reads nothing"})
            self._socket.transport.abort()
