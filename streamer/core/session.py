"""One speaker, from samples to frames: windower, pending windows and crossfader under one lifecycle.

::

    feed → resampler → windower → pending → next_request ··· the engine ··· complete → crossfader → frames

Lifecycle: IDLE (an epoch without audio yet) → STREAMING → DRAINING (a tail to denoise) → CLOSED.

Rules
1. ``feed`` is legal in IDLE and STREAMING; the first one moves IDLE to STREAMING.
2. ``end`` is legal in IDLE and STREAMING and moves to DRAINING; without a tail, straight on to CLOSED.
3. The tail's last segment moves DRAINING to CLOSED.
4. One request is out at a time: ``next_request`` is None until ``complete`` has answered the one before,
   because a request holds the frames emitted so far as its prefix.
5. ``interrupt`` is legal until CLOSED. It drops what is pending, eases the face to rest, and begins the next
   epoch in IDLE; in DRAINING nothing can follow, so it moves to CLOSED. A request still out stays out, and
   its answer is dropped.
6. ``set_style`` is legal until CLOSED and holds from the next request on.
7. ``next_request(catch_up=True)`` lets the newest pending window speak for the older ones as well, as far
   back as the model was taught to (its longest hop and lookahead): one segment holds the frames of all.
8. ``give_back`` takes back a request that could not be answered: its window is the next one again.
9. An illegal call raises RuntimeError, a value that a user chose badly raises FaceError; neither changes
   anything.

The pending windows are bounded by the caller: stop reading audio while ``wants_audio`` is false. Frames are
a function of the samples, the options and where ``set_style``, ``interrupt`` and catching up fell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.manifest import Manifest
from streamer.core import noise
from streamer.core.crossfader import Crossfader, FrameBlock
from streamer.core.options import SessionOptions, style_vector
from streamer.core.resampler import Resampler
from streamer.core.windower import Window, Windower

F32 = npt.NDArray[np.float32]

EASE_S = 0.1
HIGH_WATER_WINDOWS = 4


class State(Enum):
    """Where a session stands in its life."""

    IDLE = "idle"
    STREAMING = "streaming"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, eq=False)
class WindowRequest:
    """A window with everything that the model needs; the sizes are ``streamer.contract.manifest.Model``'s.

    Attributes:
        window: the samples and the frame numbers.
        noise: float32 (T, N). prefix: float32 (T, C). prefix_mask: float32 (T,). style: float32 (S,).
    """

    window: Window
    noise: F32
    prefix: F32
    prefix_mask: F32
    style: F32

    @property
    def audio(self) -> F32:
        """The window's samples, float32 (window_samples,)."""
        return self.window.samples

    @property
    def epoch(self) -> int:
        """The epoch of the window."""
        return self.window.epoch


