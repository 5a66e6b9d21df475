"""iFacialMocap's text, as its app on a phone sends it to VSeeFace, VMagicMirror, Blender and others. Pure.

Published at ifacialmocap.com/for-developer. One datagram is one face, in UTF-8:

    jawOpen&43|eyeBlink_L&0|…|=head#rx,ry,rz,px,py,pz|rightEye#rx,ry,rz|leftEye#rx,ry,rz|

Weights are whole numbers of 0 to 100; an ending ``Left`` or ``Right`` of a name that comes in pairs is ``_L``
or ``_R`` (``jawLeft``, ``mouthRight`` … keep theirs, they are directions). Rotations are in degrees. A
program asks the phone for faces by sending it a greeting; ``|sendDataVersion=v2`` behind it asks for ``&``
where the first version has ``-``. Rules:

1. All 52 are sent, those that are not driven as 0: a receiver expects a phone, which always sends them all.
2. The head does not turn. The eyes' rotations follow the ``eyeLook`` weights at 35° up and down and 40°
   sideways, which is what the published sample of a phone's text shows; x is positive looking down, y looking
   to the face's left. Receivers differ in whether they read the weights or the rotations.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diffspeaker_client.bridge.encoder import Instant
from diffspeaker_client.channels import ARKIT

F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

PORT = 49983
GREETING = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719"

_V2 = b"|sendDataVersion=v2"
_SEPARATORS = {1: "-", 2: "&"}
_PITCH_DEGREES, _YAW_DEGREES = 35.0, 40.0
_DIRECTIONS = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")
_PLACES = {name: place for place, name in enumerate(ARKIT)}


def name_of(channel: str) -> str:
    """What iFacialMocap calls an ARKit channel."""
    for side in ("Left", "Right"):
        if channel.endswith(side) and channel not in _DIRECTIONS:
            return f"{channel.removesuffix(side)}_{side[0]}"
    return channel


_NAMES = tuple(name_of(channel) for channel in ARKIT)


def version_asked(datagram: bytes) -> int | None:
    """The version that a greeting asks for, 1 or 2; None where the datagram is no greeting."""
    if not datagram.startswith(GREETING):
        return None
    return 2 if datagram[len(GREETING) :].startswith(_V2) else 1


class IFacialMocap:
    """Faces as the phone app sends them.

    Args:
        version: of the text, 1 or 2.
    """

    title = "iFacialMocap"

    def __init__(self, version: int = 2) -> None:
        self._separator = _SEPARATORS[version]

    def encode(self, coefficients: F32, driven: Flags, instant: Instant) -> bytes:
        """One text; see ``Encoder``."""
        percents = np.rint(np.clip(coefficients, 0, 1) * 100).astype(int).tolist()
        shapes = (f"{name}{self._separator}{weight}" for name, weight in zip(_NAMES, percents, strict=True))
        right, left = (_angles(coefficients, side) for side in ("Right", "Left"))
        bones = f"=head#0.0,0.0,0.0,0.0,0.0,0.0|rightEye#{right}|leftEye#{left}|"
        return f"{'|'.join(shapes)}|{bones}".encode()


def _angles(coefficients: F32, side: str) -> str:
    """Where an eye looks, in degrees: x, y, z."""
    down, up, inward, outward = (
        float(coefficients[_PLACES[f"eyeLook{way}{side}"]]) for way in ("Down", "Up", "In", "Out")
    )
    leftward = outward - inward if side == "Left" else inward - outward
    return f"{_PITCH_DEGREES * (down - up):.4f},{_YAW_DEGREES * leftward:.4f},0.0"
