"""Short hair: one shell of strands that run from the crown to the hairline.

The shell is a grid in polar coordinates around the whorl at the back of the crown. Columns are strands, rows
go outwards until the strand meets the hairline, where it dips under the skin. Thickness, clumps and the
sweep to the side are smooth functions of the direction seen from the middle of the skull.

Rules: metres in the head's frame; azimuth 0 looks forward and grows to the face's own left; the hair never
moves (no face shape moves the scalp by more than the hair is thick).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.interpolate import LinearNDInterpolator

from export.rig.brush import mix, noise, smooth, to_image
from export.rig.hairline import CENTRE, HAIR_DARK, HAIR_LIGHT, above_hairline, angles
from export.rig.head import Head
from export.rig.makehuman import F64, I64

_WHORL = np.radians([200.0, 58.0])  # azimuth, elevation


@dataclass(frozen=True)
class Hair:
    """positions (N, 3); uvs (N, 2), v up; triangles (T, 3); welded (N,): the seam's vertices, made one."""

    positions: F64
    uvs: F64
    triangles: I64
    welded: I64


class Skull:
    """The skin's distance from the skull's middle in every direction, ears left out."""

    def __init__(self, head: Head, ear: F64) -> None:
        """`ear`: float64 (V,), how much ear each vertex is."""
        keep = head.of("skin") & (ear < 0.3) & (head.template[:, 1] > -0.13)
        ray = head.template[keep] - CENTRE
        azimuth, elevation = angles(ray)
        radius = np.linalg.norm(ray, axis=1)
        outer = np.ones(len(radius), np.bool_)
        turns = [np.stack([azimuth[outer] + k * 2 * np.pi, elevation[outer]], 1) for k in (-1, 0, 1)]
        self._radius = LinearNDInterpolator(np.concatenate(turns), np.tile(radius[outer], 3))
        self._top = float(radius[np.argmax(ray[:, 1])])

    def radius(self, direction: F64) -> F64:
        """Distance (N,) along unit directions (N, 3)."""
        azimuth, elevation = angles(direction)
        found = self._radius(np.stack([azimuth, elevation], 1))
        return np.where(np.isnan(found), self._top, found)


def _direction(psi: F64, rho: F64) -> F64:
    """Unit directions (..., 3) at angle `rho` from the whorl, leaving it at bearing `psi`, swirling."""
    azimuth, elevation = _WHORL
    pole = np.array(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    )
    side = np.cross([0.0, 1.0, 0.0], pole)
    side /= np.linalg.norm(side)
    front = np.cross(pole, side)
    turn = psi + 0.35 * np.sin(np.clip(rho, 0, 2.2))
    around = np.cos(turn)[..., None] * front + np.sin(turn)[..., None] * side
    return np.asarray(np.cos(rho)[..., None] * pole + np.sin(rho)[..., None] * around)


def grow(head: Head, ear: F64, columns: int = 180, rows: int = 40) -> Hair:
    """The hair of a head; `ear` float64 (V,) in [0, 1]."""
    skull = Skull(head, ear)
    psi = np.arange(columns + 1) / columns * 2 * np.pi
    reach = _reach(skull, psi[:-1])
    ring = np.arange(columns)
    tips = 0.035 * _strand_noise(ring, columns, 30, 21) + 0.025 * _strand_noise(ring, columns, 75, 22)
    reach = 1.025 * reach
    reach = np.append(reach * (1 + tips), reach[0] * (1 + tips[0]))
    t = (np.arange(rows + 1) / rows) ** 0.9
    rho = t[:, None] * reach[None]
    direction = _direction(np.broadcast_to(psi, rho.shape), rho).reshape(-1, 3)
    scalp = skull.radius(direction)
    thick = _thickness(direction, np.broadcast_to(t[:, None], rho.shape).ravel())
    clump = 0.6 * _strand_noise(np.append(ring, 0), columns, 34, 23) + 0.4 * _strand_noise(
        np.append(ring, 0), columns, 80, 24
    )
    lift = smooth(t, 0.06, 0.5)[:, None] * clump[None]
    thick = thick * (1.0 + 0.32 * lift.ravel())
    positions = CENTRE + direction * (scalp + thick)[:, None]
    uvs = np.stack(np.broadcast_arrays(psi[None] / (2 * np.pi), 1.0 - t[:, None]), -1).reshape(-1, 2)
    corner = np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)
    a, b, c, d = corner, corner + 1, corner + columns + 2, corner + columns + 1
    triangles = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    )
    column, row = np.meshgrid(np.arange(columns + 1) % columns, np.arange(rows + 1))
    welded = np.where(row == 0, 0, row * (columns + 1) + column).ravel()  # the whorl is one point
    return Hair(positions, uvs.astype(np.float64), triangles.astype(np.int64), welded)


def _reach(skull: Skull, psi: F64) -> F64:
    """Angle (N,) from the whorl at which strands of bearing `psi` (N,) cross the hairline."""
    rho = np.linspace(0.05, 2.9, 400)
    direction = _direction(psi[:, None] + 0 * rho, rho + 0 * psi[:, None])
    flat = direction.reshape(-1, 3)
    points = CENTRE + flat * skull.radius(flat)[:, None]
    outside = above_hairline(points.reshape(direction.shape)) < 0
    first = np.where(outside.any(1), outside.argmax(1), len(rho) - 1)
    reach = rho[first]
    for _ in range(2):
        reach = 0.25 * np.roll(reach, 1) + 0.5 * reach + 0.25 * np.roll(reach, -1)
    return reach


def _thickness(direction: F64, t: F64) -> F64:
    """Thickness (N,) of the hair in metres; `t` runs from 0 at the whorl to 1 under the skin."""
    azimuth, elevation = angles(direction)
    up = smooth(elevation, 0.05, 1.0)
    front = smooth(np.cos(azimuth), 0.2, 0.95)
    full = 0.0085 + 0.0115 * up + 0.006 * front * up
    return full * (1.0 - smooth(t, 0.80, 1.0)) - 0.006 * smooth(t, 0.93, 1.0)


def _strand_noise(column: I64, columns: int, cycles: int, seed: int) -> F64:
    """Noise in [-1, 1] (N,) that repeats after `columns` and has about `cycles` bumps around."""
    turn = column / columns * 2 * np.pi
    radius = cycles / (2 * np.pi)
    points = np.stack([np.cos(turn) * radius, np.sin(turn) * radius, 0 * turn], -1)
    return np.clip(noise(points, 1.0, seed) * 1.6, -1, 1)


def paint_hair(size: int) -> Image.Image:
    """Strands: an sRGB texture `size` wide and a quarter as high; u around the whorl, v from tip to crown."""
    u, v = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size // 4) + 0.5) / (size // 4))
    turn = u * 2 * np.pi
    total = np.zeros_like(u)
    for cycles, weight, seed in ((34, 0.30, 23), (80, 0.25, 24), (190, 0.25, 25), (420, 0.20, 26)):
        radius = cycles / (2 * np.pi)
        points = np.stack([np.cos(turn) * radius, np.sin(turn) * radius, v * 1.5 + seed], -1)
        total += weight * np.clip(noise(points, 1.0, seed) * 1.6, -1, 1)
    light = np.clip(0.45 + 0.75 * total, 0, 1)
    colour = mix(np.broadcast_to(HAIR_DARK, (*u.shape, 3)), HAIR_LIGHT, light)
    colour = colour * (1.0 - 0.35 * smooth(v, 0.85, 1.0))[..., None]
    return to_image(colour)
