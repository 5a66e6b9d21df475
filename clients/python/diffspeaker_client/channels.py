"""The 52 ARKit channels, in Apple's order, the four regions of the face, and what is left and right.

A stream names its own channels in its welcome. This list is what other programs expect: the order of Live
Link's values, the names that an avatar's "perfect sync" shapes have. ``clients/web/src/avatar/channels.js``
has the same regions.
"""

from __future__ import annotations

_SIDES = ("Left", "Right")


def _pairs(*stems: str) -> list[str]:
    return [stem + side for stem in stems for side in _SIDES]


ARKIT: tuple[str, ...] = (
    *(
        f"eye{what}{side}"
        for side in _SIDES
        for what in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
    ),
    *("jawForward", "jawLeft", "jawRight", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight"),
    *_pairs("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_pairs("mouthPress", "mouthLowerDown", "mouthUpperUp"),
    *_pairs("browDown"),
    "browInnerUp",
    *_pairs("browOuterUp"),
    "cheekPuff",
    *_pairs("cheekSquint", "noseSneer"),
    "tongueOut",
)

REGIONS = ("mouth", "eyes", "brows", "cheeks")
"""``mouth`` holds the jaw and the tongue, ``cheeks`` the nose."""


def region_of(channel: str) -> str:
    """The region that an ARKit channel moves, one of ``REGIONS``."""
    if channel.startswith("eye"):
        return "eyes"
    if channel.startswith("brow"):
        return "brows"
    return "cheeks" if channel.startswith(("cheek", "nose")) else "mouth"


def channels_of(region: str) -> tuple[str, ...]:
    """The channels of a region, in ARKit's order."""
    return tuple(channel for channel in ARKIT if region_of(channel) == region)


def mirrored(channel: str) -> str:
    """The channel that a mirror makes of this one: left is right, what has no side is itself."""
    for side, other in (_SIDES, _SIDES[::-1]):
        if channel.endswith(side):
            return channel.removesuffix(side) + other
    return channel
