"""VRM 0.x expressions from ARKit coefficients: ``A I U E O`` and the blinks. Pure.

An avatar made for VRM 0.x has at least these, each a weight of 0 to 1; VMC senders must use their names. The
vowels are the Japanese あいうえお (VRM's specification, "expressions"): I as in *see*, U as in *food*, E as
in *bed*. They are read from three measures of the lips, each 0 to 1:

- open: jawOpen and half of the lips' own parting, over 0.85;
- width: mouthStretch and mouthDimple over 0.44, less mouthPucker and 0.8 mouthFunnel over 0.9, so −1 is round
  and +1 is drawn wide; a smile is no vowel;
- contact: mouthClose as a share of jawOpen, or pressed or rolled lips (M, B, P); the lower lip rolled in
  further than the upper lies under the teeth (F, V).

Vowels stand on a fan around the closed mouth, at (open, width): U (0.18, −1), O (0.57, −0.75), A (1, 0), E
(0.84, 0.51), I (0.48, 1). A mouth between two neighbours is the one mixture of them that has its opening and
its width, scaled to at most 1; beyond the fan it is the last vowel alone. Contact is taken off all of them.

The rule and its numbers are ``clients/web/src/avatar/visemes.js``, which says where they come from; a test
holds this file to ``streamer/engine/animation/expressions.py``, which writes the same into files. ``Blink``
is what both lids have in common, ``Blink_L`` and ``Blink_R`` what one has beyond, because avatars add them
up.

Not derived: ``Joy Angry Sorrow Fun``, because speech does not tell a mood and a 0 would fight the keys that
their owner presses for them; ``Look…``, because where the eyes look is sent in other ways.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diffspeaker_client.channels import ARKIT

F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

VOWELS = ("A", "I", "U", "E", "O")
BLINKS = ("Blink", "Blink_L", "Blink_R")
VRM0 = (*VOWELS, *BLINKS)

_OPEN_FULL, _SPREAD_FULL, _ROUND_FULL, _FUNNEL_SHARE = 0.85, 0.44, 0.9, 0.8
# From round to wide: the vowel, how open, how wide.
_FAN = (("U", 0.18, -1.0), ("O", 0.57, -0.75), ("A", 1.0, 0.0), ("E", 0.84, 0.51), ("I", 0.48, 1.0))
_PLACES = {name: place for place, name in enumerate(ARKIT)}
_MOUTH, _LIDS = _PLACES["jawOpen"], (_PLACES["eyeBlinkLeft"], _PLACES["eyeBlinkRight"])


def expressions(coefficients: F32, driven: Flags) -> dict[str, float]:
    """The weights of ``VRM0``, by name, each in [0, 1]; the vowels' sum is at most 1.

    Args:
        coefficients: float32 (52,) by ``ARKIT``, each in [0, 1].
        driven: bool (52,), what is moved at all. The vowels are given where the jaw is, the blinks where both
            lids are; what is not given belongs to somebody else.
    """
    weights: dict[str, float] = {}
    if driven[_MOUTH]:
        weights |= _vowels(coefficients)
    if all(driven[lid] for lid in _LIDS):
        left, right = (float(coefficients[lid]) for lid in _LIDS)
        shared = min(left, right)
        weights |= {"Blink": shared, "Blink_L": left - shared, "Blink_R": right - shared}
    return weights


def _vowels(coefficients: F32) -> dict[str, float]:
    def one(name: str) -> float:
        return float(coefficients[_PLACES[name]])

    def both(stem: str) -> float:
        return (one(f"{stem}Left") + one(f"{stem}Right")) / 2

    jaw, parting = one("jawOpen"), (both("mouthLowerDown") + both("mouthUpperUp")) / 2
    rounded = _unit((one("mouthPucker") + _FUNNEL_SHARE * one("mouthFunnel")) / _ROUND_FULL)
    spread = _unit((both("mouthStretch") + both("mouthDimple")) / _SPREAD_FULL)
    lower, upper = one("mouthRollLower"), one("mouthRollUpper")
    pressed = 2.5 * (both("mouthPress") + min(lower, upper))
    sealed = _unit(max(one("mouthClose") / max(jaw, 0.1), pressed))
    tucked = (1 - sealed) * _unit(1.8 * (lower - upper) - 0.2)
    mixture = _mixture(_unit((jaw + parting) / _OPEN_FULL), spread - rounded)
    return {name: mixture.get(name, 0.0) * (1 - sealed - tucked) for name in VOWELS}


def _mixture(opened: float, wide: float) -> dict[str, float]:
    """The fan's vowels in a mouth so open, in [0, 1], and so wide, in [−1, 1]; those not named are 0."""
    name, last_open, last_wide = _FAN[0] if wide < 0 else _FAN[-1]
    if wide != 0 and opened * abs(last_wide) <= last_open * abs(wide):
        # Puckered lips are round even when they barely part; drawn back, closed ones are closed.
        return {name: min(1.0, -wide if wide < 0 else opened / last_open)}
    for (first, ax, ay), (second, bx, by) in zip(_FAN, _FAN[1:], strict=False):
        area = ax * by - ay * bx
        a, b = (opened * by - wide * bx) / area, (ax * wide - ay * opened) / area
        if a >= -1e-9 and b >= -1e-9:
            scale = 1 / max(1.0, a + b)
            return {first: max(0.0, scale * a), second: max(0.0, scale * b)}
    return {}


def _unit(value: float) -> float:
    """Kept within 0 and 1."""
    return min(max(value, 0.0), 1.0)
