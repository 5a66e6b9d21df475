"""Turns frames that arrive in bursts into a face at any instant. Pure: time is passed in, nothing is called.

It is ``clients/web/src/jitter-buffer.js``, for Python; a test plays the same network to both. A frame carries
its time on the stream's audio clock (its pts). The buffer shows pts = now − offset, with the smallest offset
at which nearly every message (95 %) is there before it is needed: one frame period after its first frame,
because a value between two frames needs both. Rules:

1. Frames live in a ring by their index; it never grows. An old frame gives way to a new one.
2. Between two frames values are linear; after the newest they are held; before the first they are the first.
3. The offset follows the network gently: playout slows by at most 15 % to wait, hurries by at most 5 % to
   catch up, and jumps only where it is more than half a second wrong.
4. A new epoch has a new audio clock: the buffer forgets the old frames and anchors anew, easing from what was
   last shown. Messages of an older epoch are ignored.
5. A message that is more than half a second late belongs to an outage and does not move the offset: what had
   queued up meanwhile rushes by, and the present is shown. Only where such lateness lasts for half a second
   without falling has the stream's clock itself been shifted, and is followed. A jump, or a return after half
   a second without a face, eases from what was last shown.

A program that plays the sound itself asks ``at`` for the instant that its loudspeaker plays, and needs no
``playout``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from streamer.contract.wire import Frames

F32 = npt.NDArray[np.float32]

_OBSERVATIONS = 64  # messages remembered: about four seconds
_FIRST_ALLOWANCE_S = 0.03  # jitter assumed before any was seen
_ENOUGH = 16  # messages that tell the jitter
_USUAL = 0.95
_MARGIN_S = 0.004
_SLOWER, _FASTER = 0.15, 0.05
_JUMP_S = 0.5
_EASE_S = 0.12
_PATIENCE_S = 0.5  # for lateness to end
_OVER_S = 0.05  # no later than this: the outage is over
_FALLING_S = 0.2  # lateness that shrinks by this much is what queued up in an outage
_LONGEST_STEP_S = 0.25  # of time that the offset follows at once
_NAN = float("nan")


class JitterBuffer:
    """Frames in, the face at an instant out.

    Args:
        width: values per frame.
        frame_rate_hz: the welcome's.
        capacity_frames: how many frames are kept; three seconds' worth where none is given.
        shown: float32 (width,), the face that is on the screen before the first frame.

    Attributes:
        dropped: frames that never came, by gaps in their numbers. received: those that did.
        late: frames that came after their instant had been shown.
        epoch: the one being shown, -1 before the first frame.
        shown_frame: the frame last shown (the earlier of the two that it lay between), -1 before the first.
        shown_emit_s: the server's clock when that frame was emitted; NaN before the first.
        offset_s: the caller's clock minus the pts that it shows; NaN before the first frame.
    """

    def __init__(
        self,
        width: int,
        frame_rate_hz: int,
        *,
        capacity_frames: int | None = None,
        shown: F32 | None = None,
    ) -> None:
        self.width = width
        self.frame_rate_hz = frame_rate_hz
        self.capacity_frames = capacity_frames or 3 * frame_rate_hz
        self.dropped = self.late = self.received = 0
        self.epoch = self.shown_frame = -1
        self.shown_emit_s = self.offset_s = _NAN

        self._values = np.zeros((self.capacity_frames, width), np.float32)
        self._indices = [-1] * self.capacity_frames
        self._emits = [_NAN] * self.capacity_frames
        self._oldest = self._newest = -1

        self._last_now_s = _NAN
        self._last_pts_s = -math.inf
        self._jitter_s = _FIRST_ALLOWANCE_S
        self._observed: list[float] = []
        self._observations = 0
        self._usual_offset_s = _NAN
        self._outage_since_s = self._outage_offset_s = _NAN  # its first message, or the first since it fell

        self._shown = None if shown is None or len(shown) != width else np.asarray(shown, np.float32).copy()
        self._ease_from: F32 | None = None
        self._ease_until_pts_s = -math.inf

    def push(self, frames: Frames, now_s: float) -> None:
        """Takes one frames message that arrived at ``now_s`` of the caller's monotonic clock."""
        count, width = frames.values.shape
        if width != self.width or count == 0 or frames.epoch < self.epoch:
            return
        is_new = frames.epoch != self.epoch
        if is_new:
            self._begin_epoch(frames.epoch)
        if self._is_usual(now_s - frames.pts_s, now_s):
            self._observe(now_s - frames.pts_s)
        if is_new:
            self.offset_s = self._needed_offset_s()
            self._ease(frames.pts_s)
        for index, values in enumerate(frames.values, frames.first_frame):
            self._store(index, values, frames.emit_time_s)

    def playout(self, now_s: float) -> float:
        """The instant to show at ``now_s``, seconds of the epoch's audio clock; NaN before any frame came."""
        since_s = now_s - self._last_now_s
        self._last_now_s = now_s
        if self._newest < 0:
            return _NAN
        since_s = 0.0 if math.isnan(since_s) else since_s
        elapsed_s = min(max(since_s, 0.0), _LONGEST_STEP_S)
        wrong_s = self._needed_offset_s() - self.offset_s
        jumps = abs(wrong_s) > _JUMP_S
        if jumps:
            self.offset_s += wrong_s
        else:
            self.offset_s += min(max(wrong_s, -_FASTER * elapsed_s), _SLOWER * elapsed_s)
        if jumps or since_s > _JUMP_S:
            self._ease(now_s - self.offset_s)
        return now_s - self.offset_s

    def at(self, pts_s: float) -> F32 | None:
        """The face at an instant of the epoch's audio clock, float32 (width,); None before any frame came."""
        if self._newest < 0 or math.isnan(pts_s):
            return None
        self._last_pts_s = pts_s
        position = pts_s * self.frame_rate_hz
        before = min(math.floor(position), self._newest)
        while before >= self._oldest and not self._has(before):
            before -= 1
        before = max(before, self._oldest)
        after = min(before + 1, self._newest)
        while after < self._newest and not self._has(after):
            after += 1
        share = min(max((position - before) / (after - before), 0.0), 1.0) if after > before else 0.0
        earlier, later = (self._values[index % self.capacity_frames] for index in (before, after))
        face: F32 = earlier + np.float32(share) * (later - earlier)
        if pts_s < self._ease_until_pts_s and self._ease_from is not None:
            eased = min(max(1 - (self._ease_until_pts_s - pts_s) / _EASE_S, 0.0), 1.0)
            face = self._ease_from + np.float32(eased) * (face - self._ease_from)
        self._shown = face
        self.shown_frame = before
        self.shown_emit_s = self._emits[before % self.capacity_frames]
        return face.copy()

    @property
    def newest_s(self) -> float:
        """The instant of the newest frame, in seconds of the epoch's audio clock; -inf before any came."""
        return self._newest / self.frame_rate_hz if self._newest >= 0 else -math.inf

    @property
    def shown_pts_s(self) -> float:
        """The instant really shown: ``at``'s, but never past the newest frame. NaN before any came."""
        return min(self._last_pts_s, self.newest_s) if self._newest >= 0 else _NAN

    @property
    def margin_s(self) -> float:
        """How long the newest frame's successor may take until playout runs dry, in seconds."""
        return self.newest_s - self._last_pts_s

    # ---- inside ----

    def _has(self, index: int) -> bool:
        return self._indices[index % self.capacity_frames] == index

    def _begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self._indices = [-1] * self.capacity_frames
        self._oldest = self._newest = -1
        self._observations = 0
        self._outage_since_s = _NAN
        self._last_pts_s = -math.inf

    def _ease(self, pts_s: float) -> None:
        """Lets what is shown from ``pts_s`` on ease in from what was shown last."""
        self._ease_until_pts_s = -math.inf
        if self._shown is not None and not math.isnan(pts_s):
            self._ease_from = self._shown.copy()
            self._ease_until_pts_s = pts_s + _EASE_S

    def _is_usual(self, offset_s: float, now_s: float) -> bool:
        """Whether a message tells of the network's jitter (rule 5); forgets what no longer holds.

        Args:
            offset_s: when it arrived minus the pts of its first frame.
        """
        if self._observations == 0:
            return True
        late_s = offset_s - self._usual_offset_s
        is_outage = not math.isnan(self._outage_since_s)
        if late_s <= (_OVER_S if is_outage else _JUMP_S):
            self._outage_since_s = _NAN
            if late_s < -_JUMP_S:
                self._observations = 0  # far fresher than all before: those were the outage
            return True
        if not is_outage or offset_s < self._outage_offset_s - _FALLING_S:
            self._outage_since_s, self._outage_offset_s = now_s, offset_s
        if now_s - self._outage_since_s < _PATIENCE_S:
            return False
        self._outage_since_s = _NAN
        self._observations = 0  # it lasts: the stream's clock is another one
        return True

    def _observe(self, offset_s: float) -> None:
        if self._observations == 0:
            self._observed.clear()
        slot = self._observations % _OBSERVATIONS
        self._observed[slot : slot + 1] = [offset_s]
        self._observations += 1
        ordered = sorted(self._observed)
        count = len(ordered)
        self._usual_offset_s = ordered[min(count - 1, int(_USUAL * count))]
        if count >= _ENOUGH:
            self._jitter_s = self._usual_offset_s - ordered[0]  # and so the next stream's first guess
        else:
            self._usual_offset_s = max(self._usual_offset_s, ordered[0] + self._jitter_s)

    def _needed_offset_s(self) -> float:
        return self._usual_offset_s + 1 / self.frame_rate_hz + _MARGIN_S

    def _store(self, index: int, values: F32, emit_time_s: float) -> None:
        if index <= self._newest:
            return  # frames are sent once, in order
        if self._newest >= 0:
            self.dropped += index - self._newest - 1
        self.received += 1
        if index / self.frame_rate_hz < self._last_pts_s:
            self.late += 1
        slot = index % self.capacity_frames
        self._indices[slot], self._emits[slot] = index, emit_time_s
        self._values[slot] = values
        self._newest = index
        self._oldest = index if self._oldest < 0 else max(self._oldest, index - self.capacity_frames + 1)
        while not self._has(self._oldest):
            self._oldest += 1
