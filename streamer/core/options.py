"""What is chosen when a session starts, checked against what the bundle allows.

A client asks in milliseconds and style names; a session runs on whole frames and a vector of weights. What
lies between two whole frames is rounded to the nearer one; what lies outside the bundle's range is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.manifest import Choice, Manifest

F32 = npt.NDArray[np.float32]

# Wider than the wire's range: a file may hold anything that a sound library reads.
MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 1_000, 768_000

MAX_STYLE_SCALE = 2.0


@dataclass(frozen=True)
class SessionOptions:
    """What is chosen when a session starts; ``choose`` makes and checks it.

    Attributes:
        hop_frames: frames that each window emits. lookahead_frames: frames held back.
        sample_rate_hz: the rate of the audio that will be fed.
        style: weights of the bundle's styles and factors of its style scales. seed: the noise's seed.
    """

    hop_frames: int
    lookahead_frames: int
    sample_rate_hz: int
    style: Mapping[str, float]
    seed: int = 0

    @classmethod
    def choose(
        cls,
        manifest: Manifest,
        *,
        sample_rate_hz: int | None = None,
        lookahead_ms: float | None = None,
        hop_ms: float | None = None,
        style: Mapping[str, float] | None = None,
        seed: int | None = None,
    ) -> SessionOptions:
        """The options nearest to what is asked for; None means the bundle's default.

        Raises:
            FaceError: ``bad_option``, naming the option, the value and what the bundle allows;
                ``bad_audio_format``, the sample rate is out of range.
        """
        timing = manifest.timing
        grid = timing.grid()
        rate_hz = timing.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        if not MIN_SAMPLE_RATE_HZ <= rate_hz <= MAX_SAMPLE_RATE_HZ:
            raise FaceError("bad_audio_format", f"The sample rate {rate_hz} Hz is out of range.")
        options = cls(
            hop_frames=_choice("hop", hop_ms, timing.hop, grid.hop_frames, grid.hop_ms),
            lookahead_frames=_choice(
                "lookahead", lookahead_ms, timing.lookahead, grid.lookahead_frames, grid.lookahead_ms
            ),
            sample_rate_hz=rate_hz,
            style={manifest.default_style: 1.0} if style is None else dict(style),
            seed=0 if seed is None else seed,
        )
        style_vector(options.style, manifest)
        return options


def parse_style(text: str) -> dict[str, float]:
    """A style from ``NAME`` or ``NAME=0.5,NAME2=0.5,jaw=1.2``; a name alone counts 1.

    Raises:
        FaceError: ``bad_option``, a weight is no number or a name repeats.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = (word.strip() for word in part.partition("="))
        if name in weights:
            raise FaceError("bad_option", f"The style {text!r} names {name!r} twice.")
        try:
            weights[name] = float(weight) if equals else 1.0
        except ValueError:
            raise FaceError("bad_option", f"The weight {weight!r} of style {name!r} is no number.") from None
    return weights


def style_vector(style: Mapping[str, float], manifest: Manifest) -> F32:
    """The model's ``style`` input, float32 (S,), from weights and factors by name.

    Styles are mixed in proportion to their weights, which need not sum to 1; where none is named, the
    bundle's default style holds. A style scale is a factor of 0 to 2; one that is not named stays at 1.

    Raises:
        FaceError: ``bad_option``, nothing is named, a name is unknown, a number is out of range, or every
            weight is 0.
    """
    styles, scales = manifest.styles, manifest.style_scales
    known = f"Choose among {', '.join([*styles, *scales])}."
    if not style:
        raise FaceError("bad_option", "The style names no style.", known)
    vector = np.zeros(len(styles) + len(scales), np.float64)
    for name, value in style.items():
        if name in styles:
            if not 0 <= value < math.inf:
                raise FaceError(
                    "bad_option",
                    f"The weight {value} of style {name!r} is not a finite number of at least 0.",
                )
            vector[styles.index(name)] = value
        elif name in scales:
            if not 0 <= value <= MAX_STYLE_SCALE:
                raise FaceError(
                    "bad_option", f"The style's {name} of {value} is out of range: 0 to {MAX_STYLE_SCALE}."
                )
            vector[len(styles) + scales.index(name)] = value - 1
        else:
            raise FaceError("bad_option", f"There is no style {name!r}.", known)
    weights = vector[: len(styles)]
    if not any(name in styles for name in style):
        weights[styles.index(manifest.default_style)] = 1.0
    if not weights.any():
        raise FaceError("bad_option", "Every weight of the style is 0.", known)
    weights /= weights.max()  # first, so that the largest weights there are do not overflow their sum
    weights /= weights.sum()
    return vector.astype(np.float32)


def _choice(
    name: str,
    asked_ms: float | None,
    choice: Choice,
    frames_of: Callable[[float], int],
    ms_of: Callable[[int], float],
) -> int:
    """The frames nearest to what is asked for, within the bundle's range."""
    if asked_ms is None:
        return choice.default_frames
    if 0 <= asked_ms < 1e9:  # beyond, frames would overflow
        frames = frames_of(asked_ms)
        if choice.min_frames <= frames <= choice.max_frames:
            return frames
    raise FaceError(
        "bad_option",
        f"A {name} of {asked_ms:g} ms is out of range: this bundle allows "
        f"{ms_of(choice.min_frames):.0f} to {ms_of(choice.max_frames):.0f} ms.",
    )
