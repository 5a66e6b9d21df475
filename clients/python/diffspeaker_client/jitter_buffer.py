"""Turns frames that arrive in bursts into a face at any instant. Pure: time is passed in, nothing is called.

State: the newest epoch's frames by index, at most ``capacity_frames`` of them, and the face last returned.
The caller decides what instant to show: the instant that its loudspeaker plays, or, without sound,
``now − offset`` with an offset of the welcome's ``face_delay_ms`` and a little for the network. Rules:

1. Between two frames values are linear, also across frames that were dropped; before the first and after
   the newest frame they are held.
2. A frame of a newer epoch starts that epoch's clock anew and forgets the old frames; frames of an older
   epoch are ignored.
3. Beyond the capacity the oldest frames go.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt

from streamer.contract.wire import Frames

F32 = npt.NDArray[np.float32]


class JitterBuffer:
    """Frames in, the face at an instant out.

    Args:
        frame_rate_hz: the welcome's.
        capacity_frames: how many frames are kept; three seconds' worth where none is given.
    """

    def __init__(self, frame_rate_hz: int, capacity_frames: int | None = None) -> None:
        self._rate_hz = frame_rate_hz
        self._capacity = capacity_frames or 3 * frame_rate_hz
        self._indices: list[int] = []
        self._faces: list[F32] = []
        self.epoch = -1
        """The epoch whose clock ``at`` is asked about; -1 before the first frame."""

    def push(self, frames: Frames) -> None:
        """Takes one frames message."""
        if frames.epoch < self.epoch:
            return
        if frames.epoch > self.epoch:
            self.epoch = frames.epoch
            self._indices.clear()
            self._faces.clear()
        for index, face in enumerate(frames.values, frames.first_frame):
            if self._indices and index <= self._indices[-1]:
                continue
            self._indices.append(index)
            self._faces.append(face)
        excess = len(self._indices) - self._capacity
        if excess > 0:
            del self._indices[:excess], self._faces[:excess]

    def at(self, playout_s: float) -> F32 | None:
        """The face at an instant of the epoch's audio clock, float32 (width,); None before any frame came."""
        if not self._indices:
            return None
        position = playout_s * self._rate_hz
        after = bisect_right(self._indices, position)
        if after == 0:
            return self._faces[0]
        if after == len(self._indices):
            return self._faces[-1]
        before = after - 1
        span = self._indices[after] - self._indices[before]
        share = np.float32((position - self._indices[before]) / span)
        face: F32 = self._faces[before] + share * (self._faces[after] - self._faces[before])
        return face

    @property
    def newest_s(self) -> float:
        """The instant of the newest frame, in seconds of the epoch's audio clock; -inf before any came."""
        return self._indices[-1] / self._rate_hz if self._indices else float("-inf")
