"""Protocol v1's control messages: JSON text, one object each, told apart by ``type``.

Reading is strict: an unknown field or type is refused, so that a typing mistake is found on the first try.
Decoding raises ``FaceError`` with the code that the peer is told, and never anything else on any input.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from streamer.contract.errors import FaceError

__all__ = [
    "AudioFormat",
    "ClientMessage",
    "ClockReply",
    "ClockRequest",
    "DType",
    "Encoding",
    "End",
    "Ended",
    "ErrorMessage",
    "Hello",
    "Interrupt",
    "Interrupted",
    "Kind",
    "MAX_MESSAGE_BYTES",
    "OutputFormat",
    "Role",
    "SUBPROTOCOL",
    "ServerMessage",
    "SetStyle",
    "Stats",
    "StyleEcho",
    "VERSION",
    "Welcome",
    "decode_client_message",
    "decode_server_message",
    "encode_message",
]

VERSION = 1
SUBPROTOCOL = "diffspeaker.v1"
MAX_MESSAGE_BYTES = 1 << 20

Role = Literal["publish", "watch", "converse"]
Encoding = Literal["s16", "f32"]
Kind = Literal["coefficients", "vertices"]
DType = Literal["f32", "f16", "i16"]


# ---- control: client to server ---------------------------------------------------------------------------


class _Message(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    """Base of every JSON message: the class's tag travels in ``type``."""


class AudioFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The PCM that a publisher will send: encoding, rate (8000 to 192000 Hz), 1 or 2 interleaved channels."""

    encoding: Encoding
    sample_rate_hz: int
    channels: int


class OutputFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The frames that a client wants."""

    kind: Kind = "coefficients"
    dtype: DType = "f32"


class Hello(_Message, frozen=True, tag="hello"):
    """The first message of every connection. ``style`` maps styles to weights, style scales to factors.

    ``paced`` is for audio that comes faster than real time and is played in real time from its arrival on, as
    a voice agent's is: frames are then sent shortly before they are due, so that an interrupt finds few of
    them on their way.

    ``resume`` is the ``session`` of a welcome whose connection was lost. Where the server still keeps that
    stream, this connection speaks on in it, with the style, lookahead, hop and seed that it has; where not,
    the stream begins anew. The welcome's ``session`` tells which.
    """

    version: int
    role: Role
    token: str | None = None
    audio: AudioFormat | None = None
    output: OutputFormat = OutputFormat()
    lookahead_ms: float | None = None
    hop_ms: float | None = None
    style: dict[str, float] | None = None
    seed: int | None = None
    audio_passthrough: bool = False
    paced: bool = False
    resume: str | None = None


class SetStyle(_Message, frozen=True, tag="style"):
    """A publisher's new style, from the next window on."""

    style: dict[str, float]


class Interrupt(_Message, frozen=True, tag="interrupt"):
    """Drop everything not yet emitted and close the mouth."""


class End(_Message, frozen=True, tag="end"):
    """No more audio: flush the tail, then ``ended``."""


class ClockRequest(_Message, frozen=True, tag="clock"):
    """Asks for the server's clock; ``client_time_s`` comes back unchanged."""

    client_time_s: float


ClientMessage = Hello | SetStyle | Interrupt | End | ClockRequest


# ---- control: server to client ---------------------------------------------------------------------------


class Welcome(_Message, frozen=True, tag="welcome"):
    """The answer to ``hello``: everything that a client must know to show frames.

    ``channels`` names the columns of a coefficient frame, in order. A value of an i16 frame times ``scale``
    is the value itself; ``scale`` is 1 for f32 and f16. ``width`` is the number of values in one frame.
    ``face_delay_ms`` is how far the face lags the audio of the same instant when the audio arrives in real
    time: a client that plays the audio delays it by as much. ``received_samples`` is how much of the epoch's
    audio the server has, per channel: a speaker that resumes goes on behind it.
    """

    version: int
    session: str
    stream: str
    role: Role
    epoch: int
    bundle: str
    kind: Kind
    dtype: DType
    width: int
    scale: float
    channels: list[str]
    unit: str
    frame_rate_hz: int
    sample_rate_hz: int
    hop_ms: float
    lookahead_ms: float
    face_delay_ms: float
    styles: list[str]
    style_scales: list[str]
    style: dict[str, float]
    received_samples: int
    server_time_s: float


class StyleEcho(_Message, frozen=True, tag="style"):
    """The style in force from frame ``from_frame`` of ``epoch`` on."""

    style: dict[str, float]
    epoch: int
    from_frame: int


class Interrupted(_Message, frozen=True, tag="interrupted"):
    """The old epoch's last frame (the mouth is closed there) and the number of the new epoch."""

    epoch: int
    last_frame: int


class Ended(_Message, frozen=True, tag="ended"):
    """The stream is over: how many frames the last epoch had and how long its audio was."""

    epoch: int
    frames: int
    audio_s: float


class ClockReply(_Message, frozen=True, tag="clock"):
    """The server's monotonic clock, in seconds, read while answering."""

    client_time_s: float
    server_time_s: float


class Stats(_Message, frozen=True, tag="stats"):
    """Once a second: this connection's dropped frames and the stream's late windows, since its start."""

    dropped_frames: int
    late_windows: int
    frames: int
    queue_ms: float


class ErrorMessage(_Message, frozen=True, tag="error"):
    """A named error. The connection closes after it."""

    code: str
    message: str
    hint: str


ServerMessage = Welcome | StyleEcho | Interrupted | Ended | ClockReply | Stats | ErrorMessage

_T = TypeVar("_T")
_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()
_CLIENT_TYPES = ("hello", "style", "interrupt", "end", "clock")
_SERVER_TYPES = ("welcome", "style", "interrupted", "ended", "clock", "stats", "error")


def encode_message(message: ClientMessage | ServerMessage) -> str:
    """One control message as JSON text; fields that hold their default are left out."""
    return _encoder.encode(message).decode()


def decode_client_message(text: str | bytes) -> ClientMessage:
    """A client's control message.

    Raises:
        FaceError: ``bad_json``, ``unknown_type``, ``unsupported_version`` or ``bad_message``.
    """
    message = _decode(text, _client_decoder, _CLIENT_TYPES)
    if isinstance(message, Hello):
        _check_version(message.version)
    return message


def decode_server_message(text: str | bytes) -> ServerMessage:
    """A server's control message; raises as ``decode_client_message`` does."""
    return _decode(text, _server_decoder, _SERVER_TYPES)


def _decode(text: str | bytes, decoder: msgspec.json.Decoder[_T], types: tuple[str, ...]) -> _T:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        reason = str(error)
    # Only a refused message is read a second time, to tell the peer which of four things is wrong with it.
    try:
        generic = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise FaceError("bad_json", f"The message is not JSON: {error}.") from None
    if not isinstance(generic, dict) or "type" not in generic:
        raise FaceError("bad_message", "The message is not an object with a 'type'.") from None
    if generic["type"] not in types:
        raise FaceError("unknown_type", f"There is no message type {str(generic['type'])[:40]!r}.") from None
    if generic["type"] == "hello" and "version" in generic:
        _check_version(generic["version"])  # a later version's hello may well have other fields
    raise FaceError("bad_message", f"The {generic['type']!r} message is not valid: {reason[:200]}.") from None


def _check_version(version: object) -> None:
    if version != VERSION:
        raise FaceError("unsupported_version", f"Protocol version {str(version)[:40]} is not spoken here.")
