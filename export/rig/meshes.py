"""From a head to the GLB's meshes: skin, eyes, teeth, tongue, lashes.

Rules: every mesh that moves carries all 52 targets and `_RIG_VERTEX`; normals and normal deltas come from the
welded rig, so texture seams do not show.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.rig.atlas import PAINTED, box_layout, eye_layout, lash_layout, skin_layout
from export.rig.brush import encode, to_image
from export.rig.clothes import ribbing, top
from export.rig.features import paint_eye, paint_inner_mouth, paint_lashes, paint_teeth, paint_tongue
from export.rig.glb import Material, Part
from export.rig.hair import grow, paint_hair
from export.rig.head import COLLAR, PARTS, Body, Head
from export.rig.makehuman import F64, I64
from export.rig.paint import paint_skin
from export.rig.surface import bleed, rasterise, split_corners, triangulate, vertex_normals

_MOUTH = {
    "upperTeeth": (0.01, 0.51, 0.98, 0.48),
    "lowerTeeth": (0.01, 0.01, 0.58, 0.48),
    "tongue": (0.62, 0.01, 0.37, 0.48),
}
"""Boxes (u, v, width, height) of the mouth's parts on their texture."""
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


def paint_mouth(head: Head, size: int) -> Image.Image:
    """The texture of teeth and tongue, sRGB, `size` x `size`."""
    colour = np.zeros((size, size, 3))
    inside = np.zeros((size, size), np.bool_)
    for name in _MOUTH:
        uvs, triangles, uv_triangles = _mouth_layout(head, name)
        texels = rasterise(uvs, uv_triangles, size)
        here = texels.inside
        points = texels.spread(head.template, triangles)[here]
        colour[here] = paint_tongue(points) if name == "tongue" else paint_teeth(points, name == "upperTeeth")
        inside |= here
    return to_image(bleed(colour, inside))


def _mouth_layout(head: Head, name: str) -> tuple[F64, I64, I64]:
    """Texture coordinates (M, 2), triangles and uv triangles (T, 3) of one part of the mouth."""
    uvs, uv_quads = box_layout(head, (name,), (_MOUTH[name],))
    quads = head.quads[head.quad_part == PARTS.index(name)]
    triangles, uv_triangles = triangulate(head.template, quads, uv_quads)
    return uvs, triangles, uv_triangles


def _mouth_part(head: Head, name: str) -> Part:
    uvs, triangles, uv_triangles = _mouth_layout(head, name)
    if name == "tongue":
        rows, uv_rows, corners = split_corners(triangles, uv_triangles)
        return _part(head, name, 2, rows, corners, uvs[uv_rows], None)
    # Teeth have an edge: front and back are shaded apart. They only swing a little: no normal deltas.
    a, b, c = (head.template[triangles[:, i]] for i in range(3))
    back = np.cross(b - a, c - a)[:, 2] < 0
    front_rows, front_uvs, front = split_corners(triangles[~back], uv_triangles[~back])
    back_rows, back_uvs, behind = split_corners(triangles[back], uv_triangles[back])
    rows = np.concatenate([front_rows, back_rows])
    corners = np.concatenate([front, behind + len(front_rows)])
    flat = _part(head, name, 2, rows, corners, uvs[np.concatenate([front_uvs, back_uvs])], None)
    weld = np.unique(np.stack([rows, np.arange(len(rows)) >= len(front_rows)]), axis=1, return_inverse=True)[
        1
    ]
    sharp = vertex_normals(_gather(head.template[rows], weld), weld[corners])[weld]
    return replace(flat, normals=sharp.astype(np.float32), turns=np.zeros_like(flat.moves), rigid=True)


def _gather(points: F64, weld: I64) -> F64:
    """One row per welded vertex: points (C, 3) -> (max(weld) + 1, 3)."""
    gathered = np.zeros((int(weld.max()) + 1, 3))
    gathered[weld] = points
    return gathered


def build_meshes(
    head: Head, body: Body, lip_mask: F64, ear: F64, size: int
) -> tuple[list[Part], list[Material]]:
    """All meshes with their materials. lip_mask: (H, W); ear: (V,); both in [0, 1]."""
    uvs, uv_quads = skin_layout(head)
    shown = head.quads_of(*PAINTED)
    whose = np.repeat(head.quad_part[shown, None], 4, 1).astype(np.int64)
    triangles, uv_triangles, whose = triangulate(head.template, head.quads[shown], uv_quads, whose)
    image = paint_skin(head, triangles, whose[:, 0], uvs, uv_triangles, lip_mask, size)
    rows, uv_rows, corners = split_corners(triangles, uv_triangles)
    materials = [
        Material("skin", image=encode(image, 90), image_type="image/jpeg", roughness=0.60),
        Material("eye", image=encode(paint_eye(384), 92), image_type="image/jpeg", roughness=0.09),
        Material(
            "mouth",
            image=encode(paint_mouth(head, 512), 90),
            image_type="image/jpeg",
            roughness=0.5,
            specular=0.35,
        ),
        Material(
            "lashes", image=encode(paint_lashes(512, 256)), roughness=0.8, alpha="BLEND", double_sided=True
        ),
        Material("mouth wall", roughness=0.9, specular=0.1),
    ]
    parts = [_part(head, "skin", 0, rows, corners, uvs[uv_rows], None)]
    rows, triangles = _plain(head, ("innerMouth",))
    parts.append(_part(head, "innerMouth", 4, rows, triangles, None, paint_inner_mouth(head.template[rows])))
    for side in ("left", "right"):
        rows, triangles = _plain(head, (f"{side}Eye",))
        placed, which = eye_layout(head, side)
        assert np.array_equal(rows, which)
        parts.append(_part(head, f"{side}Eye", 1, rows, triangles, placed, None))
    for name in _MOUTH:
        parts.append(_mouth_part(head, name))
    rows, triangles = _plain(head, ("leftLashes", "rightLashes"))
    placed = np.zeros((len(head.template), 2))
    for side in ("left", "right"):
        lash_uvs, which = lash_layout(head, side)
        placed[which] = lash_uvs
    parts.append(_part(head, "lashes", 3, rows, triangles, placed[rows], None))
    hair = grow(head, ear)
    materials.append(
        Material(
            "hair", image=encode(paint_hair(1024), 90), image_type="image/jpeg", roughness=0.5, specular=0.355
        )
    )
    parts.append(_still("hair", 5, hair.positions, hair.triangles, hair.uvs, None, hair.welded))
    cloth = top(body, COLLAR)
    materials.append(Material("cloth", roughness=0.9, alpha="BLEND", double_sided=True))
    materials.append(Material("ribbing", roughness=0.9))
    parts.append(_still("top", 6, cloth.positions, cloth.triangles, None, cloth.colours, None))
    band = ribbing(body, COLLAR)
    parts.append(_still("collar", 7, band.positions, band.triangles, None, band.colours, None))
    return parts, materials


def _still(
    name: str,
    material: int,
    points: F64,
    triangles: I64,
    uvs: F64 | None,
    colours: F64 | None,
    weld: I64 | None,
) -> Part:
    """A mesh that never moves; `weld` (N,) names the vertex whose normal each vertex shares."""
    normals = vertex_normals(points, triangles if weld is None else weld[triangles])
    return Part(
        name=name,
        material=material,
        positions=points.astype(np.float32),
        normals=(normals if weld is None else normals[weld]).astype(np.float32),
        triangles=triangles,
        uvs=None if uvs is None else np.stack([uvs[:, 0], 1.0 - uvs[:, 1]], 1).astype(np.float32),
        colours=None if colours is None else _linear(colours),
    )
