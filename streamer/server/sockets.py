"""How the port is opened: websockets' server, told what this protocol wants of it.

Compression is off (frames do not shrink, and it costs time), Nagle's algorithm too. A socket takes little
more than it can send, so that for a slow reader frames wait in the outbox, where old ones can be dropped, and
not in the system's buffers, where they cannot.

Whether a peer is still there is asked of TCP, not of WebSocket's pings: the answer to a ping waits behind all
the audio that a fast speaker has sent and that is not yet read. Pings are sent all the same, for the proxies
between.

A stranger is given little: ``hello_timeout_s`` for its request and as much again for its hello, and of those
who say nothing the oldest is cut off where there are too many (``streamer.server.strangers``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.server.http import Site
from streamer.server.limits import RETRY_S
from streamer.server.settings import Settings
from streamer.server.strangers import Strangers, most

_UNSENT_BYTES = 64 << 10
_OPEN_TIMEOUT_S = 60.0  # a page's file may take as long on a slow network; a request may not
_READ_AT_ONCE = 4  # files of the page: they are read faster than they can be counted
_PENANCE_S, _MOST_PENITENTS = 1.0, 256  # how long a refusal takes, for how many at one time
# A peer that is gone is noticed within a minute.
_TCP_OPTIONS = {
    "TCP_NODELAY": 1,
    "TCP_NOTSENT_LOWAT": _UNSENT_BYTES,
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 50_000,
}
# What websockets itself refuses, by the number that it closes with.
_EXPLANATIONS = {
    CloseCode.MESSAGE_TOO_BIG: ("message_too_big", "A message is longer than 1 MiB."),
    CloseCode.INVALID_DATA: ("bad_json", "A text message is not UTF-8."),
}


class FaceConnection(ServerConnection):
    """A connection that is a stranger's until it is answered.

    websockets' own refusals are preceded by a named error.

    Args:
        strangers: where it is counted. request_timeout_s: how long its request may take.
    """

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        strangers: Strangers,
        request_timeout_s: float,
        **options: Any,
    ) -> None:
        super().__init__(protocol, server, **options)
        self._strangers = strangers
        self._request_timeout_s = request_timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._peer: Any = None
        self._fail = protocol.fail
        protocol.fail = self._explain_and_fail  # type: ignore[method-assign]

    @property
    def remote_address(self) -> Any:
        """The peer's, (host, port, …) or None: as it was at first, for one that is gone has none any more."""
        return self._peer

    def owes(self, holds_bytes: int = 0) -> None:
        """It is awaited: its request, its hello, or that it reads what it asked for."""
        if self.protocol.state is not State.CLOSED:
            self._strangers.enter(self, self.transport.abort, holds_bytes)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102 - asyncio's
        super().connection_made(transport)
        with contextlib.suppress(OSError):  # it is gone already
            self._peer = transport.get_extra_info("peername")
        self.owes()
        self._deadline = self.loop.call_later(self._request_timeout_s, self.transport.abort)

    def data_received(self, data: bytes) -> None:  # noqa: D102 - asyncio's
        self._strangers.hold(self, len(data))
        super().data_received(data)

    def process_event(self, event: Event) -> None:  # noqa: D102 - websockets'
        if self.request is None:
            self._is_known()
        super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102 - asyncio's
        self._is_known()
        super().connection_lost(exc)
        if self.response is not None:
            self.response.body = b""  # a file; connections themselves wait for Python's collector

    def write(self, framed: bytes) -> bool:
        """Writes a whole WebSocket frame, unless something waits or the connection closes; whether it did."""
        if self.protocol.state is not State.OPEN or self.transport.get_write_buffer_size():
            return False
        self.transport.write(framed)
        return True

    async def send(self, message: Any, **options: Any) -> None:
        """Sends a message; who is sent one, a welcome or an error, is no stranger."""
        self._strangers.leave(self)
        await super().send(message, **options)

    def _is_known(self) -> None:
        self._strangers.leave(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _explain_and_fail(self, code: CloseCode | int, reason: str = "") -> None:
        explanation = _EXPLANATIONS.get(CloseCode(code))
        if explanation is None or self.protocol.state is not State.OPEN:
            return self._fail(code, reason)
        error = FaceError(*explanation)
        message = wire.ErrorMessage(error.code, error.message, error.hint)
        self.protocol.send_text(wire.encode_message(message).encode())
        return self._fail(code, error.code)


def tls(settings: Settings) -> ssl.SSLContext | None:
    """The certificate's context, None where there is none; ``load`` puts a renewed one into it.

    Raises:
        FaceError: ``bad_config``.
    """
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, settings)
    return context


def load(context: ssl.SSLContext, settings: Settings) -> None:
    """Reads the certificate and its key again; connections that are open keep the old one."""
    assert settings.certificate is not None
    try:
        context.load_cert_chain(settings.certificate, settings.private_key)
    except (OSError, ssl.SSLError) as error:
        raise FaceError(
            "bad_config",
            f"The certificate {settings.certificate} and its key cannot be used: {error.strerror or error}.",
            "Both are PEM files; without --private-key the certificate's file holds the key too.",
        ) from None


