"""Noise that belongs to frames, not to windows: the same for a frame wherever it is asked for.

Two windows that overlap must start their common frames from the same noise, or they disagree. So noise is no
stream but a function: a counter (seed, epoch, absolute frame, channel) is hashed to 64 bits by a chain of
SplitMix64 finalisers (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), and
the two halves of the bits become one standard normal value by Box and Muller's transform. There is no state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def for_frames(seed: int, epoch: int, first_frame: int, count: int, channels: int) -> F32:
    """Standard normal noise for ``count`` frames from ``first_frame`` on, float32 (count, channels).

    Args:
        seed: any integer; taken modulo 2**64.
        epoch: the epoch's number.
        first_frame: the first absolute frame; may be negative.
        count: how many frames.
        channels: how many values each.
    """
    key = np.array([seed & _WORD], np.uint64)
    key = _mix(_mix(key) + np.uint64(epoch & _WORD))
    frames = np.arange(first_frame, first_frame + count, dtype=np.int64).view(np.uint64)
    rows = _mix(key + frames)
    bits = _mix(rows[:, None] + np.arange(channels, dtype=np.uint64)[None, :] * np.uint64(_GOLDEN))
    # Halves of 32 bits: a radius in (0, 1] whose logarithm is finite, and an angle in [0, 1).
    radius = ((bits >> np.uint64(32)).astype(np.float64) + 1) * 2.0**-32
    angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * 2.0**-32
    normal: F32 = (np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)).astype(np.float32)
    return normal


def _mix(words: U64) -> U64:
    """SplitMix64's step and finaliser, on arrays, which wrap around without complaint."""
    words = words + np.uint64(_GOLDEN)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
