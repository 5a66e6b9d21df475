"""Curves over time: the gap between the lips, rounding and the tuck of the lower lip, under the sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from model.measures import Face

F32 = npt.NDArray[np.float32]
Phone = tuple[str, float, float]

_LABELS = {"aperture": "lip gap, mm", "rounding": "pucker + funnel", "tuck": "lower-lip roll"}
_INCHES_PER_SECOND = 3.2


def plot(
    face: Face, audio: F32, rate_hz: int, phones: Sequence[Phone], motions: Mapping[str, F32], fps: int
) -> Figure:
    """One row per curve and one for the sound, with the phones' borders.

    Args:
        face: reads lengths off the curves.
        audio: mono float32 (n,) at ``rate_hz``.
        phones: with times in seconds; may be empty.
        motions: by title, each float32 (n, 52) at ``fps``.
    """
    seconds = len(audio) / rate_hz
    figure = Figure(figsize=(max(8.0, _INCHES_PER_SECOND * seconds), 7.0), layout="constrained")
    sound, *rows = figure.subplots(1 + len(_LABELS), 1, sharex=True, height_ratios=[1, 2, 1.4, 1.4])
    sound.plot(np.arange(len(audio)) / rate_hz, audio, color="0.6", linewidth=0.4)
    sound.set_ylabel("sound")
    for title, motion in motions.items():
        curves = face.curves(motion)
        for axes, curve in zip(rows, _LABELS, strict=True):
            axes.plot(np.arange(len(motion)) / fps, curves[curve], label=title)
    for axes, label in zip(rows, _LABELS.values(), strict=True):
        axes.set_ylabel(label)
    for name, start, end in phones:
        for axes in (sound, *rows):
            axes.axvline(start, color="0.85", linewidth=0.6, zorder=0)
        above = sound.get_xaxis_transform()
        sound.text((start + end) / 2, 1.03, name, transform=above, ha="center", fontsize=7)
    rows[0].legend(loc="upper right")
    rows[-1].set_xlabel("s")
    rows[-1].set_xlim(0, seconds)
    return figure
