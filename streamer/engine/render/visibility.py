"""How much of the light around it each corner of the avatar sees: soft shadows, baked once at rest.

The avatar is drawn from many directions into small depth buffers; a corner that lies behind what was drawn
is in shadow from there. Averaged over a sphere of directions that is ambient occlusion, over a cone around a
lamp it is the lamp's soft shadow. Both are baked at rest: a chin's shadow stays where it was when the jaw
drops. What lies behind lips and lids is left lit here: they move too much, see ``renderer``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamer.engine.render import raster
from streamer.engine.render.avatar import I32, Avatar

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_SIZE = 224
_RADIUS_M = 0.30  # what is farther than this from the head's middle casts no shadow on it
_BIAS_M = 0.0025
_DIRECTIONS = 48
_LAMP_RAYS, _LAMP_SPREAD = 12, 0.16
INSIDE = ("eye", "mouth", "mouth wall", "lashes")


def bake(avatar: Avatar, lamp: F64) -> tuple[F32, F32]:
    """Ambient visibility and the visibility of a lamp in direction ``lamp`` (3,): float32 (C,), 0 to 1."""
    inside = np.array([material.name in INSIDE for material in avatar.materials])
    casts = np.flatnonzero(~inside[avatar.mesh])
    triangles = avatar.triangles[casts]
    points, normals = avatar.positions.astype(np.float64), avatar.normals.astype(np.float64)
    seen = np.zeros(len(points))
    weight = np.full(len(points), 1e-6)
    for direction in fibonacci_sphere(_DIRECTIONS):
        facing = np.clip(normals @ direction, 0, None)
        seen += facing * _visible(points, triangles, direction)
        weight += facing
    rays = lamp / np.linalg.norm(lamp) + _LAMP_SPREAD * fibonacci_sphere(_LAMP_RAYS)
    lit = np.mean([_visible(points, triangles, ray / np.linalg.norm(ray)) for ray in rays], 0)
    ambient = seen / weight
    lit_inside = np.ones(len(points), bool)
    lit_inside[triangles] = False
    ambient[lit_inside] = lit[lit_inside] = 1.0
    return ambient.astype(np.float32), lit.astype(np.float32)


def fibonacci_sphere(count: int) -> F64:
    """Evenly spread unit vectors, float64 (count, 3)."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    around = index * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(around), height, ring * np.sin(around)], 1)


def _visible(points: F64, triangles: I32, direction: F64) -> F64:
    """1 where a corner sees a parallel light from ``direction``, 0 where something is before it."""
    side = np.cross([0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0], direction)
    side /= np.linalg.norm(side)
    up = np.cross(direction, side)
    scale = _SIZE / 2 / _RADIUS_M
    x, y = _SIZE / 2 + scale * points @ side, _SIZE / 2 - scale * points @ up
    near = points @ direction + 1.0  # positive: the avatar is smaller than a metre
    buffer = raster.empty_buffer((_SIZE, _SIZE))
    numbers = np.ones(len(triangles), np.int64)
    raster.draw(np.stack([x, y, near], 1), triangles, numbers, buffer, (_SIZE, _SIZE))
    nearest = np.pad(raster.nearness(buffer).reshape(_SIZE, _SIZE), 1)
    # Between the four samples around the corner, so that a shadow's edge is not a staircase.
    column, row = np.clip(x + 0.5, 0, _SIZE), np.clip(y + 0.5, 0, _SIZE)
    j, i = column.astype(np.int64), row.astype(np.int64)
    right, below = column - j, row - i
    free = [near + _BIAS_M > nearest[i + di, j + dj] for di in (0, 1) for dj in (0, 1)]
    upper = free[0] * (1 - right) + free[1] * right
    lower = free[2] * (1 - right) + free[3] * right
    return np.asarray(upper * (1 - below) + lower * below)
