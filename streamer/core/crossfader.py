"""Joins overlapping segments into one run of frames: the output half of the way of the data.

A segment predicts its hop and, past it, the lookahead. Those extra frames are no waste: they say where the
face was heading when less of the future was known. The next segment predicts the same frames again, and
over them the older prediction fades into the newer one, so that no seam shows::

    segment k      |---- hop k ----|~~ lookahead ~~|
    segment k+1                    |---- hop k+1 ----|~~ lookahead ~~|
    weight of k+1                  0 ......ramp.....1 1 1

State: the blended prediction of the frames not yet emitted (a recursive overlap-add), the number of the
next frame, the last frame emitted, and the last ``prefix_frames`` of them as the model's clean motion
prefix.

Rules
1. What is emitted depends on the segments alone; a weight is a function of the frame's position alone.
2. Segments of an old epoch are dropped and counted. Any other segment that is not the next one raises.
3. Frames are emitted in order, each exactly once.
4. ``ease`` ends an epoch: the face comes to rest, and only ``reset`` is legal after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.contract.grid import Grid
from streamer.core.windower import Window

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrameBlock:
    """Consecutive frames, ready to be shown.

    Attributes:
        epoch: the epoch they belong to. first_frame: the number of the first one within it.
        pts_s: its time on the epoch's audio clock, in seconds.
        values: float32 (n, C) in output units.
        eased: they were eased toward rest after an interrupt, not denoised.
        last: no frame of the epoch follows.
    """

    epoch: int
    first_frame: int
    pts_s: float
    values: F32
    eased: bool = False
    last: bool = False


def ramp(frames: int) -> F32:
    """The newer segment's weight over the ``frames`` positions where two predictions meet, float32 (frames,).

    The older prediction keeps 0.3 of the first frame and a quarter of that of each next one: it is there to
    take the edge off a seam, while the newer one has heard more and is right more often. The figures that
    chose this are in docs/decisions/0003-the-crossfade-trusts-the-newer-window.md.
    """
    weights: F32 = (1 - 0.3 * 0.25 ** np.arange(frames)).astype(np.float32)
    return weights


def rest_curve(frames: int) -> F32:
    """How much of a pose remains in each of ``frames`` frames on its way to rest: falls to exactly 0."""
    positions = np.arange(1, frames + 1) / frames
    remaining: F32 = (1 - positions**2 * (3 - 2 * positions)).astype(np.float32)
    return remaining


class Crossfader:
    """Segments in, frames out, for one speaker.

    Args:
        grid: the time base.
        channels: values in one frame.
        prefix_frames: how many emitted frames the model is given back as its prefix.
        epoch: the number of the first epoch.
    """

    def __init__(self, grid: Grid, channels: int, prefix_frames: int, epoch: int = 0) -> None:
        self._grid = grid
        self._channels = channels
        self._prefix_frames = prefix_frames
        self.dropped_segments = 0
        self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._next_frame = 0
        self._closed = False
        self._future = np.zeros((0, self._channels), np.float32)  # from _next_frame on
        self._history = np.zeros((0, self._channels), np.float32)  # up to _next_frame
        self._pose = np.zeros(self._channels, np.float32)

    @property
    def epoch(self) -> int:
        """The current epoch's number."""
        return self._epoch

    @property
    def next_frame(self) -> int:
        """The number of the next frame to emit: as many were emitted in this epoch."""
        return self._next_frame

    def push(self, window: Window, motion: F32) -> FrameBlock | None:
        """Takes a segment and emits its window's hop.

        Args:
            window: the window that the segment answers.
            motion: float32 (grid.segment_frames, C).

        Returns:
            The frames ``window.emit_start … window.emit_stop − 1``; None where the epoch is over.

        Raises:
            ValueError: the motion's shape is wrong.
            RuntimeError: the segment is not the next one of its epoch.
        """
        if motion.shape != (self._grid.segment_frames, self._channels):
            raise ValueError(
                f"a segment of {motion.shape} is not {self._grid.segment_frames, self._channels}"
            )
        if window.epoch < self._epoch:
            self.dropped_segments += 1
            return None
        self._expect(window)

        predicted = motion[window.emit_start - window.first_frame :]
        overlap = min(len(self._future), len(predicted))
        blended = predicted.astype(np.float32, copy=True)
        older = self._future[:overlap]
        # As a step from the older value, which keeps the result between the two even when rounded.
        blended[:overlap] = older + ramp(len(self._future))[:overlap, None] * (predicted[:overlap] - older)

        count = window.emit_stop - window.emit_start
        self._future = blended[count:]
        return self._emit(blended[:count].copy(), eased=False, last=window.is_last)

    def prefix(self, window: Window) -> tuple[F32, F32]:
        """The frames already emitted, laid out for the next segment.

        Returns:
            Values float32 (T, C), zero where nothing is known, and a mask float32 (T,), 1 where they hold.

        Raises:
            RuntimeError: the window is not the next one of its epoch.
        """
        self._expect(window)
        values = np.zeros((self._grid.segment_frames, self._channels), np.float32)
        mask = np.zeros(self._grid.segment_frames, np.float32)
        stop = window.emit_start - window.first_frame
        known = min(len(self._history), stop)
        values[stop - known : stop] = self._history[len(self._history) - known :]
        mask[stop - known : stop] = 1
        return values, mask

    def ease(self, frames: int = 3) -> FrameBlock:
        """Ends the epoch early: brings the last emitted frame to rest (all zeros) in ``frames`` frames.

        Every value moves monotonically, and the last frame is exactly zero.

        Raises:
            ValueError: fewer than one frame.
            RuntimeError: the epoch is over already.
        """
        if frames < 1:
            raise ValueError("coming to rest takes at least one frame")
        if self._closed:
            raise RuntimeError("the epoch is over")
        return self._emit(rest_curve(frames)[:, None] * self._pose, eased=True, last=True)

    def reset(self, epoch: int) -> None:
        """Forgets every frame and begins another epoch at frame 0.

        Raises:
            ValueError: the epoch's number does not grow.
        """
        if epoch <= self._epoch:
            raise ValueError(f"epoch {epoch} does not follow {self._epoch}")
        self._begin(epoch)

    # ---- inside ----

    def _expect(self, window: Window) -> None:
        if self._closed or window.epoch != self._epoch or window.emit_start != self._next_frame:
            raise RuntimeError(
                f"frame {window.emit_start} of epoch {window.epoch} does not follow: "
                f"expected {self._next_frame} of {self._epoch}"
            )

    def _emit(self, values: F32, *, eased: bool, last: bool) -> FrameBlock:
        first = self._next_frame
        self._next_frame += len(values)
        self._closed = last
        self._pose = values[-1].copy()
        if self._prefix_frames:
            self._history = np.concatenate([self._history, values])[-self._prefix_frames :]
        return FrameBlock(self._epoch, first, self._grid.frame_time_s(first), values, eased, last)
