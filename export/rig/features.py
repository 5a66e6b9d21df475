"""Painting what is not skin: eyes, teeth and gums, tongue, lashes.

Rules: as in `paint.py`: sRGB while painting, positions in metres, fixed noise; textures at most 512 wide.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from export.rig.brush import mix, noise, smooth, to_image
from export.rig.makehuman import F64
from export.rig.paint import INNER

_IRIS = 0.455  # the iris' radius over the eyeball's, on the straight-on projection
_PUPIL = 0.17
_UPPER_TEETH = (8.6, 6.8, 7.6, 7.0, 6.8, 9.5, 9.5)  # widths in mm from the middle outwards
_LOWER_TEETH = (5.4, 5.9, 6.8, 7.0, 7.0, 10.0, 10.0)
_GUM = np.array([0.520, 0.235, 0.235])
_THROAT = np.array([0.150, 0.040, 0.042])
_TONGUE = np.array([0.700, 0.360, 0.350])


def paint_eye(size: int) -> Image.Image:
    """An eyeball seen along its optical axis, sRGB, `size` x `size`: sclera, limbus, iris, pupil."""
    step = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    x, y = np.meshgrid(step, -step)
    x, y = x / 0.98, y / 0.98
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    flat = np.stack([x, y, 0 * x], -1)
    white = np.broadcast_to(np.array([0.830, 0.810, 0.795]), flat.shape)
    white = mix(white, np.array([0.76, 0.56, 0.52]), 0.6 * smooth(radius, 0.55, 1.0))
    veins = np.abs(noise(flat + 0.15 * noise(flat, 0.2, 3)[..., None], 0.16, 4))
    thin = (1 - smooth(veins, 0.0, 0.06)) * smooth(radius, 0.55, 0.9)
    white = mix(white, np.array([0.80, 0.42, 0.38]), 0.18 * thin)
    ring = radius / _IRIS
    spokes = np.stack([np.cos(angle) * 9.0, np.sin(angle) * 9.0, radius * 3.0], -1)
    fibre = 0.6 * noise(spokes, 1.0, 5) + 0.4 * noise(spokes * 2.2, 1.0, 6)
    dark, light = np.array([0.200, 0.120, 0.065]), np.array([0.370, 0.225, 0.115])
    iris = mix(np.broadcast_to(dark, flat.shape), light, smooth(ring, 1.0, 0.45))
    iris = iris * (1.0 + 0.30 * fibre)[..., None]
    iris = mix(iris, np.array([0.07, 0.045, 0.03]), smooth(ring, 0.78, 1.0))
    glow = smooth(-y / _IRIS, -0.2, 0.9) * smooth(ring, 0.98, 0.7)  # light gathered opposite the lamp
    iris = iris * (1.0 + 0.45 * glow)[..., None]
    iris = mix(iris, np.array([0.012, 0.010, 0.010]), smooth(radius, _PUPIL + 0.02, _PUPIL - 0.015))
    colour = mix(white, iris, smooth(radius, _IRIS + 0.03, _IRIS - 0.02))
    return to_image(colour * (1.0 - 0.45 * smooth(y, 0.12, 0.50))[..., None])  # the upper lid's shade


def paint_teeth(points: F64, upper: bool) -> F64:
    """sRGB (..., 3) of a row of teeth with its gum, at points (..., 3) on it, in metres."""
    widths = np.cumsum(_UPPER_TEETH if upper else _LOWER_TEETH) * 1e-3
    arc = _along_the_arch(points)
    tooth = np.minimum(np.searchsorted(widths, arc), len(widths) - 1)
    right = widths[tooth]
    left = np.concatenate([[0.0], widths])[tooth]
    across = np.clip((arc - left) / (right - left), 0, 1) * 2 - 1  # -1 and 1 are the gaps to the neighbours
    high = points[..., 1] if upper else -points[..., 1]
    edge = high.min()
    height = np.array([10.4, 9.0, 10.0, 8.6, 8.2, 8.0, 8.0] if upper else [8.6, 8.8, 9.6, 8.6, 8.2, 8.0, 8.0])
    gum = (high - edge) * 1e3 - height[tooth] + 2.6 * across**2
    enamel = np.array([0.885, 0.850, 0.785]) * (1.0 - 0.06 * smooth((high - edge) * 1e3, 2.0, 9.0))[..., None]
    enamel = enamel * (1.0 - 0.10 * np.abs(across) ** 3)[..., None]
    enamel = mix(enamel, np.array([0.46, 0.36, 0.31]), 0.75 * smooth(np.abs(across), 0.90, 1.0))
    colour = mix(enamel, _GUM * (1.0 + 0.10 * noise(points, 0.003, 41))[..., None], smooth(gum, -0.3, 0.5))
    deep = smooth(points[..., 2], points[..., 2].max() - 0.007, points[..., 2].max() - 0.026)
    return mix(colour, _THROAT, 0.92 * deep)


def _along_the_arch(points: F64) -> F64:
    """Distance (...) from the mid-line along the row of teeth, from a parabola through its outline."""
    x, z = np.abs(points[..., 0]), points[..., 2]
    wide, deep = x.max(), z.max() - z.min()
    share = np.linspace(0, 1, 200)
    outline = np.stack([wide * share**0.75, deep * share**1.9], 1)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    turn = np.arctan2(outline[:, 0], deep * 1.02 - outline[:, 1])
    return np.asarray(np.interp(np.arctan2(x, z - z.max() + deep * 1.02), turn, length))


def paint_inner_mouth(points: F64) -> F64:
    """sRGB (..., 3) of the mouth's walls at points (..., 3), darker towards the throat."""
    colour = INNER * (1.0 + 0.12 * noise(points, 0.006, 9))[..., None]
    return mix(colour, 0.75 * _THROAT, smooth(points[..., 2], 0.070, 0.042))