class Session:
    """A speaker's way from samples to frames.

    Args:
        manifest: the bundle's manifest.
        options: what was chosen for this session.
    """

    def __init__(self, manifest: Manifest, options: SessionOptions) -> None:
        self.manifest = manifest
        self.options = options
        self.grid = manifest.timing.grid()
        self._style = dict(options.style)
        self._style_vector = style_vector(options.style, manifest)
        self._resampler = Resampler(options.sample_rate_hz, self.grid.sample_rate_hz)
        self._windower = Windower(self.grid, options.hop_frames, options.lookahead_frames)
        self._crossfader = Crossfader(self.grid, manifest.frame_width, manifest.timing.prefix_frames)
        timing = manifest.timing
        # A window's newest frame and the oldest that it emits may be as far apart as the model was taught.
        self._reach_frames = timing.hop.max_frames + timing.lookahead.max_frames - options.lookahead_frames
        self._joined = 0
        self._pending: deque[Window] = deque()
        self._out: WindowRequest | None = None
        self._state = State.IDLE

    # ---- what it is now ----

    @property
    def state(self) -> State:
        """Where the session stands in its life."""
        return self._state

    @property
    def epoch(self) -> int:
        """The current epoch's number."""
        return self._windower.epoch

    @property
    def style(self) -> dict[str, float]:
        """The weights in force."""
        return dict(self._style)

    @property
    def pending_windows(self) -> int:
        """Windows that wait for their turn, without the one that is out."""
        return len(self._pending)

    @property
    def wants_audio(self) -> bool:
        """Whether more audio is welcome: false at the high-water mark of pending windows."""
        return len(self._pending) < HIGH_WATER_WINDOWS

    @property
    def is_drained(self) -> bool:
        """Whether every frame of an ended session was emitted."""
        return self._state is State.CLOSED

    @property
    def emitted_frames(self) -> int:
        """Frames of the current epoch that were emitted."""
        return self._crossfader.next_frame

    @property
    def dropped_segments(self) -> int:
        """Segments that came back after their epoch was over."""
        return self._crossfader.dropped_segments

    @property
    def joined_windows(self) -> int:
        """Windows that were left to a newer one by catching up."""
        return self._joined

    @property
    def audio_s(self) -> float:
        """Seconds of audio that the current epoch has received, as far as they are resampled."""
        return self._windower.received_samples / self.grid.sample_rate_hz

    @property
    def delay_s(self) -> float:
        """How far the face must lag live audio to be smooth, in seconds, before computing and the network.

        The lookahead and the resampler's delay are waited for by every frame, and the hop by its oldest one.
        """
        lookahead_ms = self.grid.lookahead_ms(self.options.lookahead_frames)
        hop_ms = self.grid.hop_ms(self.options.hop_frames)
        return (lookahead_ms + hop_ms) / 1000 + self._resampler.delay_s

    # ---- what happens to it ----

    def feed(self, samples: F32) -> F32:
        """Takes audio at the options' rate: float32 (n,), mono; values beyond ±1 are clipped.

        Returns:
            The next samples as the model hears them: float32 (m,) at the grid's rate, in [-1, 1].

        Raises:
            FaceError: ``bad_audio_values``, a sample is NaN or infinite.
            ValueError: not float32 (n,).
            RuntimeError: the session takes no more audio (rule 1).
        """
        if self._state not in (State.IDLE, State.STREAMING):
            raise RuntimeError(f"a {self._state.value} session takes no audio")
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"samples must be float32 (n,), not {samples.dtype} {samples.shape}")
        if not np.isfinite(samples).all():
            raise FaceError("bad_audio_values", "The audio holds NaN or infinite samples.")
        self._state = State.STREAMING
        # Before the resampler, so that nothing overflows in it, and after, where it overshoots.
        heard: F32 = np.clip(self._resampler.push(np.clip(samples, -1, 1)), -1, 1)
        self._pending.extend(self._windower.push(heard))
        return heard

    def end(self) -> F32:
        """No more audio: what is left becomes the tail's windows.

        Returns:
            The last samples as the model hears them, as ``feed`` does.

        Raises:
            RuntimeError: it was called before (rule 2).
        """
        if self._state not in (State.IDLE, State.STREAMING):
            raise RuntimeError(f"a {self._state.value} session has ended already")
        heard: F32 = np.clip(self._resampler.finish(), -1, 1)
        self._pending.extend(self._windower.push(heard))
        self._pending.extend(self._windower.finish())
        self._state = State.DRAINING
        self._close_if_drained()
        return heard

    def next_request(self, catch_up: bool = False) -> WindowRequest | None:
        """The next window to denoise; None while one is out or none is pending.

        Args:
            catch_up: denoise several pending windows as one, because their frames are late already.
        """
        if self._out is not None or not self._pending:
            return None
        window = self._pending.popleft()
        while catch_up and self._pending:
            newer = self._pending[0]
            if newer.emit_stop - window.emit_start > self._reach_frames:
                break
            window = replace(self._pending.popleft(), emit_start=window.emit_start)
            self._joined += 1
        values, mask = self._crossfader.prefix(window)
        frames, width = self.grid.segment_frames, self.manifest.noise_width
        normal = noise.for_frames(self.options.seed, window.epoch, window.first_frame, frames, width)
        self._out = WindowRequest(window, normal, values, mask, self._style_vector)
        return self._out

    def complete(self, request: WindowRequest, motion: F32) -> FrameBlock | None:
        """Takes the model's answer, float32 (T, C), and emits the request's frames, clipped to the range.

        Returns:
            The frames; None where the request's epoch is over.

        Raises:
            FaceError: ``inference_failed``, the motion is not finite.
            ValueError: the motion's shape is wrong.
            RuntimeError: this request is not out (rule 4).
        """
        if request is not self._out:
            raise RuntimeError("this request is not out")
        limits = self.manifest.motion
        if request.epoch == self.epoch and not np.isfinite(motion).all():
            raise FaceError("inference_failed", "The model answered with values that are not finite.")
        block = self._crossfader.push(request.window, np.clip(motion, limits.minimum, limits.maximum))
        self._out = None
        self._close_if_drained()
        return block

    def give_back(self, request: WindowRequest) -> None:
        """The request was not answered and may be asked again (rule 8).

        Raises:
            RuntimeError: this request is not out (rule 4).
        """
        if request is not self._out:
            raise RuntimeError("this request is not out")
        self._out = None
        if request.epoch == self.epoch and self._state is not State.CLOSED:
            self._pending.appendleft(request.window)
        self._close_if_drained()

    def interrupt(self) -> tuple[FrameBlock, int]:
        """Drops what is pending and closes the mouth within 100 ms.

        Returns:
            The old epoch's last frames, which come to rest, and the new epoch's number.

        Raises:
            RuntimeError: the session is closed.
        """
        if self._state is State.CLOSED:
            raise RuntimeError("a closed session cannot be interrupted")
        eased = self._crossfader.ease(max(1, int(EASE_S * self.grid.frame_rate_hz)))
        epoch = self.epoch + 1
        self._pending.clear()
        self._resampler.reset()
        self._windower.reset(epoch)
        self._crossfader.reset(epoch)
        self._state = State.CLOSED if self._state is State.DRAINING else State.IDLE
        return eased, epoch

    def set_style(self, weights: Mapping[str, float]) -> int:
        """Changes the style; returns the first frame of the current epoch that has it.

        Raises:
            FaceError: ``bad_option``, a name is unknown or a weight is not a finite number of at least 0.
            RuntimeError: the session is closed.
        """
        if self._state is State.CLOSED:
            raise RuntimeError("a closed session has no style")
        self._style_vector = style_vector(weights, self.manifest)
        self._style = dict(weights)
        return self._pending[0].emit_start if self._pending else self._windower.next_frame

    def _close_if_drained(self) -> None:
        if self._state is State.DRAINING and not self._pending and self._out is None:
            self._state = State.CLOSED
