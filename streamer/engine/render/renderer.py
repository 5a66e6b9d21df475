"""The face as pictures: coefficients in, RGB bytes out, the same bytes every time.

What never moves under any coefficient (hair, clothes, neck, the wall) is drawn once. For each picture the
moving triangles are drawn over its depth and coloured where they win, and what is translucent and moves (the
lashes) is laid over. Every pixel is the mean of samples × samples samples of linear light.

Rules: one camera per renderer; nothing of one picture is left for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.engine.render import light, raster
from streamer.engine.render.avatar import F32, I32, Avatar, Material
from streamer.engine.render.visibility import bake

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

_FOV_DEGREES = 22.0
# The rig keeps the teeth far behind the lips, so that no mixture of shapes shows them through.
# From the side one would see past them into an empty mouth, so they are drawn this much nearer.
_TEETH_FORWARD_M = 0.005
# Materials seen through a hole in the face; how far the rim's shade reaches, and a gain.
_HOLES = {"mouth": "mouth", "mouth wall": "mouth", "eye": "eye"}
_REACH_M = {"mouth": (0.0025, 1.3), "eye": (0.0025, 1.7)}


@dataclass(frozen=True)
class View:
    """What must be in the picture, in metres, and from which side: 0 is from the front, 90 from its left.

    ``pivot_m`` is how far before the head's middle the point lies that the camera looks at and turns around.
    """

    low: float = -0.175
    high: float = 0.155
    width: float = 0.235
    turn_degrees: float = 0.0
    pivot_m: float = 0.07  # where the face is


HEAD = View()
LOWER_FACE = View(-0.128, 0.012, 0.13)
MOUTH = View(-0.112, -0.030, 0.082)


class Renderer:
    """Draws one avatar from one side.

    Args:
        avatar: the face.
        size: (height, width) of the pictures in pixels.
        view: what they show.
        samples: a pixel is samples × samples samples.
    """

    def __init__(
        self, avatar: Avatar, size: tuple[int, int] = (512, 512), view: View = HEAD, samples: int = 2
    ) -> None:
        self.avatar, self.size, self._samples = _teeth_forward(avatar), size, samples
        avatar = self.avatar
        self._grid = size[0] * samples, size[1] * samples
        self._camera = _Camera(view, self._grid)
        self._textures = [self._fitting(m, k) for k, m in enumerate(avatar.materials)]
        ambient, lit = bake(avatar, light.KEY)
        self._still = np.stack([*avatar.uvs.T, ambient, lit])  # what no coefficient changes of a corner
        self._within = {
            kind: [k for k, m in enumerate(avatar.materials) if _HOLES.get(m.name) == kind]
            for kind in _REACH_M
        }
        self._tints = np.ascontiguousarray(avatar.colours.T)
        blends = np.array([m.blend for m in avatar.materials])
        culled = np.array([not m.double_sided for m in avatar.materials])
        moving = np.zeros(len(avatar.positions), bool)
        moving[avatar.moving] = True
        # What lies behind a hole changes with the hole's rim, though it keeps still.
        behind = np.array([m.name in _HOLES for m in avatar.materials])
        moves = moving[avatar.triangles].any(1) | behind[avatar.mesh]
        opaque = ~blends[avatar.mesh]
        self._culled = culled[avatar.mesh]
        self._moving_opaque = np.flatnonzero(moves & opaque)
        layers = [np.flatnonzero(avatar.mesh == k) for k in np.flatnonzero(blends)]
        self._layers = [layer for layer in layers if moves[layer].any()]
        points, normals = self._posed(np.zeros(len(avatar.channels), np.float32))
        self._buffer = raster.empty_buffer(self._grid)
        self._draw(points, np.flatnonzero(~moves & opaque), self._buffer)
        wall = light.backdrop(*size)
        self._light = wall.repeat(samples, 1).repeat(samples, 2).reshape(3, -1)
        still = np.flatnonzero(self._buffer)
        self._light[:, still] = self._colours(points, normals, still, self._buffer[still])[:3]
        for layer in layers:
            if not moves[layer].any():
                over = self._lay(points, normals, layer, self._buffer, self._light)
                self._buffer = np.maximum(self._buffer, over)

    def draw(self, coefficients: F32) -> U8:
        """Pictures, uint8 (n, height, width, 3), of coefficients float32 (n, K)."""
        return np.stack([self.picture(row) for row in np.atleast_2d(coefficients)])

    def pictures(self, coefficients: Iterable[F32]) -> Iterator[U8]:
        """One picture after another, for animations that do not fit in memory."""
        return (self.picture(row) for row in coefficients)

    def picture(self, coefficients: F32) -> U8:
        """One picture, uint8 (height, width, 3), of coefficients float32 (K,)."""
        points, normals = self._posed(coefficients)
        buffer, colours = self._buffer.copy(), self._light.copy()
        self._draw(points, self._moving_opaque, buffer)
        changed = np.flatnonzero(buffer != self._buffer)
        colours[:, changed] = self._colours(points, normals, changed, buffer[changed])[:3]
        for layer in self._layers:
            self._lay(points, normals, layer, buffer, colours)
        return light.develop(self._mean(colours))

    def _lay(self, points: F64, normals: F32, layer: I64, buffer: U64, colours: F32) -> U64:
        """Lays a translucent mesh's nearest side over ``colours``; returns the buffer it was drawn in."""
        over = raster.empty_buffer(self._grid)
        self._draw(points, layer, over)
        at = np.flatnonzero(over > buffer)
        rgba = self._colours(points, normals, at, over[at])
        under = colours[:, at]
        colours[:, at] = under + (rgba[:3] - under) * rgba[3]
        return over

    def _mean(self, colours: F32) -> F32:
        n = self._samples
        cells = colours.reshape(3, *self._grid)
        rows = np.asarray(sum(cells[:, k::n] for k in range(n)))
        return np.asarray(sum(rows[:, :, k::n] for k in range(n)) * np.float32(1 / n**2))

    def _posed(self, coefficients: F32) -> tuple[F64, F32]:
        positions, normals = self.avatar.pose(coefficients)
        return self._camera.project(positions), normals

    def _draw(self, points: F64, chosen: I64, buffer: U64) -> None:
        """Draws the chosen triangles that face the camera; a sample remembers a triangle's row plus one."""
        facing = raster.faces_us(points, self.avatar.triangles[chosen]) | ~self._culled[chosen]
        chosen = chosen[facing]
        raster.draw(points, self.avatar.triangles[chosen], chosen + 1, buffer, self._grid)

    def _colours(self, points: F64, normals: F32, at: I64, buffer: U64) -> F32:
        """Light and alpha, float32 (4, N), of samples ``at``; what they see stands in ``buffer`` (N,)."""
        triangle = raster.seen(buffer) - 1
        weights = raster.weights(points, self.avatar.triangles, at, triangle, self._grid[1])
        mesh = self.avatar.mesh.take(triangle)
        normals = np.ascontiguousarray(normals.T)
        out = np.empty((4, len(at)), np.float32)
        for k in np.flatnonzero(np.bincount(mesh)).tolist():
            mine = np.flatnonzero(mesh == k)
            corners = np.ascontiguousarray(self.avatar.triangles.take(triangle[mine], 0).T)
            share = weights[:, mine]
            u, v, ambient, lit = _blend(self._still, corners, share)
            if hole := _HOLES.get(self.avatar.materials[k].name):
                enters = self._entering(at[np.isin(mesh, self._within[hole])], at[mine], hole)
                ambient, lit = ambient * enters, lit * enters
            surface = self._surface(k, u, v, corners, share)
            normal, view = _blend(normals, corners, share), self._camera.rays.take(at[mine], 1)
            out[:3, mine] = light.shade(self.avatar.materials[k], surface[:3], normal, view, ambient, lit)
            out[3, mine] = surface[3]
        return out

    def _entering(self, hole: I64, at: I64, kind: str) -> F32:
        """How much light enters through a hole in the face: float32 (N,), 0 to 1, at samples ``at`` (N,).

        It is the share of the hole's samples in the square around: nothing gets in through lips that all but
        meet, and what lies under a lip's or a lid's edge is half in the dark.
        """
        width = self._grid[1]
        reach, gain = _REACH_M[kind]
        reach_samples = max(1, round(reach * self._camera.samples_per_metre))
        row, column = np.divmod(hole, width)
        top, left = int(row.min()) - reach_samples - 1, int(column.min()) - reach_samples - 1
        shape = int(row.max()) - top + reach_samples + 1, int(column.max()) - left + reach_samples + 1
        count = np.zeros(shape, np.int32)
        count[row - top, column - left] = 1
        count = count.cumsum(0).cumsum(1)
        row, column = at // width - top, at % width - left
        below, right = row + reach_samples, column + reach_samples
        above, before = row - reach_samples - 1, column - reach_samples - 1
        inside = count[below, right] - count[above, right] - count[below, before] + count[above, before]
        share = inside / (2 * reach_samples + 1) ** 2
        return np.asarray(np.minimum(gain * share, 1), np.float32)

    def _surface(self, mesh: int, u: F32, v: F32, corners: I32, share: F32) -> F32:
        """Albedo and alpha, float32 (4, N)."""
        material, texture = self.avatar.materials[mesh], self._textures[mesh]
        out = np.ones((4, len(u)), np.float32)
        if texture is None:
            out *= _blend(self._tints, corners, share)
        else:
            out[: len(texture)] = _bilinear(texture, u, v)
        return np.asarray(out * material.colour[:, None])

    def _fitting(self, material: Material, mesh: int) -> F32 | None:
        """The texture, float32 (3 or 4, H, W), halved until a texel is about as large as a sample."""
        texture = material.texture
        if texture is None:
            return None
        triangles = self.avatar.triangles[self.avatar.mesh == mesh]
        points = self._camera.project(self.avatar.positions)
        texels = np.abs(_areas(self.avatar.uvs[triangles] * texture.shape[1::-1])).sum()
        samples = np.abs(_areas(points[triangles, :2])).sum()
        for _ in range(round(max(0.0, 0.5 * np.log2(max(texels, 1.0) / max(samples, 1.0))))):
            even = texture[: texture.shape[0] // 2 * 2, : texture.shape[1] // 2 * 2]
            texture = 0.25 * (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2])
        return np.ascontiguousarray(texture.transpose(2, 0, 1))


