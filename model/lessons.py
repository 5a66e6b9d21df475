"""The right answer to a whole recording: the curves that its phones give, at the frame rate.

Training draws windows of the same rules in batches (``model.speech``); this is the one place that gives them
for a recording from end to end, for whoever compares, draws or measures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from model.articulation import (
    IDLE_REACH_FRAMES,
    TRACK_RATE_HZ,
    Phone,
    gestures,
    idle_coefficients,
    speech_coefficients,
)
from model.shape import GRID, STYLES, Shape
from model.speech import loudness, pitch

F32 = npt.NDArray[np.float32]


def style_vector(style: str = STYLES[0]) -> torch.Tensor:
    """A named style as the rules and the network take it, float32 (1, S)."""
    vector = torch.zeros(1, Shape().styles)
    vector[0, STYLES.index(style)] = 1
    return vector


def frames_of(tracks: F32, instants_s: npt.NDArray[np.float64], style: str = STYLES[0]) -> F32:
    """Articulator tracks (n, len(TRACKS)) at 100 Hz as coefficients at n instants, (n, 52)."""
    place = instants_s * TRACK_RATE_HZ
    at = np.stack([np.interp(place, np.arange(len(tracks)), track) for track in tracks.T], -1)
    motion = speech_coefficients(torch.from_numpy(at.astype(np.float32))[None], style_vector(style))
    return np.asarray(motion[0].numpy(), np.float32)


def taught(phones: Sequence[Phone], audio: F32, frames: int | None = None, style: str = STYLES[0]) -> F32:
    """The curves of speech at 16 kHz without idle motion, float32 (frames, 52), as many frames as it lasts
    unless ``frames`` says otherwise."""
    duration_s = len(audio) / GRID.sample_rate_hz
    if frames is None:
        frames = int(np.ceil(duration_s * GRID.frame_rate_hz))
    tracks = gestures(phones, duration_s, loudness(audio), pitch(audio))
    return frames_of(tracks, np.arange(frames) / GRID.frame_rate_hz, style)


def with_idle(motion: F32, noise: F32, style: str = STYLES[0]) -> F32:
    """Curves (n, 52) with the idle motion that this noise, (IDLE_REACH_FRAMES + n, 52), stands for."""
    idle = idle_coefficients(torch.from_numpy(noise)[None], style_vector(style))[0].numpy()
    return np.asarray((motion + idle).clip(0, 1), np.float32)


__all__ = ["IDLE_REACH_FRAMES", "frames_of", "style_vector", "taught", "with_idle"]