def paint_tongue(points: F64) -> F64:
    """sRGB (..., 3) of the tongue at points (..., 3) on it, in metres."""
    colour = _TONGUE * (1.0 + 0.09 * noise(points, 0.0016, 43) + 0.08 * noise(points, 0.006, 44))[..., None]
    groove = np.exp(-((points[..., 0] / 0.0016) ** 2)) * smooth(points[..., 2], 0.070, 0.055)
    colour = colour * (1.0 - 0.22 * groove)[..., None]
    deep = smooth(points[..., 2], points[..., 2].max() - 0.015, points[..., 2].max() - 0.05)
    return mix(colour, _THROAT, 0.65 * deep)


def paint_lashes(width: int, height: int) -> Image.Image:
    """RGBA lashes: the upper half holds the upper lid's, the lower half the lower lid's.

    u runs from the inner to the outer corner; in each half v runs from root (0) to tip (1), upwards.
    """
    picture = np.zeros((height, width, 4))
    picture[..., :3] = np.array([0.055, 0.036, 0.030])
    half = height // 2
    u, v = np.meshgrid((np.arange(width) + 0.5) / width, 1.0 - (np.arange(half) + 0.5) / half)
    picture[:half, :, 3] = _lash_alpha(u, v, 46, 0.92, 51)
    picture[half:, :, 3] = 0.75 * _lash_alpha(u, v, 34, 0.55, 52)
    picture[:half, :, 3] = np.maximum(
        picture[:half, :, 3], 0.9 * smooth(v, 0.42, 0.25) * smooth(u, 0.90, 0.70)
    )
    return to_image(picture)


def _lash_alpha(u: F64, v: F64, count: int, length: float, seed: int) -> F64:
    """Opacity (...) of `count` tapering lashes; they fan out towards the corners."""
    alpha = np.zeros_like(u)
    for k in range(count):
        jitter = noise(np.array([[k * 3.7, 0.5, 0.5], [k * 3.7, 9.5, 0.5]]), 1.0, seed)
        root = (k + 0.5 + 0.35 * jitter[0]) / count
        reach = length * (0.80 + 0.20 * jitter[1]) * smooth(np.array(root), -0.12, 0.35)
        reach = reach * (1.0 - smooth(np.array(root), 0.72, 0.98))
        lean = (root - 0.42) * 0.10 + 0.012 * jitter[1]
        rise = np.clip(v / np.maximum(reach, 1e-6), 0, 1)
        centre = root + lean * rise**1.5
        thick = (0.42 / count) * (1.0 - rise) ** 0.8 + 0.0006
        alpha = np.maximum(alpha, smooth(np.abs(u - centre), thick * 1.25, thick * 0.55) * (v < reach))
    return alpha
