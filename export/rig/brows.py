"""Eyebrows: one flat picture of hair strokes, laid over both brows of the face.

Rules: measured in eyeball radii from the eye's centre, so a changed likeness keeps its brows; the strokes
come from a seeded generator.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import ndimage

from export.rig.brush import smooth
from export.rig.makehuman import F64

_BROW_BOX = (-1.7, 2.1, -0.7, 0.7)  # along and above the brow's middle line, in eyeball radii


def brows(points: F64, eye: F64, unit: float) -> F64:
    """Opacity in [0, 1] of the eyebrows at points (..., 3), from a flat picture of one brow.

    eye: (3,) centre of the left eyeball; unit: its radius, metres.
    """
    strokes = _draw_brow()
    along = (np.abs(points[..., 0]) - eye[0]) / unit  # -1.2 at the nose, 1.8 at the temple
    above = (points[..., 1] - eye[1]) / unit - _brow_arch(along)
    x = (along - _BROW_BOX[0]) / (_BROW_BOX[1] - _BROW_BOX[0]) * strokes.shape[1]
    y = (above - _BROW_BOX[2]) / (_BROW_BOX[3] - _BROW_BOX[2]) * strokes.shape[0]
    drawn = ndimage.map_coordinates(strokes, [y, x], order=1, mode="constant")
    return np.asarray(drawn * smooth(points[..., 2], 0.02, 0.05))


def _brow_arch(along: F64) -> F64:
    """Height of the brow's middle line over the eye's centre, in eyeball radii."""
    return np.asarray(1.46 + 0.26 * np.sin((along + 1.25) * 0.95) + 0.02 * along)


@functools.cache
def _draw_brow(width: int = 900, height: int = 260) -> F64:
    """One brow as (height, width) opacities over _BROW_BOX: a soft ground and some 260 hair strokes."""
    left, right, low, high = _BROW_BOX
    x, y = np.meshgrid(np.linspace(left, right, width), np.linspace(low, high, height))
    thick = 0.24 * smooth(x, -1.50, -0.70) * (1.0 - 0.78 * smooth(x, 0.2, 1.75)) + 1e-6
    ground = np.exp(-((y / thick) ** 2) * 1.6) * smooth(x, -1.40, -0.85) * smooth(x, 1.75, 1.2)
    alpha = 0.50 * ground
    random = np.random.default_rng(7)
    for _ in range(260):
        start = -1.22 + 2.85 * random.random()
        span = (
            0.24
            * float(smooth(np.array(start), -1.55, -0.75))
            * (1 - 0.78 * float(smooth(np.array(start), 0.2, 1.75)))
        )
        offset = (random.random() * 1.7 - 0.95) * span
        steep = np.radians(
            np.interp(start, [-1.25, -0.8, 0.0, 0.9, 1.7], [78, 48, 24, 6, -10]) + 14 * random.normal()
        )
        steep -= np.radians(30) * offset / 0.24  # upper hairs lie down, lower ones stand up
        length = (0.30 + 0.10 * random.random()) * (1 - 0.35 * float(smooth(np.array(start), 0.6, 1.7)))
        dx, dy = np.cos(steep) * length, np.sin(steep) * length * 0.75
        t = np.clip(((x - start) * dx + (y - offset) * dy) / (dx * dx + dy * dy), 0, 1)
        away = np.hypot(x - start - t * dx, y - offset - t * dy)
        line = smooth(away, 0.026 * (1 - 0.65 * t), 0.006) * (0.55 + 0.3 * random.random())
        alpha = alpha + line * (0.94 - alpha).clip(0)
    return alpha
