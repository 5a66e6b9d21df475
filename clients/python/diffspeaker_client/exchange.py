"""What a client says and hears, without a socket: the hello, PCM going out, messages coming in. Pure.

The asynchronous ``Face`` and the blocking one differ in how they wait and in nothing else; what they share is
here. Rule: the server's ``error`` message is raised as the ``FaceError`` that it names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamer.contract import wire
from streamer.contract.errors import CODES, FaceError
from streamer.contract.wire import AudioFormat, Encoding, Frames, OutputFormat, Passthrough, ServerMessage

Event = Frames | Passthrough | ServerMessage
"""What a connection yields: media, or a control message (``wire.Ended``, ``wire.Stats``, …)."""

# No ping timeout: the answer waits behind all the audio that was sent and is not yet read.
SOCKET_OPTIONS: Mapping[str, Any] = {"compression": None, "max_size": None, "ping_timeout": None}


def hello_of(
    role: wire.Role,
    *,
    token: str | None,
    audio: AudioFormat | None,
    output: OutputFormat | None,
    lookahead_ms: float | None,
    hop_ms: float | None,
    style: Mapping[str, float] | None,
    seed: int | None,
    audio_passthrough: bool,
    paced: bool,
    resume: str | None,
) -> wire.Hello:
    """The first message of a connection; coefficients as f32 where no output is named."""
    return wire.Hello(
        wire.VERSION,
        role,
        token=token,
        audio=audio,
        output=output or OutputFormat(),
        lookahead_ms=lookahead_ms,
        hop_ms=hop_ms,
        style=None if style is None else dict(style),
        seed=seed,
        audio_passthrough=audio_passthrough,
        paced=paced,
        resume=resume,
    )


def welcome_in(message: str | bytes) -> wire.Welcome:
    """The welcome that a server's first message is.

    Raises:
        FaceError: what the server refused, or ``bad_message`` where it said something else.
    """
    event = decode(message)
    if not isinstance(event, wire.Welcome):
        raise FaceError("bad_message", f"The server answered with {type(event).__name__}, not a welcome.")
    return event


@contextlib.contextmanager
def refused_at_the_door() -> Iterator[None]:
    """Turns a server's refusal before the handshake (429) into its ``FaceError``."""
    try:
        yield
    except InvalidStatus as error:
        if error.response.status_code != 429:
            raise
        said = (error.response.body or b"Too many connect.").decode(errors="replace").strip()
        raise FaceError("at_capacity", said) from None


def closed_early(closed: ConnectionClosed) -> FaceError:
    """What a connection that was closed instead of welcomed is raised as."""
    reason = closed.rcvd.reason if closed.rcvd else "no reason given"
    return FaceError("internal", f"The server closed the connection: {reason}.", "See its log.")


def encode_pcm(pcm: npt.ArrayLike, encoding: Encoding) -> bytes:
    """An audio message.

    Args:
        pcm: int16, or floating point in [-1, 1]; interleaved or (n, channels).
        encoding: what the hello named; the samples are converted to it.
    """
    samples = np.asarray(pcm)
    is_float = np.issubdtype(samples.dtype, np.floating)
    if encoding == "s16" and is_float:
        samples = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    elif encoding == "f32" and not is_float:
        samples = samples.astype(np.float32) / np.float32(32768)
    return wire.encode_audio(samples, encoding)


def decode(message: str | bytes) -> Event:
    """What a server's message says; raises the ``FaceError`` that an ``error`` names."""
    if isinstance(message, bytes):
        return wire.decode_media(message)
    event = wire.decode_server_message(message)
    if isinstance(event, wire.ErrorMessage):
        # A newer server may know codes that this client does not.
        code = event.code if event.code in CODES else "internal"
        raise FaceError(code, event.message, event.hint)
    return event