def _teeth_forward(avatar: Avatar) -> Avatar:
    """The avatar with its teeth and tongue nearer to the lips."""
    inside = [k for k, material in enumerate(avatar.materials) if material.name == "mouth"]
    positions = avatar.positions.copy()
    positions[np.unique(avatar.triangles[np.isin(avatar.mesh, inside)]), 2] += np.float32(_TEETH_FORWARD_M)
    return replace(avatar, positions=positions)


class _Camera:
    """A perspective camera that frames a view, level with its middle."""

    def __init__(self, view: View, grid: tuple[int, int]) -> None:
        height, width = grid
        half = np.tan(np.radians(_FOV_DEGREES / 2))
        tall = (view.high - view.low) / 2 / half
        wide = view.width / 2 / (half * width / height)
        distance = max(tall, wide)
        turn = np.radians(view.turn_degrees)
        self._toward = np.array([np.sin(turn), 0.0, np.cos(turn)])
        self._right = np.array([np.cos(turn), 0.0, -np.sin(turn)])
        middle = (view.low + view.high) / 2
        self._eye = np.array([0.0, middle, view.pivot_m]) + distance * self._toward
        self.samples_per_metre = height / 2 / half / distance
        self._scale, self._centre = height / 2 / half, (width / 2, height / 2)
        row, column = np.mgrid[0:height, 0:width]
        x, y = (column + 0.5 - width / 2) / self._scale, (height / 2 - row - 0.5) / self._scale
        rays = self._toward - x[..., None] * self._right - y[..., None] * np.array([0.0, 1.0, 0.0])
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        self.rays: F32 = np.ascontiguousarray(rays.reshape(-1, 3).T, np.float32)

    def project(self, positions: F32) -> F64:
        """(C, 3) metres -> float64 (C, 3): x and y in samples, and one divided by the distance."""
        seen = positions.astype(np.float64) - self._eye
        near = -1 / (seen @ self._toward)
        x = self._centre[0] + self._scale * near * (seen @ self._right)
        y = self._centre[1] - self._scale * near * seen[:, 1]
        return np.stack([x, y, near], 1)


