"""Protocol v1's media: little-endian binary messages of audio and frames.

Every field is 4-byte aligned and every payload 8-byte aligned, so that a browser can view it without a copy.
Decoding raises ``FaceError`` with the code that the peer is told, and never anything else on any input.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.wire_messages import AudioFormat, DType, Encoding, Kind

__all__ = [
    "AUDIO",
    "FLAG_EASED",
    "FLAG_LAST",
    "FRAMES",
    "Frames",
    "MAX_SAMPLE_RATE_HZ",
    "MIN_SAMPLE_RATE_HZ",
    "PASSTHROUGH",
    "Passthrough",
    "check_audio_format",
    "decode_audio",
    "decode_frames",
    "decode_media",
    "decode_passthrough",
    "encode_audio",
    "encode_frames",
    "encode_passthrough",
    "scale_of",
]

F32 = npt.NDArray[np.float32]

MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 8_000, 192_000

AUDIO, FRAMES, PASSTHROUGH = 1, 2, 3
FLAG_EASED = 1  # these frames were eased toward rest after an interrupt, not denoised
FLAG_LAST = 2  # the last frames of their epoch

_AUDIO = struct.Struct("<B7x")
_FRAMES = struct.Struct("<BBBBIIIIIdd")
_PASSTHROUGH = struct.Struct("<B3xIIIdII")
assert (_AUDIO.size, _FRAMES.size, _PASSTHROUGH.size) == (8, 40, 32)

_DTYPES: tuple[DType, ...] = ("f32", "f16", "i16")
_KINDS: tuple[Kind, ...] = ("coefficients", "vertices")
_NUMPY: dict[DType, np.dtype[Any]] = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "i16": np.dtype("<i2")}
# i16 full scale: coefficients lie in [0, 1], vertices within half a metre of the head's centre.
_I16_FULL_SCALE = {"coefficients": 1.0, "vertices": 0.5}


def scale_of(kind: Kind, dtype: DType) -> float:
    """What one unit of a frame's values means: the value itself is ``raw * scale``."""
    return _I16_FULL_SCALE[kind] / 32767 if dtype == "i16" else 1.0


@dataclass(frozen=True)
class Frames:
    """One binary frames message.

    Attributes:
        values: float32 (count, width); coefficients, or x y z of each vertex in metres.
        epoch: the stream's epoch. seq: this stream's message number, so a gap tells of a drop.
        first_frame: index, within the epoch, of the first frame. pts_s: its time on the epoch's audio clock.
        emit_time_s: the server's monotonic clock when the frames left the crossfader.
    """

    values: F32
    kind: Kind
    dtype: DType
    flags: int
    epoch: int
    seq: int
    first_frame: int
    pts_s: float
    emit_time_s: float


@dataclass(frozen=True)
class Passthrough:
    """The speaker's audio at the model's rate: ``samples`` int16 (n,), the first at ``pts_s``."""

    samples: npt.NDArray[np.int16]
    epoch: int
    seq: int
    pts_s: float
    sample_rate_hz: int


def check_audio_format(audio: AudioFormat) -> None:
    """Raises ``bad_audio_format`` unless rate and channels are within the protocol's range."""
    if not MIN_SAMPLE_RATE_HZ <= audio.sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise FaceError("bad_audio_format", f"The sample rate {audio.sample_rate_hz} Hz is out of range.")
    if audio.channels not in (1, 2):
        raise FaceError("bad_audio_format", f"{audio.channels} channels are not supported.")


def encode_audio(pcm: npt.NDArray[Any], encoding: Encoding) -> bytes:
    """An audio message from interleaved or (n, channels) PCM, already int16 or float32 in [-1, 1]."""
    dtype = "<i2" if encoding == "s16" else "<f4"
    return _AUDIO.pack(AUDIO) + np.ascontiguousarray(pcm, dtype=dtype).tobytes()


