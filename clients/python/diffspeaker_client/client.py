"""One connection to a DiffSpeaker Live server, as an asynchronous context.

State: an open WebSocket and the server's welcome. ``connect`` says hello and waits for the welcome; the
``Face`` then sends, and yields whatever arrives, decoded, in order. Rules:

1. The server's ``error`` message is raised as the ``FaceError`` that it names, by ``connect`` or by the loop.
2. The loop ends when the server closes normally, which it does after ``ended``; a connection that is lost
   raises ``websockets.ConnectionClosedError``.
3. One task may send while another loops. A loop that is not run fills the socket; the server then drops this
   client's oldest frames and nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy.typing as npt
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConcurrencyError, ConnectionClosed, ConnectionClosedOK
from websockets.typing import Subprotocol

from diffspeaker_client import exchange
from diffspeaker_client.exchange import Event
from streamer.contract import wire
from streamer.contract.wire import AudioFormat, Encoding, OutputFormat


@contextlib.asynccontextmanager
async def connect(
    url: str,
    role: wire.Role = "watch",
    *,
    token: str | None = None,
    audio: AudioFormat | None = None,
    output: OutputFormat | None = None,
    lookahead_ms: float | None = None,
    hop_ms: float | None = None,
    style: Mapping[str, float] | None = None,
    seed: int | None = None,
    audio_passthrough: bool = False,
    paced: bool = False,
    resume: str | None = None,
    **socket_options: Any,
) -> AsyncIterator[Face]:
    """Opens a connection, says hello and waits for the welcome.

    Args:
        url: ``ws://HOST:PORT/v1/streams/<name>``.
        role: ``publish``, ``watch`` or ``converse`` (both on one connection).
        token: the server's token, where it wants one.
        audio: the PCM that will be sent; needed unless the role is ``watch``.
        output: the frames wanted; coefficients as f32 where none is given.
        lookahead_ms: future audio that a frame waits for. hop_ms: how often frames come. Both as the server's
            welcome confirms them.
        style: weights of the bundle's styles. seed: of the model's noise.
        audio_passthrough: also receive the speaker's audio, on the frames' clock.
        paced: receive frames when they are due, however early their audio was sent.
        resume: the ``session`` of an earlier welcome, to speak on where its connection was lost. The new
            welcome's ``session`` says whether that was possible, ``received_samples`` what was heard before.
        socket_options: for ``websockets.asyncio.client.connect``.

    Raises:
        FaceError: what the server refused, and why.
        OSError: nothing listens there.
    """
    hello = exchange.hello_of(
        role,
        token=token,
        audio=audio,
        output=output,
        lookahead_ms=lookahead_ms,
        hop_ms=hop_ms,
        style=style,
        seed=seed,
        audio_passthrough=audio_passthrough,
        paced=paced,
        resume=resume,
    )
    options: dict[str, Any] = {**exchange.SOCKET_OPTIONS, **socket_options}
    with exchange.refused_at_the_door():
        async with open_socket(url, subprotocols=[Subprotocol(wire.SUBPROTOCOL)], **options) as socket:
            try:
                yield await _greet(socket, hello)
            finally:
                await _close(socket)


async def _greet(socket: ClientConnection, hello: wire.Hello) -> Face:
    # A server that refuses before it reads the hello has closed already; what it said is still to come.
    with contextlib.suppress(ConnectionClosed):
        await socket.send(wire.encode_message(hello))
    try:
        first = await socket.recv()
    except ConnectionClosed as closed:
        raise exchange.closed_early(closed) from closed
    return Face(socket, exchange.welcome_in(first), hello.audio)


async def _close(socket: ClientConnection) -> None:
    """Closes, and discards what still comes: behind a full queue the closing handshake would not be seen."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(socket.close())
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):
            while True:
                await socket.recv()


class Face:
    """An open connection; ``connect`` makes it.

    Attributes:
        welcome: the stream's channels, rates, delays and styles.
    """

    def __init__(self, socket: ClientConnection, welcome: wire.Welcome, audio: AudioFormat | None) -> None:
        self._socket = socket
        self._encoding: Encoding = audio.encoding if audio else "s16"
        self.welcome = welcome

    async def send_audio(self, pcm: npt.ArrayLike) -> None:
        """Sends samples, interleaved or (n, channels); waits while the server reads slowly.

        Args:
            pcm: int16, or floating point in [-1, 1]; it is converted to the encoding that the hello named.
        """
        await self._socket.send(exchange.encode_pcm(pcm, self._encoding))

    async def set_style(self, style: Mapping[str, float]) -> None:
        """Changes the style from the next window on; a ``wire.StyleEcho`` tells from which frame."""
        await self.send(wire.SetStyle(dict(style)))

    async def interrupt(self) -> None:
        """Drops what was not yet emitted and closes the mouth; ``wire.Interrupted`` names the new epoch."""
        await self.send(wire.Interrupt())

    async def end(self) -> None:
        """Says that no more audio comes: the rest is flushed, then ``wire.Ended``, then the loop ends."""
        await self.send(wire.End())

    async def ask_clock(self, client_time_s: float) -> None:
        """Asks for the server's clock; a ``wire.ClockReply`` brings both times back."""
        await self.send(wire.ClockRequest(client_time_s))

    async def send(self, message: wire.ClientMessage) -> None:
        """Sends one control message."""
        await self._socket.send(wire.encode_message(message))

    async def receive(self) -> Event:
        """The next event.

        Raises:
            FaceError: the server sent an ``error``.
            ConnectionClosed: the connection is closed.
        """
        return exchange.decode(await self._socket.recv())

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            try:
                event = await self.receive()
            except ConnectionClosedOK:
                return
            yield event

    @property
    def close_code(self) -> int | None:
        """The number that the connection was closed with, None while it is open."""
        return self._socket.close_code

    async def wait_closed(self) -> None:
        """Waits until the connection is closed by either side."""
        await self._socket.wait_closed()

    async def close(self) -> None:
        """Closes the connection; leaving the context does it too."""
        await self._socket.close()
