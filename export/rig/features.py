"""Painting what is not skin: eyes, teeth, gums, tongue, lashes.

Rules: as in `paint.py`; every texture is at most 512 texels wide.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from export.rig.makehuman import F64
from export.rig.paint import mix, noise, smooth

_IRIS = 0.455  # the iris' radius over the eyeball's, on the straight-on projection
_PUPIL = 0.185


def paint_eye(size: int) -> Image.Image:
    """An eyeball seen along its optical axis, sRGB, `size` x `size`: sclera, limbus, iris, pupil."""
    step = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    x, y = np.meshgrid(step, -step)
    x, y = x / 0.98, y / 0.98
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    flat = np.stack([x, y, 0 * x], -1)
    white = np.broadcast_to(np.array([0.905, 0.885, 0.865]), flat.shape).copy()
    white = mix(white, np.array([0.78, 0.55, 0.50]), 0.55 * smooth(radius, 0.62, 1.0))
    veins = np.abs(noise(flat + 0.15 * noise(flat, 0.2, 3)[..., None], 0.16, 4))
    white = mix(
        white, np.array([0.80, 0.42, 0.38]), 0.18 * (1 - smooth(veins, 0.0, 0.06)) * smooth(radius, 0.55, 0.9)
    )
    spokes = np.stack([np.cos(angle) * 9.0, np.sin(angle) * 9.0, radius * 3.0], -1)
    fibre = 0.6 * noise(spokes, 1.0, 5) + 0.4 * noise(spokes * 2.2, 1.0, 6)
    ring = radius / _IRIS
    iris = mix(
        np.broadcast_to(np.array([0.27, 0.17, 0.09]), flat.shape),
        np.array([0.50, 0.31, 0.15]),
        smooth(ring, 1.0, 0.45),
    )
    iris = iris * (1.0 + 0.30 * fibre)[..., None]
    iris = mix(iris, np.array([0.07, 0.045, 0.03]), smooth(ring, 0.80, 1.0))
    glow = smooth(-y / _IRIS, -0.2, 0.9) * smooth(ring, 0.98, 0.7)  # light gathered opposite the lamp
    iris = iris * (1.0 + 0.55 * glow)[..., None]
    iris = mix(iris, np.array([0.012, 0.010, 0.010]), smooth(radius, _PUPIL + 0.02, _PUPIL - 0.015))
    colour = mix(white, iris, smooth(radius, _IRIS + 0.025, _IRIS - 0.02))
    return Image.fromarray((np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8))


def tooth_colour(points: F64, top: bool) -> F64:
    """sRGB (..., 3) of a row of teeth and its gums at points (..., 3) in metres."""
    high = points[..., 1]
    low_edge, high_edge = float(high.min()), float(high.max())
    up = (high - low_edge) / (high_edge - low_edge)
    if not top:
        up = 1.0 - up
    enamel = np.array([0.90, 0.865, 0.80]) * (1.0 - 0.10 * smooth(up, 0.2, 0.6))[..., None]
    back = smooth(points[..., 2], 0.070, 0.035)
    return enamel * (1.0 - 0.45 * back)[..., None]
