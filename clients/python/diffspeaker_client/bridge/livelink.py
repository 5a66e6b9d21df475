"""Live Link Face's datagrams, as Unreal's "Apple ARKit Face Support" receives them. Pure.

One datagram is one face, of version 6. Everything of more than one byte is big-endian, and a text is its
length in bytes (i32) and its UTF-8:

    u8 6 · text device id · text subject name · i32 frame · f32 part of a frame · i32 frames per second
    · i32 1, which divides them · u8 61 · 61 × f32

Some readers take the version for four bytes, little-endian, and the device id for 37 that begin with a ``$``:
that is the same while the id has 36 bytes, as a UUID has (36 is ``$``), so ours has. Rules:

1. The frame is counted from local midnight, as the phone's timecode is: Unreal puts several sources on one
   clock by it.
2. The 61 values are ARKit's 52 in their order, then head yaw, pitch, roll, left eye, right eye. The nine
   rotations are 0: the model does not turn the head, and where the eyes look is in the ``eyeLook`` values.
3. The form is fixed: a coefficient that is not driven is sent as 0. A subject has one source.
"""

from __future__ import annotations

import struct
import uuid

import numpy as np
import numpy.typing as npt

from diffspeaker_client.bridge.encoder import Instant
from diffspeaker_client.channels import ARKIT
from streamer.contract.errors import FaceError

F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

PORT = 11111
VERSION = 6
VALUES = len(ARKIT) + 9
MAX_NAME_BYTES = 255

_DAY_S = 86_400
_TIME = struct.Struct(">ifii")
_FACE = struct.Struct(f">B{VALUES}f")
_DEVICES = uuid.UUID(
    "6f7f5f8e-6f0e-5b57-9d5f-0b1c52a3f5d1"
)  # ours: ids of one machine and subject are the same


class LiveLink:
    """Faces as Live Link Face sends them.

    Args:
        subject: the name under which Unreal lists the face; 1 to 255 bytes of UTF-8.
        machine: names this computer; with the subject it makes the device id.

    Raises:
        FaceError: ``bad_config``, the subject is too long or empty.
    """

    title = "Live Link"

    def __init__(self, subject: str, machine: str = "") -> None:
        name = subject.encode()
        if not 0 < len(name) <= MAX_NAME_BYTES:
            raise FaceError(
                "bad_config",
                f"The subject's name has {len(name)} bytes; 1 to {MAX_NAME_BYTES} are possible.",
                "Choose another with --subject.",
            )
        device = str(uuid.uuid5(_DEVICES, f"{machine}/{subject}")).upper().encode()
        self._head = struct.pack(">B", VERSION) + _text(device) + _text(name)

    def encode(self, coefficients: F32, driven: Flags, instant: Instant) -> bytes:
        """One datagram; see ``Encoder``."""
        # In sixty-fourths, so that float32 holds the part exactly and it never rounds up to a whole frame.
        frame, part = divmod(int(instant.day_s % _DAY_S * instant.fps * 64), 64)
        time = _TIME.pack(frame, part / 64, instant.fps, 1)
        return self._head + time + _FACE.pack(VALUES, *coefficients.tolist(), *[0.0] * 9)


def _text(encoded: bytes) -> bytes:
    return struct.pack(">i", len(encoded)) + encoded