async def listen(
    converse: Callable[[FaceConnection], Awaitable[None]],
    knock: Callable[[str], float],
    site: Site,
    settings: Settings,
    context: ssl.SSLContext | None = None,
) -> Server:
    """Opens the port for WebSockets and HTTP.

    Args:
        converse: serves one WebSocket.
        knock: how many seconds an address waits for its handshake; raises what it is refused for.
        site: answers HTTP. settings: bounds, and host and port, or the channel that brings connections.
        context: for TLS, as ``tls`` makes it.

    Raises:
        FaceError: ``port_in_use``, or ``bad_config`` where the address is none of this machine's.
    """

    async def handle(connection: ServerConnection) -> None:
        assert isinstance(connection, FaceConnection)
        _tune(connection)
        connection.owes()
        await converse(connection)

    waiting = 0

    async def penance() -> None:
        # Who is refused at once comes back at once; a few hundred may be kept waiting.
        nonlocal waiting
        if waiting >= _MOST_PENITENTS:
            return
        waiting += 1
        try:
            await asyncio.sleep(_PENANCE_S)
        finally:
            waiting -= 1

    async def wait_for_turn(connection: FaceConnection) -> Response | None:
        peer = connection.remote_address
        try:
            await asyncio.sleep(knock(peer[0] if peer else ""))
        except FaceError as error:
            await penance()
            response = connection.respond(HTTPStatus.TOO_MANY_REQUESTS, f"{error.message} {error.hint}\n")
            response.headers["Retry-After"] = str(RETRY_S)
            connection.owes()
            return response
        return None

    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        response = await answer(connection, request)
        if connection.protocol.eof_sent:  # the peer closed or broke a rule meanwhile: nothing can be answered
            connection.transport.abort()
            await connection.wait_closed()
        if response is not None and connection.protocol.state is State.CLOSED:
            response.body = b""  # nobody will take it
        return response

    reading = asyncio.Semaphore(_READ_AT_ONCE)

    async def answer(connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, FaceConnection)
        is_websocket = any(one.lower() == "websocket" for one in request.headers.get_all("Upgrade"))
        if is_websocket and request.path.startswith("/v1/streams/"):
            return await wait_for_turn(connection)
        connection.close_timeout = _OPEN_TIMEOUT_S
        connection.owes()
        async with reading:
            response = await site.respond(request)
            connection.owes(2 * len(response.body))  # as it is, and as it is written
        return response

    logger = logging.getLogger("streamer.websockets")
    create_connection: Any = partial(
        FaceConnection, strangers=Strangers(most()), request_timeout_s=settings.hello_timeout_s
    )
    of_tls: dict[str, Any] = {} if context is None else {"ssl_handshake_timeout": settings.hello_timeout_s}
    # What websockets would log are mistakes of clients; what matters is logged here by name.
    logger.setLevel(logging.CRITICAL)
    of_connection: dict[str, Any] = {
        "close_timeout": settings.close_timeout_s,
        "ping_timeout": None,
        "write_limit": _UNSENT_BYTES,
    }
    place: dict[str, Any] = {"host": settings.host, "port": settings.port}
    if settings.channel is not None:
        place = {"sock": settings.channel.unreachable}  # others accept
    try:
        server = await serve(
            handle,
            ssl=context,
            select_subprotocol=_select_subprotocol,
            compression=None,
            process_request=process_request,
            server_header=None,
            open_timeout=_OPEN_TIMEOUT_S,
            max_size=wire.MAX_MESSAGE_BYTES,
            logger=logger,
            create_connection=create_connection,
            **place,
            **of_connection,
            **of_tls,
        )
    except OSError as error:
        raise unusable(settings, error) from None

    adopting: set[asyncio.Task[Any]] = set()

    def adopt(link: socket.socket) -> None:
        protocol = ServerProtocol(
            select_subprotocol=_select_subprotocol, max_size=wire.MAX_MESSAGE_BYTES, logger=logger
        )
        connection = create_connection(protocol, server, **of_connection)
        link.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: connection, link))
        adopting.add(task)
        task.add_done_callback(adopting.discard)

    if settings.channel is not None:
        settings.channel.follow(adopt)
    return server


def unusable(settings: Settings, error: OSError) -> FaceError:
    """Why nothing can listen where the settings say."""
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        reason = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by this user"
        return FaceError("port_in_use", f"The port {settings.port} of {settings.host} {reason}.")
    return FaceError(
        "bad_config",
        f"Nothing can listen on {settings.host}:{settings.port}: {error.strerror or error}.",
        "Choose another with --host.",
    )


def _select_subprotocol(_: object, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    ours = Subprotocol(wire.SUBPROTOCOL)
    return ours if ours in offered else None


def _tune(connection: ServerConnection) -> None:
    raw: socket.socket | None = connection.transport.get_extra_info("socket")
    if raw is None:
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        if hasattr(socket, name):  # each system has its own choice of them
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
