"""Where samples and frames meet: the only sample↔frame arithmetic in the project.

A frame is the face at one instant. Frame ``i`` of an epoch stands at ``i / frame_rate_hz`` seconds, which is
sample ``floor(i · sample_rate_hz / frame_rate_hz)``; 16000/30 is not whole, so every conversion starts again
from an absolute index, in integers, and nothing accumulates.

A window is the ``window_samples`` samples that end ``tail_samples`` after its newest frame. The model answers
it with a segment of ``segment_frames`` frames, the newest of which has heard only the tail of its future. The
lookahead is the choice of how many of those newest frames to hold back::

    samples  |------------------------ window_samples -----------------------|
    frames         |---- context ----|---- hop ----|---- lookahead ----|tail->|
                    segment_frames in all; only the hop is emitted

so one graph of fixed size serves every lookahead, and lookahead costs latency, never compute.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """The time base of a bundle.

    Attributes:
        sample_rate_hz: PCM rate of the model's input.
        frame_rate_hz: frames per second of the model's output.
        window_samples: samples in one window.
        tail_samples: samples of a window after the instant of its newest frame.
        segment_frames: frames in one segment.

    Raises:
        ValueError: a size is not positive, or the segment does not fit into the window.
    """

    sample_rate_hz: int
    frame_rate_hz: int
    window_samples: int
    tail_samples: int
    segment_frames: int

    def __post_init__(self) -> None:
        if min(self.sample_rate_hz, self.frame_rate_hz, self.window_samples, self.segment_frames) < 1:
            raise ValueError("rates and sizes must be positive")
        if self.tail_samples < 0:
            raise ValueError("tail_samples must not be negative")
        if self.frame_sample(self.segment_frames - 1) + self.tail_samples > self.window_samples:
            raise ValueError("the segment's frames do not fit into the window's samples")

    def frame_sample(self, frame: int) -> int:
        """The sample index of a frame's instant (rounded down; frames may be negative)."""
        return frame * self.sample_rate_hz // self.frame_rate_hz

    def frame_time_s(self, frame: int) -> float:
        """The time of a frame on its epoch's audio clock, in seconds."""
        return frame / self.frame_rate_hz

    def frames_within(self, samples: int) -> int:
        """How many frames stand within ``samples`` samples: those with ``frame_sample(i) < samples``."""
        return -(-samples * self.frame_rate_hz // self.sample_rate_hz) if samples > 0 else 0

    def window_end(self, newest_frame: int) -> int:
        """The sample index just past the window whose newest frame is ``newest_frame``."""
        return self.frame_sample(newest_frame) + self.tail_samples

    def lookahead_samples(self, lookahead_frames: int) -> int:
        """Future audio, in samples, that the newest emitted frame has heard at this lookahead."""
        return self.frame_sample(lookahead_frames) + self.tail_samples

    def lookahead_ms(self, lookahead_frames: int) -> float:
        """The same in milliseconds."""
        return 1000 * self.lookahead_samples(lookahead_frames) / self.sample_rate_hz

    def lookahead_frames(self, lookahead_ms: float) -> int:
        """The held-back frames whose lookahead lies nearest to ``lookahead_ms`` (never negative)."""
        tail_ms = 1000 * self.tail_samples / self.sample_rate_hz
        return max(0, round((lookahead_ms - tail_ms) * self.frame_rate_hz / 1000))

    def hop_ms(self, hop_frames: int) -> float:
        """The length of a hop in milliseconds."""
        return 1000 * hop_frames / self.frame_rate_hz

    def hop_frames(self, hop_ms: float) -> int:
        """The whole number of frames nearest to ``hop_ms`` (at least one)."""
        return max(1, round(hop_ms * self.frame_rate_hz / 1000))

    def context_frames(self, hop_frames: int, lookahead_frames: int) -> int:
        """Frames of a segment that lie before its hop."""
        return self.segment_frames - hop_frames - lookahead_frames
