"""Which triangle does each sample of a picture see? A z-buffer in numpy, without a loop over triangles.

Every triangle is cut into one span per row of samples, the spans are spread into fragments, and the nearest
fragment of each sample wins. An edge that two triangles share is computed from the same three numbers with
opposite signs, so a sample on it belongs to exactly one of them: no holes, no doubles. A sample lies at the
middle of its cell: sample (row, column) at x = column + ½, y = row + ½, y down.

A buffer holds one 64-bit number per sample: the nearness of what it sees as the bits of a float32 above, and
the number of the triangle below. Positive floats sort as their bits do, so one maximum settles both. Of
equally near triangles the one with the greater number wins: a picture is always the same picture.

Rules: nothing outside the picture is ever written; triangles may be any size; those with no area vanish.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_LOW, _HIGH = (0, 1) if sys.byteorder == "little" else (1, 0)
_AFTER, _BEFORE = [1, 2, 0], [2, 0, 1]


def empty_buffer(size: tuple[int, int]) -> U64:
    """A flat buffer for a picture of size (height, width): every sample sees nothing."""
    return np.zeros(size[0] * size[1], np.uint64)


def seen(buffer: U64) -> I64:
    """The number of the triangle that each sample sees, 0 where it sees nothing."""
    return (buffer & np.uint64(0xFFFFFFFF)).astype(np.int64)


def nearness(buffer: U64) -> F32:
    """How near each sample's triangle is there, 0 where it sees nothing."""
    return (buffer >> np.uint64(32)).astype(np.uint32).view(np.float32)


def faces_us(points: F64, triangles: I32) -> npt.NDArray[np.bool_]:
    """Which triangles wind counter-clockwise in the picture: points (C, ≥ 2), triangles (T, 3) -> (T,)."""
    x, y = points[:, 0].take(triangles), points[:, 1].take(triangles)
    return np.asarray(_edges(x, y)[2].sum(1) < 0)


def draw(points: F64, triangles: I32, numbers: I64, buffer: U64, size: tuple[int, int]) -> None:
    """Draws triangles into a buffer.

    Args:
        points: float64 (C, 3), x and y in samples and the nearness: positive, greater for nearer, and linear
            over the picture, as one divided by the distance along the camera's axis is.
        triangles: int32 (T, 3), corners.
        numbers: (T,), what a sample remembers of the triangle it sees, 1 to 2³² - 1.
        buffer: from ``empty_buffer``; changed in place.
        size: (height, width) in samples.
    """
    height, width = size
    x, y, near = (points[:, k].take(triangles) for k in range(3))
    a, b, c = _edges(x, y)
    area = c.sum(1)
    first = np.clip(np.ceil(y.min(1) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(y.max(1) - 0.5), 0, height).astype(np.int64)
    solid = np.flatnonzero((last > first) & (area != 0))
    a, b, c, area = a[solid], b[solid], c[solid], area[solid]
    first, rows = first[solid], (last - first)[solid]
    # One span per triangle and row of samples: the stretch of x inside all three edges.
    owner = np.repeat(np.arange(len(solid)), rows)
    row = _ranges(first, rows)
    left, right = np.zeros(len(owner)), np.full(len(owner), float(width))
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in range(3):
            cut = (-b[:, k] / a[:, k]).take(owner) * (row + 0.5) - (c[:, k] / a[:, k]).take(owner)
            rising = (a[:, k] * area).take(owner)
            left = np.where(rising > 0, np.fmax(left, cut), left)
            right = np.where(rising < 0, np.fmin(right, cut), right)
    start = np.ceil(left - 0.5).astype(np.int64)
    count = np.maximum(np.ceil(right - 0.5).astype(np.int64) - start, 0)
    # The nearness is a plane over each triangle: its value at every span's first sample, and its slope in x.
    plane = np.stack([(edge * near[solid]).sum(1) / area for edge in (a, b, c)])
    along, down, zero = plane.take(owner, 1)
    at_start = along * (start + 0.5) + down * (row + 0.5) + zero
    steps = _ranges(np.zeros_like(count), count)
    key = np.empty((len(steps), 2), np.uint32)
    depth = np.repeat(at_start, count) + np.repeat(along, count) * steps
    key[:, _HIGH] = depth.astype(np.float32).view(np.uint32)
    key[:, _LOW] = np.repeat(numbers[solid].astype(np.uint32).take(owner), count)
    place = np.repeat(row * width + start, count) + steps
    np.maximum.at(buffer, place, key.view(np.uint64)[:, 0])


def weights(points: F64, triangles: I32, at: I64, triangle: I64, width: int) -> F32:
    """Barycentric weights, float32 (3, N), of samples ``at`` (row · width + column) in their triangles."""
    x, y = points[:, 0].take(triangles), points[:, 1].take(triangles)
    ux, uy, vx, vy = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0], x[:, 2] - x[:, 0], y[:, 2] - y[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / (ux * vy - uy * vx)
        table = np.stack([x[:, 0], y[:, 0], vy * scale, -vx * scale, -uy * scale, ux * scale], 1)
    x0, y0, sx, sy, tx, ty = table.astype(np.float32).take(triangle, 0).T
    row, column = np.divmod(at, width)
    dx, dy = column.astype(np.float32) + np.float32(0.5) - x0, row.astype(np.float32) + np.float32(0.5) - y0
    second, third = sx * dx + sy * dy, tx * dx + ty * dy
    # A sample on an edge may fall outside by a rounding error, and a sliver's corners are all alike.
    shares = np.maximum(np.nan_to_num(np.stack([1 - second - third, second, third])), 0)
    return np.asarray(shares / np.maximum(shares.sum(0), np.float32(1e-6)), np.float32)


def _edges(x: F64, y: F64) -> tuple[F64, F64, F64]:
    """a, b, c (T, 3) of each edge's a·x + b·y + c; c sums to twice the signed area."""
    a = y[:, _AFTER] - y[:, _BEFORE]
    b = x[:, _BEFORE] - x[:, _AFTER]
    c = x[:, _AFTER] * y[:, _BEFORE] - x[:, _BEFORE] * y[:, _AFTER]
    return a, b, c


def _ranges(first: I64, count: I64) -> I64:
    """first[i] … first[i] + count[i] - 1, one range after another."""
    before = np.cumsum(count) - count
    return np.arange(int(count.sum())) - np.repeat(before - first, count)
