"""One connection to a DiffSpeaker Live server, for programs without an event loop.

::

    with sync.connect("ws://127.0.0.1:8600/v1/streams/anna", "converse", audio=speech) as face:
        face.send_audio(pcm)
        face.end()
        for event in face:
            if isinstance(event, Frames):
                show(event.values)

It is ``client`` with calls that wait. State: an open WebSocket, the server's welcome, and a thread of the
``websockets`` library that reads the socket. Rules:

1. The server's ``error`` message is raised as the ``FaceError`` that it names, by ``connect``, ``receive`` or
   the loop.
2. The loop ends when the server closes normally, which it does after ``ended``; a connection that is lost
   raises ``websockets.ConnectionClosedError``.
3. What arrives while nobody receives is kept, all of it: a script may send a whole file and then loop. A
   program that watches and never receives grows; ``max_queue=16`` among the options bounds it, and the server
   then drops this client's oldest frames.
4. One thread may send while another receives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket
from websockets.typing import Subprotocol

from diffspeaker_client import exchange
from diffspeaker_client.exchange import Event
from streamer.contract import wire
from streamer.contract.wire import AudioFormat, Encoding, OutputFormat

__all__ = ["Face", "connect"]


@contextlib.contextmanager
def connect(
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
) -> Iterator[Face]:
    """Opens a connection, says hello and waits for the welcome.

    The arguments are those of ``diffspeaker_client.connect``, and ``socket_options`` are for
    ``websockets.sync.client.connect``.

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
    options: dict[str, Any] = {**exchange.SOCKET_OPTIONS, "max_queue": None, **socket_options}
    with (
        exchange.refused_at_the_door(),
        open_socket(url, subprotocols=[Subprotocol(wire.SUBPROTOCOL)], **options) as socket,
    ):
        yield _greet(socket, hello)


def _greet(socket: ClientConnection, hello: wire.Hello) -> Face:
    # A server that refuses before it reads the hello has closed already; what it said is still to come.
    with contextlib.suppress(ConnectionClosed):
        socket.send(wire.encode_message(hello))
    try:
        first = socket.recv()
    except ConnectionClosed as closed:
        raise exchange.closed_early(closed) from closed
    return Face(socket, exchange.welcome_in(first), hello.audio)


class Face:
    """An open connection; ``connect`` makes it.

    Attributes:
        welcome: the stream's channels, rates, delays and styles.
    """

    def __init__(self, socket: ClientConnection, welcome: wire.Welcome, audio: AudioFormat | None) -> None:
        self._socket = socket
        self._encoding: Encoding = audio.encoding if audio else "s16"
        self.welcome = welcome

    def send_audio(self, pcm: npt.ArrayLike) -> None:
        """Sends samples, interleaved or (n, channels); waits while the server reads slowly.

        Args:
            pcm: int16, or floating point in [-1, 1]; it is converted to the encoding that the hello named.
        """
        self._socket.send(exchange.encode_pcm(pcm, self._encoding))

    def set_style(self, style: Mapping[str, float]) -> None:
        """Changes the style from the next window on; a ``wire.StyleEcho`` tells from which frame."""
        self.send(wire.SetStyle(dict(style)))

    def interrupt(self) -> None:
        """Drops what was not yet emitted and closes the mouth; ``wire.Interrupted`` names the new epoch."""
        self.send(wire.Interrupt())

    def end(self) -> None:
        """Says that no more audio comes: the rest is flushed, then ``wire.Ended``, then the loop ends."""
        self.send(wire.End())

    def ask_clock(self, client_time_s: float) -> None:
        """Asks for the server's clock; a ``wire.ClockReply`` brings both times back."""
        self.send(wire.ClockRequest(client_time_s))

    def send(self, message: wire.ClientMessage) -> None:
        """Sends one control message."""
        self._socket.send(wire.encode_message(message))

    def receive(self, timeout_s: float | None = None) -> Event:
        """The next event.

        Args:
            timeout_s: how long to wait for it; without end where None, not at all where 0.

        Raises:
            TimeoutError: nothing came in time.
            FaceError: the server sent an ``error``.
            ConnectionClosed: the connection is closed.
        """
        return exchange.decode(self._socket.recv(timeout_s))

    def __iter__(self) -> Iterator[Event]:
        while True:
            try:
                event = self.receive()
            except ConnectionClosedOK:
                return
            yield event

    @property
    def close_code(self) -> int | None:
        """The number that the connection was closed with, None while it is open."""
        return self._socket.close_code

    def close(self) -> None:
        """Closes the connection; leaving the context does it too."""
        self._socket.close()
