"""MTM, mean temporal misalignment (arXiv 2503.20308): how far apart in time two mouths open and close.

Both lip-gap curves are smoothed (Gaussian, σ = 2 frames) and aligned by derivative dynamic time warping. A
maximum of one is matched with a maximum of the other, and a minimum with a minimum, when each is the
nearest to where the alignment puts the other; the mean distance in time of the matched is the measure. An
extremum without a counterpart is not counted: whether a movement is there at all is for other measures to
say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

Curve = NDArray[np.floating[Any]]

SMOOTHING_FRAMES = 2.0
_STILL = 1e-6  # of the curve's range: less is rounding, and no movement


def temporal_misalignment_ms(predicted: Curve, reference: Curve, fps: int) -> float:
    """MTM of two lip-gap curves, (N,) and (M,), in any unit; NaN where nothing matches."""
    ours, theirs = (
        gaussian_filter1d(curve.astype(np.float64), SMOOTHING_FRAMES, mode="nearest")
        for curve in (reference, predicted)
    )
    path = warping_path(slope(ours), slope(theirs))
    forth, back = _partners(path[:, 0], path[:, 1]), _partners(path[:, 1], path[:, 0])
    apart: list[int] = []
    for sign in (1, -1):
        own, other = _maxima(sign * ours), _maxima(sign * theirs)
        if not len(own) or not len(other):
            continue
        nearest = np.abs(other[None, :] - forth[own][:, None]).argmin(axis=1)
        returned = np.abs(own[None, :] - back[other][:, None]).argmin(axis=1)
        mutual = returned[nearest] == np.arange(len(own))
        apart += np.abs(other[nearest] - own)[mutual].tolist()
    return float(np.mean(apart)) * 1000 / fps if apart else float("nan")


def slope(curve: Curve) -> Curve:
    """The derivative of derivative DTW (Keogh & Pazzani 2001): (T,) -> (T,), T ≥ 3, the ends repeated."""
    inner = ((curve[1:-1] - curve[:-2]) + (curve[2:] - curve[:-2]) / 2) / 2
    return np.pad(inner, 1, mode="edge")


def warping_path(one: Curve, other: Curve) -> NDArray[np.int64]:
    """Dynamic time warping of (N,) onto (M,) under squared differences: (length, 2) pairs, first to last.

    The table is filled one anti-diagonal at a time, whose cells do not depend on each other.
    """
    rows, columns = len(one), len(other)
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for diagonal in range(rows + columns - 1):
        i = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        j = diagonal - i
        before = np.minimum(total[i, j], np.minimum(total[i, j + 1], total[i + 1, j]))
        total[i + 1, j + 1] = np.square(one[i] - other[j]) + before
    at, path = (rows, columns), []
    while at[0] and at[1]:
        row, column = at[0] - 1, at[1] - 1
        path.append((row, column))
        # Ties go to the first, so that curves at rest are walked side by side.
        at = min(((row, column), (row, at[1]), (at[0], column)), key=lambda cell: float(total[cell]))
    return np.array(path[::-1])


def _partners(frames: NDArray[np.int64], partners: NDArray[np.int64]) -> Curve:
    """For each frame of one side of a path, the mean of the frames it is paired with."""
    return np.bincount(frames, partners) / np.bincount(frames)


def _maxima(curve: Curve) -> NDArray[np.int64]:
    peaks: NDArray[np.int64] = find_peaks(curve, prominence=_STILL * max(float(np.ptp(curve)), _STILL))[0]
    return peaks