def _blend(table: F32, corners: I32, share: F32) -> F32:
    """Columns of (D, C) mixed by weights (3, N) of corners (3, N): float32 (D, N)."""
    out: F32 = table.take(corners[0], 1) * share[0]
    out += table.take(corners[1], 1) * share[1]
    out += table.take(corners[2], 1) * share[2]
    return out


def _bilinear(texture: F32, u: F32, v: F32) -> F32:
    """A texture (D, H, W) read at N places, clamped at its edges: float32 (D, N)."""
    depth, height, width = texture.shape
    flat = texture.reshape(depth, -1)
    x = np.clip(u * width - np.float32(0.5), 0, np.float32(width - 1.001))
    y = np.clip(v * height - np.float32(0.5), 0, np.float32(height - 1.001))
    column, row = x.astype(np.int32), y.astype(np.int32)
    right, below = x - column.astype(np.float32), y - row.astype(np.float32)
    place = row * width + column
    upper = flat.take(place, 1)
    upper += (flat.take(place + 1, 1) - upper) * right
    lower = flat.take(place + width, 1)
    lower += (flat.take(place + width + 1, 1) - lower) * right
    return np.asarray(upper + (lower - upper) * below)


def _areas(points: F64) -> F64:
    """Signed areas of (T, 3, 2)."""
    u, v = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    return np.asarray(0.5 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]))
