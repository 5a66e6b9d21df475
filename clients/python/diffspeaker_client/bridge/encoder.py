"""What every protocol of the bridge offers: a face and its instant in, the bytes of one datagram out. Pure.

An encoder knows its protocol and nothing of sockets or clocks. Its port is where receivers of that protocol
listen unless they were told otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Instant:
    """When a face is shown.

    Attributes:
        elapsed_s: since the bridge began. day_s: since local midnight, in [0, 86400).
        fps: faces per second, a whole number.
    """

    elapsed_s: float
    day_s: float
    fps: int


class Encoder(Protocol):
    """One protocol.

    Attributes:
        title: its name, for people.
    """

    title: str

    def encode(self, coefficients: F32, driven: Flags, instant: Instant) -> bytes:
        """One datagram.

        Args:
            coefficients: float32 (52,) by ``channels.ARKIT``, each in [0, 1].
            driven: bool (52,); where False the coefficient is 0 and may be left to somebody else.
            instant: when it is shown.
        """
        ...