def decode_audio(message: bytes | memoryview, audio: AudioFormat) -> F32:
    """The samples of an audio message, float32 (n,), mixed to mono, in [-1, 1].

    Raises ``bad_message`` (not an audio message), ``bad_audio_size`` or ``bad_audio_values``.
    """
    if len(message) < _AUDIO.size or message[0] != AUDIO:
        raise FaceError("bad_message", "The binary message does not begin with an audio header.")
    width = 2 if audio.encoding == "s16" else 4
    payload = memoryview(message)[_AUDIO.size :]
    if len(payload) % (width * audio.channels):
        raise FaceError(
            "bad_audio_size",
            f"{len(payload)} bytes are not whole {audio.encoding} samples of {audio.channels} channel(s).",
        )
    if audio.encoding == "s16":
        pcm = np.frombuffer(payload, "<i2").astype(np.float32) * np.float32(1 / 32768)
    else:
        pcm = np.frombuffer(payload, "<f4").astype(np.float32)
        if not np.isfinite(pcm).all():
            raise FaceError("bad_audio_values", "The audio holds NaN or infinite samples.")
        # Beyond full scale is clipped, so that a huge finite sample cannot overflow further on.
        np.clip(pcm, -1, 1, out=pcm)
    if audio.channels == 2:
        pcm = (pcm[0::2] + pcm[1::2]) * np.float32(0.5)
    return pcm


def encode_frames(frames: Frames) -> bytes:
    """A frames message; i16 values outside full scale are clipped."""
    count, width = frames.values.shape
    if frames.dtype == "i16":
        raw = frames.values / np.float64(scale_of(frames.kind, "i16"))
        raw = np.rint(np.clip(raw, -32767, 32767, out=raw), out=raw).astype("<i2")
    else:
        raw = frames.values.astype(_NUMPY[frames.dtype])
    header = _FRAMES.pack(
        FRAMES,
        _DTYPES.index(frames.dtype),
        _KINDS.index(frames.kind),
        frames.flags,
        frames.epoch,
        frames.seq,
        frames.first_frame,
        count,
        width,
        frames.pts_s,
        frames.emit_time_s,
    )
    return bytes(header + raw.tobytes())


def decode_frames(message: bytes | memoryview) -> Frames:
    """A frames message; raises ``bad_message`` where it is cut short or its fields are unknown."""
    if len(message) < _FRAMES.size or message[0] != FRAMES:
        raise FaceError("bad_message", "The binary message does not begin with a frames header.")
    _, dtype_id, kind_id, flags, epoch, seq, first, count, width, pts_s, emit_s = _FRAMES.unpack_from(message)
    if dtype_id >= len(_DTYPES) or kind_id >= len(_KINDS):
        raise FaceError("bad_message", "The frames message has an unknown dtype or kind.")
    dtype, kind = _DTYPES[dtype_id], _KINDS[kind_id]
    payload = memoryview(message)[_FRAMES.size :]
    if len(payload) != count * width * _NUMPY[dtype].itemsize:
        raise FaceError("bad_message", "The frames message's length contradicts its count and width.")
    raw = np.frombuffer(payload, _NUMPY[dtype]).reshape(count, width)
    if dtype == "i16":
        raw = raw * np.float64(scale_of(kind, dtype))  # in double, as every codec can do it
    return Frames(raw.astype(np.float32), kind, dtype, flags, epoch, seq, first, pts_s, emit_s)


def encode_passthrough(audio: Passthrough) -> bytes:
    """A passthrough message."""
    header = _PASSTHROUGH.pack(
        PASSTHROUGH, audio.epoch, audio.seq, len(audio.samples), audio.pts_s, audio.sample_rate_hz, 0
    )
    return header + audio.samples.astype("<i2").tobytes()


def decode_passthrough(message: bytes | memoryview) -> Passthrough:
    """A passthrough message; raises ``bad_message`` where it is cut short."""
    if len(message) < _PASSTHROUGH.size or message[0] != PASSTHROUGH:
        raise FaceError("bad_message", "The binary message does not begin with a passthrough header.")
    _, epoch, seq, count, pts_s, rate, _ = _PASSTHROUGH.unpack_from(message)
    payload = memoryview(message)[_PASSTHROUGH.size :]
    if len(payload) != 2 * count:
        raise FaceError("bad_message", "The passthrough message's length contradicts its count.")
    return Passthrough(np.frombuffer(payload, "<i2").astype(np.int16), epoch, seq, pts_s, rate)


def decode_media(message: bytes | memoryview) -> Frames | Passthrough:
    """Whatever binary message a server sent; raises ``bad_message``."""
    if len(message) and message[0] == PASSTHROUGH:
        return decode_passthrough(message)
    return decode_frames(message)
