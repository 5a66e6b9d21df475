"""From a head to the GLB's meshes: skin, eyes, teeth, tongue, lashes.

Rules: every mesh that moves carries all 52 targets and `_RIG_VERTEX`; normals and normal deltas come from the
welded rig, so texture seams do not show.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.rig.atlas import eye_layout, skin_layout
from export.rig.features import paint_eye, tooth_colour
from export.rig.glb import Material, Part
from export.rig.head import PARTS, Head
from export.rig.makehuman import F64, I64
from export.rig.paint import encode, paint_skin
from export.rig.surface import split_corners, triangulate, vertex_normals

_NO_TURN = 2e-3
"""A normal delta shorter than this (0.1 degrees) is dropped."""


def _part(
    head: Head, name: str, material: int, rows: I64, triangles: I64, uvs: F64 | None, colours: F64 | None
) -> Part:
    """A mesh over the rig vertices `rows` (C,), with triangles (T, 3) over those rows; uvs point up."""
    rig_triangles = rows[triangles]

    def normals_of(vertices: F64) -> F64:
        return vertex_normals(vertices, rig_triangles)[rows]

    rest = normals_of(head.template)
    turns = np.zeros((len(head.basis), len(rows), 3), np.float32)
    moves = head.basis[:, rows].astype(np.float32)
    for k in range(len(head.basis)):
        if moves[k].any():
            turn = normals_of(head.template + head.basis[k]) - rest
            turns[k] = np.where(np.linalg.norm(turn, axis=1, keepdims=True) > _NO_TURN, turn, 0.0)
    return Part(
        name=name,
        material=material,
        positions=head.template[rows].astype(np.float32),
        normals=rest.astype(np.float32),
        triangles=triangles,
        uvs=None if uvs is None else np.stack([uvs[:, 0], 1.0 - uvs[:, 1]], 1).astype(np.float32),
        colours=None if colours is None else _linear(colours),
        rig_vertex=rows,
        moves=moves,
        turns=turns,
    )


def _linear(colours: F64) -> NDArray[np.float32]:
    """sRGB (C, 3) or (C, 4) with alpha -> linear RGBA float32 (C, 4)."""
    rgb = colours[:, :3]
    rgb = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    alpha = colours[:, 3:] if colours.shape[1] == 4 else np.ones((len(colours), 1))
    return np.concatenate([rgb, alpha], 1).astype(np.float32)


def _plain(head: Head, names: tuple[str, ...]) -> tuple[I64, I64]:
    """Rig vertices (C,) and triangles (T, 3) over them of whole parts, without texture seams."""
    chosen = np.isin(head.quad_part, [PARTS.index(n) for n in names])
    (triangles,) = triangulate(head.template, head.quads[chosen])
    rows, local = np.unique(triangles, return_inverse=True)
    return rows, local.reshape(-1, 3)


def build_meshes(head: Head, lip: F64, size: int) -> tuple[list[Part], list[Material]]:
    """All moving meshes with their materials. lip: float64 (V,) in [0, 1]; size: the skin texture's width."""
    uvs, uv_quads = skin_layout(head)
    shown = head.quad_part <= PARTS.index("rightSocket")
    part = np.repeat(head.quad_part[shown], 2).astype(np.int64)
    triangles, uv_triangles = triangulate(head.template, head.quads[shown], uv_quads)
    image = paint_skin(head, triangles, part, uvs, uv_triangles, lip, size)
    rows, uv_rows, corners = split_corners(triangles, uv_triangles)
    materials = [
        Material("skin", image=encode(image, 90), image_type="image/jpeg", roughness=0.55),
        Material("eye", image=encode(paint_eye(384), 92), image_type="image/jpeg", roughness=0.12),
        Material("teeth", roughness=0.22),
        Material("tongue", roughness=0.35),
        Material("lashes", colour=(0.012, 0.008, 0.006, 1.0), roughness=0.8, double_sided=True),
    ]
    parts = [_part(head, "skin", 0, rows, corners, uvs[uv_rows], None)]
    for side in ("left", "right"):
        rows, triangles = _plain(head, (f"{side}Eye",))
        placed, which = eye_layout(head, side)
        assert np.array_equal(rows, which)
        parts.append(_part(head, f"{side}Eye", 1, rows, triangles, placed, None))
    for name in ("upperTeeth", "lowerTeeth"):
        rows, triangles = _plain(head, (name,))
        colour = tooth_colour(head.template[rows], name == "upperTeeth")
        parts.append(_part(head, name, 2, rows, triangles, None, colour))
    rows, triangles = _plain(head, ("tongue",))
    pink = np.broadcast_to(np.array([0.72, 0.36, 0.36]), (len(rows), 3))
    parts.append(_part(head, "tongue", 3, rows, triangles, None, pink))
    rows, triangles = _plain(head, ("leftLashes", "rightLashes"))
    parts.append(_part(head, "lashes", 4, rows, triangles, None, None))
    return parts, materials
