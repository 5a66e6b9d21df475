"""Where hair grows: a height for every direction around the head, shared by the hair and the skin below it.

Rules: metres in the head's frame; azimuth 0 looks forward and grows to the face's own left.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from export.rig.makehuman import F64

HAIR_DARK = np.array([0.085, 0.052, 0.038])
HAIR_LIGHT = np.array([0.310, 0.195, 0.130])
CENTRE = np.array([0.0, 0.010, -0.006])
"""The middle of the skull, from which directions are measured."""
_HAIRLINE = (  # azimuth in degrees, height of the hairline in metres; mirrored, then swept
    *((0, 0.064), (25, 0.066), (45, 0.060), (58, 0.046), (67, 0.022), (74, -0.004), (80, -0.006)),
    *((87, 0.012), (100, 0.017), (112, 0.006), (122, -0.028), (140, -0.062), (160, -0.074), (180, -0.078)),
)


def angles(ray: F64) -> tuple[F64, F64]:
    """Azimuth in (-pi, pi] and elevation of rays (N, 3)."""
    return np.arctan2(ray[:, 0], ray[:, 2]), np.arctan2(ray[:, 1], np.hypot(ray[:, 0], ray[:, 2]))


def hairline(azimuth: F64) -> F64:
    """Height of the hairline in metres at azimuths (N,) in radians; a fringe falls over the left brow."""
    table = np.array(_HAIRLINE)
    height = PchipInterpolator(table[:, 0], table[:, 1])(np.degrees(np.abs(azimuth)))
    fringe = np.exp(-(((np.degrees(azimuth) - 24.0) / 24.0) ** 2))
    return np.asarray(height - 0.020 * fringe)


def above_hairline(points: F64) -> F64:
    """How far points (..., 3) lie above the hairline, in metres; negative on the bare face."""
    flat = points.reshape(-1, 3) - CENTRE
    azimuth, _ = angles(flat)
    return np.asarray((flat[:, 1] + CENTRE[1] - hairline(azimuth)).reshape(points.shape[:-1]))
