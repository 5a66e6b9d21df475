"""The sizes of the default model, in one place: the network, its training and its export all read them here.

The time base is the bundle's ``Grid`` (see ``streamer.contract.grid``): one second of audio in, 24 frames at
30 fps out. Channels are ARKit's 52 in Apple's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.contract.grid import Grid

GRID = Grid(
    sample_rate_hz=16_000, frame_rate_hz=30, window_samples=16_000, tail_samples=214, segment_frames=24
)
TOKEN_SAMPLES = 320  # the ear hears at 50 Hz: its token j stands at sample 320 j

MAX_HOP_FRAMES = 4
DEFAULT_HOP_FRAMES = 2
MAX_LOOKAHEAD_FRAMES = 9
DEFAULT_LOOKAHEAD_FRAMES = 2
PREFIX_FRAMES = 4

_SIDES = ("Left", "Right")
_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")


def _both(*names: str) -> list[str]:
    return [name + side for name in names for side in _SIDES]


# Apple's order: the fourteen eye channels side by side, then jaw, mouth, brows, cheeks, nose, tongue.
CHANNELS: tuple[str, ...] = (
    *(f"eye{name}{side}" for side in _SIDES for name in _EYE),
    *("jawForward", "jawLeft", "jawRight", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight"),
    *_both("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_both("mouthPress", "mouthLowerDown", "mouthUpperUp"),
    *_both("browDown"),
    "browInnerUp",
    *_both("browOuterUp"),
    "cheekPuff",
    *_both("cheekSquint", "noseSneer"),
    "tongueOut",
)
assert len(CHANNELS) == 52

# The channels whose noise decides something: blinks, glances and brows, of both sides, are read off it
# (``model.articulation.idle_coefficients``). See docs/decisions/0010.
DECIDING_NOISE = (
    *("eyeBlinkLeft", "eyeLookInLeft", "eyeLookUpLeft"),
    *("browInnerUp", "browOuterUpLeft", "mouthSmileLeft"),
)

# What can be turned up and down beside the styles, as factors around 1; the network sees factor − 1.
STYLE_SCALES = ("intensity", "jaw", "lips", "liveliness")
STYLES = ("neutral", "crisp", "relaxed", "energetic", "soft", "cheerful", "serious", "tense")


@dataclass(frozen=True)
class EarShape:
    """The audio encoder: the first ``layers`` layers of a Whisper-tiny encoder over one window."""

    mel_bins: int = 80
    width: int = 384
    heads: int = 6
    feed_forward: int = 1536
    layers: int = 3


@dataclass(frozen=True)
class Shape:
    """The whole network; the denoiser's names are the paper's (d, FF, layers, heads, period p)."""

    ear: EarShape = field(default_factory=EarShape)
    channels: int = len(CHANNELS)
    styles: int = len(STYLES) + len(STYLE_SCALES)
    width: int = 256
    feed_forward: int = 512
    layers: int = 3
    heads: int = 4
    period: int = 30
