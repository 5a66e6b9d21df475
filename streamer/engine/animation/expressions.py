"""ARKit coefficients as VRM expressions: five vowels, blinks, and where the eyes look.

An avatar made for VRM has at least ``aa ih ou ee oh`` and blinks, each a weight of 0 to 1. The vowels are the
Japanese ones: ih as in *see*, ou as in *food*, ee as in *bed*.

The mouth is read as the page reads it (``clients/web/src/avatar/visemes.js`` says where the numbers come
from; a test holds the two together). Vowels stand on a fan around the closed mouth, by how open and how wide
they are. A mouth between two neighbours is the mixture of these two that has its opening and its width;
beyond the fan it is the last vowel alone. What lips close or tuck under the teeth is taken off all of them,
so M, B, P and F show. A smile is no vowel.

The eyes' 1 is 30° sideways and 25° up or down, as on the page; VRM's look-at fits that to the avatar.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

VOWELS = ("aa", "ih", "ou", "ee", "oh")
PRESETS = (*VOWELS, "blink", "blinkLeft", "blinkRight")

_OPEN_FULL, _SPREAD_FULL, _ROUND_FULL, _FUNNEL_SHARE = 0.85, 0.44, 0.9, 0.8
# From round to wide: the vowel, how open, how wide.
_FAN = (("ou", 0.18, -1.0), ("oh", 0.57, -0.75), ("aa", 1.0, 0.0), ("ee", 0.84, 0.51), ("ih", 0.48, 1.0))
_YAW_DEGREES, _PITCH_DEGREES = 30.0, 25.0


def presets(values: F32, channels: Sequence[str]) -> F32:
    """Weights of ``PRESETS``, float32 (n, 8) in [0, 1], of coefficients (n, C) named by ``channels``.

    The vowels' sum is at most 1. ``blink`` is what both eyes have in common, the sides are what one has
    beyond.
    """
    read = _Reader(values, channels)
    left, right = (_unit(read.one(f"eyeBlink{side}")) for side in ("Left", "Right"))
    shared = np.minimum(left, right)
    blinks = np.stack([shared, left - shared, right - shared], 1)
    return np.concatenate([_vowels(read), blinks], 1).astype(np.float32)


def _vowels(read: _Reader) -> F64:
    """Weights of ``VOWELS``, (n, 5)."""
    one, both = read.one, read.both
    jaw, parting = one("jawOpen"), (both("mouthLowerDown") + both("mouthUpperUp")) / 2
    rounded = _unit((one("mouthPucker") + _FUNNEL_SHARE * one("mouthFunnel")) / _ROUND_FULL)
    spread = _unit((both("mouthStretch") + both("mouthDimple")) / _SPREAD_FULL)
    lower, upper = one("mouthRollLower"), one("mouthRollUpper")
    pressed = 2.5 * (both("mouthPress") + np.minimum(lower, upper))
    sealed = _unit(np.maximum(one("mouthClose") / np.maximum(jaw, 0.1), pressed))
    tucked = (1 - sealed) * _unit(1.8 * (lower - upper) - 0.2)
    mixture = _mixture(_unit((jaw + parting) / _OPEN_FULL), spread - rounded)
    return np.asarray(mixture * (1 - sealed - tucked)[:, None])


def _mixture(opened: F64, wide: F64) -> F64:
    """The fan's vowels in mouths that are so open, (n,) in [0, 1], and so wide, (n,) in [−1, 1]: (n, 5)."""
    mixture = np.zeros((len(opened), len(VOWELS)))
    free = np.ones(len(opened), bool)
    for (name, last_open, last_wide), round_end in ((_FAN[0], True), (_FAN[-1], False)):
        side = wide < 0 if round_end else wide > 0
        beyond = side & (opened * abs(last_wide) <= last_open * np.abs(wide))
        # Puckered lips are round even when they barely part; drawn back, closed ones are closed.
        alone = -wide if round_end else opened / last_open
        mixture[beyond, VOWELS.index(name)] = np.minimum(alone, 1)[beyond]
        free &= ~beyond
    for (first, ax, ay), (second, bx, by) in zip(_FAN, _FAN[1:], strict=False):
        area = ax * by - ay * bx
        a, b = (opened * by - wide * bx) / area, (ax * wide - ay * opened) / area
        between = free & (a >= -1e-9) & (b >= -1e-9)
        scale = 1 / np.maximum(1, a + b)
        mixture[between, VOWELS.index(first)] = np.maximum(0, scale * a)[between]
        mixture[between, VOWELS.index(second)] = np.maximum(0, scale * b)[between]
        free &= ~between
    return mixture


def gaze(values: F32, channels: Sequence[str]) -> F32:
    """Unit quaternions x y z w, float32 (n, 4), that turn +Z to where the eyes look together.

    The face looks along +Z with its own left at +X: looking left turns about +Y, looking down about +X, and
    the sideways turn comes last, as VRM's look-at reads it.
    """
    read = _Reader(values, channels)
    one, both = read.one, read.both
    left = one("eyeLookOutLeft") - one("eyeLookInLeft") + one("eyeLookInRight") - one("eyeLookOutRight")
    down = both("eyeLookDown") - both("eyeLookUp")
    yaw = np.radians(_YAW_DEGREES * left / 2) / 2
    pitch = np.radians(_PITCH_DEGREES * down) / 2
    turns = (
        np.cos(yaw) * np.sin(pitch),
        np.sin(yaw) * np.cos(pitch),
        -np.sin(yaw) * np.sin(pitch),
        np.cos(yaw) * np.cos(pitch),
    )
    return np.stack(turns, 1).astype(np.float32)


class _Reader:
    """Columns of coefficients (n, C) by name; one that is not there is 0."""

    def __init__(self, values: F32, channels: Sequence[str]) -> None:
        self._values = values.astype(np.float64)
        self._places = {name: place for place, name in enumerate(channels)}

    def one(self, name: str) -> F64:
        """One channel, (n,)."""
        place = self._places.get(name)
        return np.zeros(len(self._values)) if place is None else self._values[:, place]

    def both(self, name: str) -> F64:
        """The mean of the left and the right one, (n,)."""
        return np.asarray((self.one(f"{name}Left") + self.one(f"{name}Right")) / 2)


def _unit(values: F64) -> F64:
    """Kept within 0 and 1."""
    return np.clip(values, 0, 1)
