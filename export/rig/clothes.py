"""A plain top with a ribbed collar, cut from the body, that fades out below the shoulders.

The collar lies in one tilted plane around the neck, so its edge is clean whatever the mesh below. The cloth
is the body's surface, smoothed and moved outwards; alpha in the vertex colours lets it fade.

Rules: metres in the head's frame; clothes never move and have no `_RIG_VERTEX`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.rig.brush import noise, smooth
from export.rig.head import Body
from export.rig.makehuman import F64, I64
from export.rig.surface import neighbour_mean, triangulate, vertex_normals

CLOTH = np.array([0.165, 0.225, 0.275])
_OFFSET = 0.005
_FADE = (-0.235, -0.345)


@dataclass(frozen=True)
class Cloth:
    """positions (N, 3); colours (N, 4), sRGB and alpha; triangles (T, 3)."""

    positions: F64
    colours: F64
    triangles: I64


def top(body: Body, collar: tuple[float, float]) -> Cloth:
    """The cloth below the collar's plane `y = height + slope * z`, given as (height, slope)."""
    height, slope = collar
    corners = body.vertices[body.quads]
    reach, middle = np.abs(corners[..., 0]).max(1), corners.mean(1)
    chosen = (middle[:, 1] > -0.40) & (middle[:, 1] < height + slope * middle[:, 2] + 0.03) & (reach < 0.26)
    (triangles,) = triangulate(body.vertices, body.quads[chosen])
    used, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    points = body.vertices[used]
    edge = _is_edge(triangles, len(points))
    for _ in range(6):
        points = np.where(edge[:, None], points, 0.5 * points + 0.5 * neighbour_mean(points, triangles))
    points = points + _OFFSET * vertex_normals(points, triangles)
    points, triangles = _clip(points, triangles, points[:, 1] - height - slope * points[:, 2])
    shade = np.broadcast_to(CLOTH, points.shape) * (1.0 + 0.05 * noise(points, 0.02, 31))[:, None]
    fade = smooth(points[:, 1] + 0.25 * np.maximum(0, 0.1 - np.abs(points[:, 0])), _FADE[1], _FADE[0])
    fade *= smooth(np.abs(points[:, 0]), 0.235, 0.15)
    return Cloth(points, np.concatenate([shade, fade[:, None]], 1), triangles)


def _is_edge(triangles: I64, count: int) -> NDArray[np.bool_]:
    """Mask (count,) of vertices on an open border."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    unique, times = np.unique(edges, axis=0, return_counts=True)
    mask = np.zeros(count, np.bool_)
    mask[unique[times == 1]] = True
    return mask


def _clip(points: F64, triangles: I64, level: F64) -> tuple[F64, I64]:
    """Keep what lies below level 0, cutting triangles along it."""
    grown = list(points)
    faces: list[list[int]] = []
    cut: dict[tuple[int, int], int] = {}

    def between(i: int, j: int) -> int:
        key = (min(i, j), max(i, j))
        if key not in cut:
            share = level[i] / (level[i] - level[j])
            cut[key] = len(grown)
            grown.append(points[i] + (points[j] - points[i]) * share)
        return cut[key]

    for face in triangles.tolist():
        ring: list[int] = []
        for i, j in zip(face, face[1:] + face[:1], strict=True):
            if level[i] <= 0:
                ring.append(i)
            if (level[i] <= 0) != (level[j] <= 0):
                ring.append(between(i, j))
        faces.extend([ring[0], ring[k], ring[k + 1]] for k in range(1, len(ring) - 1))
    used, renumbered = np.unique(np.array(faces, np.int64), return_inverse=True)
    return np.array(grown)[used], renumbered.reshape(-1, 3)


def ribbing(body: Body, collar: tuple[float, float], segments: int = 96) -> Cloth:
    """The collar: a flat tube around the neck along the cut of the cloth."""
    height, slope = collar
    cloth = top(body, collar)
    rim = cloth.positions[np.abs(cloth.positions[:, 1] - height - slope * cloth.positions[:, 2]) < 1e-6]
    centre = np.array([0.0, rim[:, 2].min() / 2 + rim[:, 2].max() / 2])
    flat = rim[:, [0, 2]] - centre
    theta, radius = np.arctan2(flat[:, 0], flat[:, 1]), np.linalg.norm(flat, axis=1)
    orders = np.arange(6)
    fit = np.linalg.lstsq(np.cos(orders * theta[:, None]), radius, rcond=None)[0]  # symmetric, smooth
    angle = np.arange(segments) / segments * 2 * np.pi
    out = np.cos(orders * angle[:, None]) @ fit
    profile = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    across, along = 0.0022 * np.cos(profile), 0.0065 * np.sin(profile)
    lean = -0.45  # the band leans towards the neck as it rises
    grow = out[:, None] + across + lean * along + 0.0005
    rise = along * 0.9 + 0.0015
    z = centre[1] + grow * np.cos(angle)[:, None]
    ring = np.stack([grow * np.sin(angle)[:, None], height + slope * z + rise, z], -1)
    count = len(profile)
    i, j = np.meshgrid(np.arange(segments), np.arange(count), indexing="ij")
    a, b = i * count + j, (i + 1) % segments * count + j
    c, d = (i + 1) % segments * count + (j + 1) % count, i * count + (j + 1) % count
    triangles = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    shade = np.broadcast_to(CLOTH * 0.86, (segments * count, 3))
    return Cloth(ring.reshape(-1, 3), np.concatenate([shade, np.ones((segments * count, 1))], 1), triangles)
