"""A stream's faces, one at a time, when they are due. Pure: time is passed in, nothing is called.

State: the jitter buffer of the present connection, the number of the face last shown, and whether the face is
live, going to rest, at rest or silent::

    silent → live ⇄ rest → silent

Faces stand on a grid of the stream's own clock, ``fps`` to the second: at the stream's frame rate each is
exactly one of its frames, at another rate they lie between two. Rules:

1. A face is due when playout (``JitterBuffer``) has come to its place on the grid, and is shown once. Whoever
   asks too late gets the newest that is due; those passed over are ``skipped``, never replayed.
2. While the stream runs dry the last face is shown again at every place of the grid: receivers expect faces
   at a steady rate.
3. After half a second without a frame, or a tenth after the last frame of a stream that is over, the face
   goes to rest (every value 0) within 0.2 s, rests for a second and falls silent, so that nobody's mouth
   stays open and another source may take over. Frames that come later ease in from where the face is.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from diffspeaker_client.jitter_buffer import JitterBuffer
from streamer.contract.wire import Frames

F32 = npt.NDArray[np.float32]

_STALLED_S = 0.5
_DRY_S = 0.1
_TO_REST_S = 0.2
_REST_S = 1.0
_IDLE_S = 0.02  # between two looks while nothing is due
_LEAST_S = 0.001
_ON_TIME = 1e-6  # of a place on the grid, for what arithmetic leaves
_BACK_S = 0.3  # a playout that is so far behind was set back by a jump


class Playback:
    """Frames in, faces out.

    Args:
        fps: faces per second; the stream's frame rate where None.

    Attributes:
        shown: how many faces were due. skipped: how many more would have been, but nobody asked in time.
        buffer: of the present stream; None while nothing of it is shown.
    """

    def __init__(self, fps: int | None = None) -> None:
        self._asked_fps = fps
        self._width = self._rate_hz = 0
        self._dropped = 0  # by buffers of the past
        self._over = False
        self._arrived_s = -math.inf
        self._place: int | None = None  # on the grid, of the face last shown
        self._epoch = -1
        self._face: F32 | None = None  # the one last shown; None while silent
        self._rest_from: F32 | None = None
        self._rest_since_s = math.nan
        self.shown = self.skipped = 0
        self.buffer: JitterBuffer | None = None

    @property
    def fps(self) -> int:
        """Faces per second; 0 before ``begin`` where it is the stream's."""
        return self._asked_fps or self._rate_hz

    @property
    def dropped(self) -> int:
        """Frames that were never shown: those that the server dropped and those that were skipped here."""
        return self._dropped + self.skipped + (self.buffer.dropped if self.buffer else 0)

    @property
    def is_silent(self) -> bool:
        """Whether nothing is shown and nothing waits to be."""
        return self.buffer is None and self._face is None

    def begin(self, width: int, frame_rate_hz: int, now_s: float) -> None:
        """A stream was welcomed: its frames follow."""
        if self.buffer is not None:
            self._leave(now_s)
        if width != self._width:
            self._face = self._rest_from = None
        self._width, self._rate_hz, self._over = width, frame_rate_hz, False

    def push(self, frames: Frames, now_s: float) -> None:
        """Takes one frames message that arrived at ``now_s``, between ``begin`` and ``end``."""
        if self.buffer is None:
            self.buffer = JitterBuffer(self._width, self._rate_hz, shown=self._face)
            self._place, self._epoch = None, -1
        self.buffer.push(frames, now_s)
        self._arrived_s = now_s

    def end(self) -> None:
        """The stream is over, or its connection is lost: what came is still shown, then the face rests."""
        self._over = True

    def due(self, now_s: float) -> F32 | None:
        """The face to show now, float32 (width,); None where none is due."""
        face = self._live(self.buffer, now_s) if self.buffer else None
        if self.buffer is None and self._rest_from is not None:
            face = self._resting(self._rest_from, now_s)
        if face is not None:
            self._face = face
            self.shown += 1
        return face

    def wait_s(self, now_s: float) -> float:
        """How long until ``due`` should be asked again, in seconds."""
        if self._place is None:
            return _IDLE_S
        since_s = self.buffer.offset_s if self.buffer else self._rest_since_s
        next_s = since_s + (self._place + 1) / self.fps
        return min(max(next_s - now_s, _LEAST_S), _IDLE_S)

    # ---- inside ----

    def _live(self, buffer: JitterBuffer, now_s: float) -> F32 | None:
        pts_s = buffer.playout(now_s)
        if buffer.epoch != self._epoch:
            self._epoch, self._place = buffer.epoch, None
        is_over = self._over or now_s - self._arrived_s > _STALLED_S
        if is_over and pts_s - buffer.newest_s > _DRY_S:
            self._leave(now_s)
            return None
        if math.isnan(pts_s) or not self._advance(math.floor(pts_s * self.fps + _ON_TIME)):
            return None
        assert self._place is not None
        return buffer.at(self._place / self.fps)

    def _resting(self, rest_from: F32, now_s: float) -> F32 | None:
        resting_s = now_s - self._rest_since_s
        if resting_s > _TO_REST_S + _REST_S:
            self._face = self._rest_from = self._place = None
            return None
        if not self._advance(math.floor(resting_s * self.fps + _ON_TIME)):
            return None
        return rest_from * np.float32(max(0.0, 1 - resting_s / _TO_REST_S))

    def _advance(self, place: int) -> bool:
        """Whether a new place on the grid has been reached; it is then the present one."""
        last = self._place
        if last is not None and last - _BACK_S * self.fps < place <= last:
            return False
        if last is not None:
            self.skipped += max(0, place - last - 1)
        self._place = place
        return True

    def _leave(self, now_s: float) -> None:
        assert self.buffer is not None
        self._dropped += self.buffer.dropped
        self.buffer = self._place = None
        self._rest_from, self._rest_since_s = self._face, now_s
