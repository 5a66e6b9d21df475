"""What is chosen when a session starts, checked against what the bundle allows.

A client asks in milliseconds and style names; a session runs on whole frames and a vector of weights. What
lies between two whole frames is rounded to the nearer one; what lies outside the bundle's range is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.manifest import Choice, Manifest

F32 = npt.NDArray[np.float32]

# Wider than the wire's range: a file may hold anything that a sound library reads.
MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 1_000, 768_000


@dataclass(frozen=True)
class SessionOptions:
    """What is chosen when a session starts; ``choose`` makes and checks it.

    Attributes:
        hop_frames: frames that each window emits. lookahead_frames: frames held back.
        sample_rate_hz: the rate of the audio that will be fed.
        style: weights over the bundle's styles. seed: the noise's seed.
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
        style_vector(options.style, manifest.styles)
        return options


def parse_style(text: str) -> dict[str, float]:
    """Style weights from ``NAME`` or ``NAME=0.5,NAME2=0.5``; a name alone weighs 1.

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


def style_vector(weights: Mapping[str, float], styles: Sequence[str]) -> F32:
    """Weights by name as float32 (S,) over ``styles``, used as given; a style that is not named weighs 0.

    Raises:
        FaceError: ``bad_option``, no style is named, a name is unknown or a weight is not finite or negative.
    """
    if not weights:
        raise FaceError("bad_option", "The style names no style.", f"Choose among {', '.join(styles)}.")
    vector = np.zeros(len(styles), np.float32)
    largest = float(np.finfo(np.float32).max)
    for name, weight in weights.items():
        if name not in styles:
            raise FaceError(
                "bad_option", f"There is no style {name!r}.", f"Choose among {', '.join(styles)}."
            )
        if not 0 <= weight <= largest:
            raise FaceError(
                "bad_option", f"The weight {weight} of style {name!r} is not a finite number of at least 0."
            )
        vector[styles.index(name)] = weight
    return vector


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
