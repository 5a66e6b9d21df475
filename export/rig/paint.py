"""Painting the skin: colours as functions of the 3D point under each texel.

Nothing is drawn by hand and no photograph is used: warm skin with low-frequency variation, redder cheeks,
nose and ears, lips, lids, and brows made of many short strokes. Landmarks (eyes, lips, nose) come from the
mesh, so a changed likeness keeps its make-up.

Rules: colours are sRGB in [0, 1] while painting; positions are metres in the head's frame; the noise is a
fixed hash of the position, so the picture is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from export.rig.atlas import PAINTED
from export.rig.brows import brows
from export.rig.brush import mix, noise, smooth, to_image
from export.rig.hairline import HAIR_DARK, above_hairline
from export.rig.head import PARTS, Head
from export.rig.makehuman import F64, I64
from export.rig.surface import bleed, neighbour_mean, rasterise, sample_mask, triangulate, vertex_normals

SKIN = np.array([0.800, 0.590, 0.480])
BLUSH = np.array([0.745, 0.395, 0.335])
LIPS = np.array([0.660, 0.345, 0.325])
BROW = np.array([0.235, 0.150, 0.110])
INNER = np.array([0.300, 0.075, 0.080])


@dataclass(frozen=True)
class Landmarks:
    """Where features lie, metres. `eye` is the left one; the right one is its mirror image."""

    eye: F64
    eye_radius: float
    nose: F64
    mouth_corner: F64
    top: float
    chin: float


def landmarks(head: Head) -> Landmarks:
    """Find the features of a head."""
    ball = head.template[head.of("leftEye")]
    skin = head.template[head.of("skin")]
    nose = skin[np.argmax(skin[:, 2])]
    seam = head.template[_seam(head)]
    near = skin[(np.abs(skin[:, 0]) < 0.01) & (skin[:, 2] > 0.05)]
    return Landmarks(
        eye=(ball.min(0) + ball.max(0)) / 2,
        eye_radius=float(np.ptp(ball[:, 0]) / 2),
        nose=nose,
        mouth_corner=seam[np.argmax(seam[:, 0])],
        top=float(skin[:, 1].max()),
        chin=float(near[:, 1].min()),
    )


@dataclass(frozen=True)
class Canvas:
    """The texels of a skin texture, (S, S) each: positions, normals, hollows, how much lip, part."""

    points: F64
    normals: F64
    hollow: F64
    lip: F64
    seam: F64
    part: I64
    inside: I64


def paint_skin(
    head: Head, triangles: I64, part: I64, uvs: F64, uv_triangles: I64, lip_mask: F64, size: int
) -> Image.Image:
    """The skin's colour texture: an sRGB image of `size` x `size`.

    triangles, uv_triangles: (T, 3); part: (T,) indices into PARTS; lip_mask: (H, W) in [0, 1] in
    MakeHuman's own uv layout.
    """
    texels = rasterise(uvs, uv_triangles, size)
    normals = vertex_normals(head.template, triangles)
    smoothed = neighbour_mean(head.template, triangles)
    hollow = ((smoothed - head.template) * normals).sum(1, keepdims=True)
    for _ in range(2):
        hollow = 0.5 * hollow + 0.5 * neighbour_mean(hollow, triangles)
    values = np.concatenate([head.template, normals, hollow, _mouth_seam(head, triangles)], 1)
    spread = texels.spread(values, triangles)
    shown = head.quads_of(*PAINTED)
    _, original = triangulate(head.template, head.quads[shown], head.uv_quads[shown])
    body_part = part[np.maximum(texels.triangle, 0)]
    canvas = Canvas(
        points=spread[..., :3],
        normals=spread[..., 3:6],
        hollow=spread[..., 6],
        lip=sample_mask(lip_mask, texels.spread(head.uvs, original)) * (body_part == 0),
        seam=spread[..., 7],
        part=body_part,
        inside=texels.inside.astype(np.int64),
    )
    colour = _skin_tone(canvas, landmarks(head))
    colour = bleed(colour, texels.inside)
    return to_image(colour)


def _skin_tone(canvas: Canvas, marks: Landmarks) -> F64:
    p = canvas.points
    side = np.abs(p[..., 0])
    colour = np.broadcast_to(SKIN, p.shape).copy()
    tone = 0.5 * noise(p, 0.03, 1) + 0.3 * noise(p, 0.012, 2) + 0.2 * noise(p, 0.004, 3)
    colour *= (1.0 + 0.035 * tone)[..., None]
    eye = marks.eye

    def blob(x: float, y: float, wide: float, high: float) -> F64:
        front = smooth(p[..., 2], 0.0, 0.05)
        return np.exp(-(((side - x) / wide) ** 2) - ((p[..., 1] - y) / high) ** 2) * front

    cheek = blob(eye[0] + 0.011, marks.nose[1] + 0.006, 0.024, 0.019)
    nose = blob(0.0, marks.nose[1], 0.014, 0.010)
    chin = blob(0.0, marks.chin + 0.022, 0.018, 0.012)
    ear = smooth(side, 0.068, 0.078) * smooth(-p[..., 1], 0.11, 0.08)
    mottled = 0.85 + 0.3 * noise(p, 0.006, 5)
    colour = mix(
        colour, BLUSH, np.clip(0.30 * cheek + 0.38 * nose + 0.16 * chin + 0.35 * ear, 0, 1) * mottled
    )
    lid = np.exp(-(((side - eye[0]) / 0.019) ** 2) - ((p[..., 1] - eye[1] - 0.003) / 0.011) ** 2)
    lid *= smooth(p[..., 2], 0.03, 0.06)
    colour = mix(colour, np.array([0.70, 0.44, 0.38]), 0.45 * lid)
    colour *= (1.0 - np.clip(canvas.hollow * 260.0, -0.06, 0.22))[..., None]
    edge = smooth(canvas.lip + 0.03 * noise(p, 0.0025, 7), 0.32, 0.70)
    lips = LIPS * (1.0 + 0.07 * noise(p * np.array([2.6, 0.4, 0.4]), 0.0022, 8))[..., None]
    to_corner = np.linalg.norm(np.abs(p) * [1, 0, 0] + p * [0, 1, 1] - marks.mouth_corner, axis=-1)
    colour *= (1.0 - 0.30 * smooth(to_corner, 0.0075, 0.001))[..., None]
    corner = smooth(side, marks.mouth_corner[0] + 0.001, marks.mouth_corner[0] - 0.008)
    colour = mix(colour, lips, edge * (0.45 + 0.40 * corner))
    colour = mix(colour, INNER, 0.85 * smooth(canvas.seam, 0.12, 0.60))
    colour = mix(colour, BROW, brows(p, eye, marks.eye_radius))
    colour = _under_the_hair(colour, p)
    socket = (canvas.part == PARTS.index("leftSocket")) | (canvas.part == PARTS.index("rightSocket"))
    colour[socket] = np.array([0.70, 0.40, 0.36])
    return colour


def _seam(head: Head) -> I64:
    """Vertices where the skin of the lips goes over into the inner mouth."""
    inner = np.unique(head.quads[head.quad_part == PARTS.index("innerMouth")])
    return np.asarray(inner[head.part[inner] == PARTS.index("skin")])


def _mouth_seam(head: Head, triangles: I64) -> F64:
    """(V, 1): 1 where the lips touch, falling to 0 over two rings of vertices."""
    seam = np.zeros((len(head.template), 1))
    seam[_seam(head)] = 1.0
    return np.maximum(seam, 0.75 * neighbour_mean(seam, triangles))


def _under_the_hair(colour: F64, p: F64) -> F64:
    """Scalp tinted like the hair, fine hairs at its edge and the shade it throws on the skin."""
    over = above_hairline(p)
    head_only = smooth(p[..., 1], -0.100, -0.080)
    shade = smooth(over, -0.016, 0.004) * head_only
    colour = colour * (1.0 - 0.30 * shade)[..., None]
    fine = 0.5 + 0.5 * noise(p * np.array([1.0, 0.22, 0.6]), 0.0011, 15)
    hairs = smooth(over + 0.006 * fine, 0.0005, 0.0085) * head_only
    return mix(colour, HAIR_DARK, 0.92 * hairs)
