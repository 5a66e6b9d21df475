"""Whether a stream's frames keep to its audio: counted by whoever listens, exactly, in samples.

A speaker notes in ``Spoken`` what it has sent of each epoch; every ``Listener`` of its stream holds what
arrives against it, as it arrives, so that a run that is cut short has counted all the same. Rules, all exact:

1. Every frame of an epoch comes once and in order, from 0 (who joins later: from its first one) up to the
   last one that ``interrupted`` or ``ended`` names. Those that do not come in their turn are *lost*.
2. A frame's pts is its number over the frame rate: what it is off by is *drift*, in samples of the model.
3. ``ended`` names as much audio as was sent, and as many frames as that audio has. Speakers stop at whole
   tenths of a second, which are whole frames, so that frames × samples per frame equals the audio.
4. No frame comes before the audio that it hears was sent: a face ahead of its audio has drifted.

While a stream runs its frames lag what was sent, by chunks, hops and computing, which vary. The *lag* is the
least of that in an interval, which hardly varies: clocks that drift apart would make it grow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from streamer.contract import wire


@dataclass
class Spoken:
    """What a speaker has sent.

    Attributes:
        rate_hz: of its audio. samples: sent of each epoch. begins_s: when each epoch's first sample existed.
        is_over: whether it has said that nothing follows.
    """

    rate_hz: int
    samples: list[int] = field(default_factory=list)
    begins_s: list[float] = field(default_factory=list)
    is_over: bool = False

    def begin_epoch(self, at_s: float) -> None:
        """What is sent from now on is a new epoch's."""
        self.samples.append(0)
        self.begins_s.append(at_s)


@dataclass
class Counted:
    """What all listeners counted together.

    Attributes:
        frames: that came. lost: that did not come in their turn.
        drift: the most samples that the two clocks were ever apart.
        endings: how often ``ended`` was held against what was sent. longest_s: the longest epoch of those.
    """

    frames: int = 0
    lost: int = 0
    drift: float = 0.0
    endings: int = 0
    longest_s: float = 0.0


class Listener:
    """One connection's account of one stream.

    Args:
        welcome: what the server said of the stream. spoken: what its speaker sends, read as it grows.
        counted: where to count.

    Attributes:
        lag_samples: how far the frames lagged what was sent, the least since it was last set to None.
    """

    def __init__(self, welcome: wire.Welcome, spoken: Spoken, counted: Counted) -> None:
        self.lag_samples: float | None = None
        self._spoken = spoken
        self._counted = counted
        self._rate_hz = welcome.sample_rate_hz
        self._frame = Fraction(welcome.sample_rate_hz, welcome.frame_rate_hz)  # samples of one frame
        self._lookahead = round(welcome.lookahead_ms * welcome.sample_rate_hz / 1000)
        self._epoch = welcome.epoch
        self._next = None if welcome.role == "watch" else 0

    def frames(self, block: wire.Frames) -> None:
        """Takes a block of frames."""
        count, due = len(block.values), block.first_frame if self._next is None else self._next
        self._counted.frames += count
        if block.epoch != self._epoch or block.first_frame < due:
            self._counted.lost += count
            return
        self._counted.lost += block.first_frame - due
        self._next = block.first_frame + count
        self._drifted(block.pts_s * self._rate_hz - float(block.first_frame * self._frame))
        if block.flags & wire.FLAG_EASED or self._spoken.is_over:
            return  # the mouth that closes, and the tail, hear nothing that is still to come
        lag = self._sent(block.epoch) - self._lookahead - float((self._next - 1) * self._frame)
        self._drifted(min(0.0, lag + 1))  # instants are rounded down to samples
        self.lag_samples = lag if self.lag_samples is None else min(lag, self.lag_samples)

    def interrupted(self, message: wire.Interrupted) -> None:
        """An epoch was cut short."""
        if self._next is not None:
            self._counted.lost += abs(message.last_frame + 1 - self._next)
        self._epoch, self._next = message.epoch, 0

    def ended(self, message: wire.Ended) -> None:
        """The stream is over."""
        if self._next is not None:
            self._counted.lost += abs(message.frames - self._next)
        heard = message.audio_s * self._rate_hz
        self._drifted(heard - self._sent(message.epoch))
        self._drifted(float(message.frames * self._frame) - heard)
        self._counted.endings += 1
        self._counted.longest_s = max(self._counted.longest_s, message.audio_s)

    def _sent(self, epoch: int) -> int:
        """What was sent of an epoch, in the model's samples."""
        return -(-self._spoken.samples[epoch] * self._rate_hz // self._spoken.rate_hz)

    def _drifted(self, samples: float) -> None:
        # Times travel as floats: what they are off by below a thousandth of a sample is not the clocks'.
        self._counted.drift = max(self._counted.drift, round(abs(samples), 3))
