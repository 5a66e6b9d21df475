"""Plain mesh geometry: triangles, normals, corners at texture seams, and texels with 3D positions.

Rules: pure functions of arrays; nothing here knows the names of parts or shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from export.rig.makehuman import F64, I64


def triangulate(vertices: F64, quads: I64, *carried: I64) -> tuple[I64, ...]:
    """Split quads (F, 4) along their shorter diagonal into triangles (2F, 3).

    Every array in `carried` (F, 4) is split the same way. Padded triangles (last corner repeated) lose
    their empty half.
    """
    a, b, c, d = (vertices[quads[:, i]] for i in range(4))
    ac_is_short = np.linalg.norm(a - c, axis=1) <= np.linalg.norm(b - d, axis=1)
    first = np.where(ac_is_short[:, None], [0, 1, 2], [0, 1, 3])
    second = np.where(ac_is_short[:, None], [0, 2, 3], [1, 2, 3])
    order = np.stack([first, second], 1).reshape(-1, 3)
    row = np.repeat(np.arange(len(quads)), 2)[:, None]
    solid = np.ones(len(order), np.bool_)
    solid[1::2] = quads[:, 2] != quads[:, 3]
    return tuple(array[row, order][solid] for array in (quads, *carried))


def vertex_normals(vertices: F64, triangles: I64) -> F64:
    """Area-weighted unit normals (V, 3); a vertex without triangles gets (0, 0, 1)."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(triangles[:, corner], face[:, axis], len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals[length[:, 0] < 1e-20] = (0.0, 0.0, 1.0)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20))


def split_corners(triangles: I64, uv_triangles: I64) -> tuple[I64, I64, I64]:
    """Unique (vertex, uv) corners of a mesh whose texture has seams.

    Returns the vertex (C,) and the uv (C,) of every corner, and the triangles (T, 3) over corners.
    """
    pairs = np.stack([triangles.ravel(), uv_triangles.ravel()], 1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], inverse.reshape(-1, 3)


def neighbour_mean(values: F64, triangles: I64) -> F64:
    """Mean over the edge neighbours of each vertex; values float64 (V, K)."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    count = np.maximum(np.bincount(both[:, 0], minlength=len(values)), 1)
    sums = np.stack(
        [np.bincount(both[:, 0], values[both[:, 1], k], len(values)) for k in range(values.shape[1])], 1
    )
    return np.asarray(sums / count[:, None])


@dataclass(frozen=True)
class Texels:
    """Which triangle each texel of an (S, S) texture lies in, and where.

    triangle: int64 (S, S), -1 outside. weights: float64 (S, S, 3), barycentric. Row 0 is the top (v = 1).
    """

    triangle: I64
    weights: F64

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Mask (S, S) of texels that lie in a triangle."""
        return self.triangle >= 0

    def spread(self, values: F64, triangles: I64) -> F64:
        """Interpolate per-vertex values (V, K) to texels (S, S, K); 0 outside."""
        corner = values[triangles[np.maximum(self.triangle, 0)]]
        return np.asarray(np.einsum("...c,...ck->...k", self.weights, corner) * self.inside[..., None])


def rasterise(uvs: F64, uv_triangles: I64, size: int) -> Texels:
    """Lay triangles with texture coordinates (M, 2) in [0, 1] over a `size` x `size` texture."""
    triangle = np.full((size, size), -1, np.int64)
    weights = np.zeros((size, size, 3))
    points = np.stack([uvs[:, 0] * size - 0.5, (1.0 - uvs[:, 1]) * size - 0.5], 1)
    for index, corners in enumerate(uv_triangles):
        p, q, r = points[corners]
        area = (q[0] - p[0]) * (r[1] - p[1]) - (r[0] - p[0]) * (q[1] - p[1])
        if abs(area) < 1e-12:
            continue
        low = np.maximum(np.floor(np.minimum(np.minimum(p, q), r)), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(np.maximum(p, q), r)), size - 1).astype(int)
        x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
        wq = ((x - p[0]) * (r[1] - p[1]) - (r[0] - p[0]) * (y - p[1])) / area
        wr = ((q[0] - p[0]) * (y - p[1]) - (x - p[0]) * (q[1] - p[1])) / area
        wp = 1.0 - wq - wr
        hit = (wp >= -1e-9) & (wq >= -1e-9) & (wr >= -1e-9)
        triangle[y[hit], x[hit]] = index
        weights[y[hit], x[hit]] = np.stack([wp[hit], wq[hit], wr[hit]], 1)
    return Texels(triangle, weights)


def bleed(image: F64, inside: NDArray[np.bool_]) -> F64:
    """Copy the nearest inside texel to every outside texel, so that filtering finds no seams."""
    if inside.all():
        return image
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(nearest)])


def sample_mask(mask: F64, uvs: F64) -> F64:
    """Read a picture (H, W) at texture coordinates (..., 2), v up, between its texels."""
    height, width = mask.shape
    rows = (1.0 - uvs[..., 1]) * height - 0.5
    columns = uvs[..., 0] * width - 0.5
    return np.asarray(ndimage.map_coordinates(mask, [rows, columns], order=1, mode="nearest"))
