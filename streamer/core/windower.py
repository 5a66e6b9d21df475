"""Cuts an endless run of samples into overlapping windows: the intake half of the way of the data.

Window ``k`` emits the frames ``k·hop … (k+1)·hop − 1``. Its segment reaches ``lookahead`` frames further,
and its samples end ``grid.tail_samples`` after the segment's newest frame (see ``streamer.contract.grid``).
A window is cut as soon as its last sample is there; before the epoch's first sample there is silence.

State: one buffer of two windows' length. Samples are written behind each other; when it is full its newer
half moves to the front, so memory is bounded and no call allocates anything but the windows it returns.

Rules
1. Windows depend on the samples alone, never on how they were chunked.
2. ``finish`` pads with silence until every frame within the received samples was emitted exactly once:
   ``grid.frames_within(n)`` frames for ``n`` samples, the last hop cut short.
3. After ``finish`` only ``reset`` is legal. An illegal call raises and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.contract.grid import Grid

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Window:
    """One cut of the audio and the frames it stands for.

    Attributes:
        epoch: the epoch it belongs to. index: its number within the epoch.
        first_frame: the oldest frame of its segment; negative near the start of an epoch.
        emit_start: the first frame to emit. emit_stop: the frame after the last one to emit.
        samples: float32 (grid.window_samples,), its own copy.
        is_last: nothing of this epoch comes after it.
    """

    epoch: int
    index: int
    first_frame: int
    emit_start: int
    emit_stop: int
    samples: F32
    is_last: bool = False


class Windower:
    """Samples in, windows out, for one speaker.

    Args:
        grid: the time base.
        hop_frames: frames that each window emits, at least 1.
        lookahead_frames: frames held back at the end of each segment, at least 0.
        epoch: the number of the first epoch.

    Raises:
        ValueError: hop and lookahead do not fit into a segment.
    """

    def __init__(self, grid: Grid, hop_frames: int, lookahead_frames: int, epoch: int = 0) -> None:
        if hop_frames < 1 or lookahead_frames < 0:
            raise ValueError("the hop is at least one frame and the lookahead is not negative")
        if hop_frames + lookahead_frames > grid.segment_frames:
            raise ValueError("hop and lookahead do not fit into a segment")
        self._grid = grid
        self._hop = hop_frames
        self._lookahead = lookahead_frames
        self._buffer = np.zeros(2 * grid.window_samples, np.float32)
        self._begin(epoch)

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._index = 0
        self._received = 0
        self._finished = False
        # The buffer begins with a window of silence, so sample 0 of the epoch lies at this place.
        self._origin = self._filled = self._grid.window_samples
        self._buffer[: self._filled] = 0

    @property
    def epoch(self) -> int:
        """The current epoch's number."""
        return self._epoch

    @property
    def received_samples(self) -> int:
        """Samples of the current epoch so far, without padding."""
        return self._received

    @property
    def next_frame(self) -> int:
        """The first frame that the next window will emit."""
        return self._index * self._hop

    def push(self, samples: F32) -> list[Window]:
        """Takes samples, float32 (n,), and returns the windows that they complete.

        Raises:
            ValueError: not float32 (n,).
            RuntimeError: the epoch is finished.
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"samples must be float32 (n,), not {samples.dtype} {samples.shape}")
        if self._finished:
            raise RuntimeError("the epoch is finished")
        self._received += len(samples)
        return self._write(samples, last_frame=None)

    def finish(self) -> list[Window]:
        """Ends the epoch and returns the windows of its tail; the last one says so in ``is_last``.

        The list is empty where every frame was emitted already, which needs a lookahead below one frame.

        Raises:
            RuntimeError: the epoch is finished already.
        """
        if self._finished:
            raise RuntimeError("the epoch is finished")
        self._finished = True
        frames = self._grid.frames_within(self._received)
        windows: list[Window] = []
        while self.next_frame < frames:
            missing = self._due() - self._written()
            silence = np.zeros(min(missing, self._grid.window_samples), np.float32)
            windows += self._write(silence, last_frame=frames)
        return windows

    def reset(self, epoch: int) -> None:
        """Drops everything and begins another epoch, whose sample 0 is the next one pushed.

        Raises:
            ValueError: the epoch's number does not grow.
        """
        if epoch <= self._epoch:
            raise ValueError(f"epoch {epoch} does not follow {self._epoch}")
        self._begin(epoch)

    # ---- inside ----

    def _written(self) -> int:
        """The epoch's sample index just past what the buffer holds, padding included."""
        return self._filled - self._origin

    def _newest_frame(self) -> int:
        return self.next_frame + self._hop - 1 + self._lookahead

    def _due(self) -> int:
        """How many samples the next window waits for: its own, and one past its newest emitted frame."""
        newest_emitted = self.next_frame + self._hop - 1
        return max(self._grid.window_end(self._newest_frame()), self._grid.frame_sample(newest_emitted) + 1)

    def _write(self, samples: F32, last_frame: int | None) -> list[Window]:
        windows: list[Window] = []
        keep = self._grid.window_samples
        while len(samples):
            if self._filled == len(self._buffer):
                # The next window ends after the newest sample, so it begins within the newer half.
                self._buffer[:keep] = self._buffer[keep:]
                self._filled -= keep
                self._origin -= keep
            piece = samples[: len(self._buffer) - self._filled]
            self._buffer[self._filled : self._filled + len(piece)] = piece
            self._filled += len(piece)
            samples = samples[len(piece) :]
            while self._written() >= self._due() and (last_frame is None or self.next_frame < last_frame):
                windows.append(self._cut(last_frame))
        return windows

    def _cut(self, last_frame: int | None) -> Window:
        newest, start = self._newest_frame(), self.next_frame
        stop = start + self._hop
        end = self._origin + self._grid.window_end(newest)
        window = Window(
            epoch=self._epoch,
            index=self._index,
            first_frame=newest - self._grid.segment_frames + 1,
            emit_start=start,
            emit_stop=stop if last_frame is None else min(stop, last_frame),
            samples=self._buffer[end - self._grid.window_samples : end].copy(),
            is_last=last_frame is not None and stop >= last_frame,
        )
        self._index += 1
        return window
