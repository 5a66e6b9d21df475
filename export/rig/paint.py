"""Painting the skin: colours as functions of the 3D point under each texel.

Nothing is drawn by hand and no photograph is used: warm skin with low-frequency variation, redder cheeks,
nose and ears, lips, lids, and brows made of many short strokes. Landmarks (eyes, lips, nose) come from the
mesh, so a changed likeness keeps its make-up.

Rules: colours are sRGB in [0, 1] while painting; positions are metres in the head's frame; the noise is a
fixed hash of the position, so the picture is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from scipy import ndimage

from export.rig.head import PARTS, Head
from export.rig.makehuman import F64, I64
from export.rig.surface import bleed, neighbour_mean, rasterise, vertex_normals

SKIN = np.array([0.855, 0.655, 0.545])
BLUSH = np.array([0.800, 0.455, 0.400])
LIPS = np.array([0.715, 0.355, 0.345])
BROW = np.array([0.235, 0.150, 0.110])
INNER = np.array([0.300, 0.075, 0.080])
_BROW_BOX = (-1.7, 2.1, -0.7, 0.7)  # along and above the brow's middle line, in eyeball radii


def noise(points: F64, cell: float, seed: int) -> F64:
    """Smooth value noise in [-1, 1] at points (..., 3); `cell` is the lattice spacing in metres."""
    scaled = points / cell + 1000.0
    base = np.floor(scaled).astype(np.int64)
    part = scaled - base
    ease = part * part * (3.0 - 2.0 * part)
    total = np.zeros(points.shape[:-1])
    for corner in range(8):
        step = np.array([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        weight = np.prod(np.where(step, ease, 1.0 - ease), axis=-1)
        total += weight * _hash(base + step, seed)
    return total


def _hash(cells: I64, seed: int) -> F64:
    """A number in [-1, 1] for each lattice cell (..., 3)."""
    mixed = cells.astype(np.uint64)
    word = mixed[..., 0] * np.uint64(73856093) ^ mixed[..., 1] * np.uint64(19349663)
    word ^= mixed[..., 2] * np.uint64(83492791) ^ np.uint64(seed * 2654435761 + 97)
    word ^= word >> np.uint64(13)
    word *= np.uint64(0x5BD1E9955BD1E995)
    word ^= word >> np.uint64(29)
    word *= np.uint64(0x9E3779B97F4A7C15)
    return (word >> np.uint64(40)).astype(np.float64) / 2**23 - 1.0


def smooth(x: F64, start: float, stop: float) -> F64:
    """0 before `start`, 1 after `stop`, smooth between; `start` may be the larger one."""
    t = np.clip((x - start) / (stop - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(under: F64, over: F64, amount: F64) -> F64:
    """Lay colour `over` (3,) or (..., 3) on `under` (..., 3) with opacity `amount` (...)."""
    return under + (over - under) * amount[..., None]


@dataclass(frozen=True)
class Landmarks:
    """Where features lie, metres. `eye` is the left one; the right one is its mirror image."""

    eye: F64
    eye_radius: float
    nose: F64
    mouth: F64
    mouth_corner: F64
    top: float
    chin: float


def landmarks(head: Head) -> Landmarks:
    """Find the features of a head."""
    ball = head.template[head.of("leftEye")]
    skin = head.template[head.of("skin")]
    nose = skin[np.argmax(skin[:, 2])]
    teeth = head.template[head.of("upperTeeth")]
    mouth = np.array([0.0, teeth[:, 1].min() + 0.002, teeth[:, 2].max()])
    band = skin[(np.abs(skin[:, 1] - mouth[1]) < 0.004) & (skin[:, 0] > 0.015) & (skin[:, 2] > 0.05)]
    corner = band[np.argmin(np.abs(band[:, 0] - 0.026))]
    near = skin[(np.abs(skin[:, 0]) < 0.01) & (skin[:, 2] > 0.05)]
    return Landmarks(
        eye=(ball.min(0) + ball.max(0)) / 2,
        eye_radius=float(np.ptp(ball[:, 0]) / 2),
        nose=nose,
        mouth=mouth,
        mouth_corner=corner,
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
    part: I64
    inside: I64


def paint_skin(
    head: Head, triangles: I64, part: I64, uvs: F64, uv_triangles: I64, lip: F64, size: int
) -> Image.Image:
    """The skin's colour texture: an sRGB image of `size` x `size`.

    triangles, uv_triangles: (T, 3); part: (T,) indices into PARTS; lip: (V,) in [0, 1], how much lip.
    """
    texels = rasterise(uvs, uv_triangles, size)
    normals = vertex_normals(head.template, triangles)
    smoothed = neighbour_mean(head.template, triangles)
    hollow = ((smoothed - head.template) * normals).sum(1, keepdims=True)
    for _ in range(2):
        hollow = 0.5 * hollow + 0.5 * neighbour_mean(hollow, triangles)
    values = np.concatenate([head.template, normals, hollow, lip[:, None]], 1)
    spread = texels.spread(values, triangles)
    canvas = Canvas(
        points=spread[..., :3],
        normals=spread[..., 3:6],
        hollow=spread[..., 6],
        lip=spread[..., 7],
        part=part[np.maximum(texels.triangle, 0)],
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

    cheek = blob(eye[0] + 0.013, marks.nose[1] + 0.004, 0.022, 0.017)
    nose = blob(0.0, marks.nose[1], 0.014, 0.010)
    chin = blob(0.0, marks.chin + 0.022, 0.018, 0.012)
    ear = smooth(side, 0.068, 0.078) * smooth(-p[..., 1], 0.11, 0.08)
    mottled = 0.85 + 0.3 * noise(p, 0.006, 5)
    colour = mix(
        colour, BLUSH, np.clip(0.42 * cheek + 0.38 * nose + 0.16 * chin + 0.35 * ear, 0, 1) * mottled
    )
    lid = np.exp(-(((side - eye[0]) / 0.019) ** 2) - ((p[..., 1] - eye[1] - 0.003) / 0.011) ** 2)
    lid *= smooth(p[..., 2], 0.03, 0.06)
    colour = mix(colour, np.array([0.70, 0.44, 0.38]), 0.45 * lid)
    colour *= (1.0 - np.clip(canvas.hollow * 260.0, -0.06, 0.22))[..., None]
    edge = smooth(canvas.lip + 0.10 * noise(p, 0.0025, 7), 0.30, 0.72)
    lips = LIPS * (1.0 + 0.07 * noise(p * np.array([2.6, 0.4, 0.4]), 0.0022, 8))[..., None]
    colour = mix(colour, lips, 0.88 * edge)
    colour = mix(colour, BROW, brows(p, marks))
    inner = canvas.part == PARTS.index("innerMouth")
    colour[inner] = INNER * (1.0 + 0.15 * noise(p[inner], 0.006, 9))[:, None]
    socket = (canvas.part == PARTS.index("leftSocket")) | (canvas.part == PARTS.index("rightSocket"))
    colour[socket] = np.array([0.70, 0.40, 0.36])
    return colour


def brows(points: F64, marks: Landmarks) -> F64:
    """Opacity in [0, 1] of the eyebrows at points (..., 3), from a flat picture of one brow."""
    unit = marks.eye_radius
    along = (np.abs(points[..., 0]) - marks.eye[0]) / unit  # -1.2 at the nose, 1.8 at the temple
    above = (points[..., 1] - marks.eye[1]) / unit - _brow_arch(along)
    x = (along - _BROW_BOX[0]) / (_BROW_BOX[1] - _BROW_BOX[0]) * _BROW_STROKES.shape[1]
    y = (above - _BROW_BOX[2]) / (_BROW_BOX[3] - _BROW_BOX[2]) * _BROW_STROKES.shape[0]
    drawn = ndimage.map_coordinates(_BROW_STROKES, [y, x], order=1, mode="constant")
    return np.asarray(drawn * smooth(points[..., 2], 0.02, 0.05))


def _brow_arch(along: F64) -> F64:
    """Height of the brow's middle line over the eye's centre, in eyeball radii."""
    return np.asarray(1.46 + 0.26 * np.sin((along + 1.25) * 0.95) + 0.02 * along)


def _draw_brow(width: int = 900, height: int = 260) -> F64:
    """One brow as (height, width) opacities over _BROW_BOX: a soft ground and some 260 hair strokes."""
    left, right, low, high = _BROW_BOX
    x, y = np.meshgrid(np.linspace(left, right, width), np.linspace(low, high, height))
    thick = 0.24 * smooth(x, -1.50, -0.70) * (1.0 - 0.78 * smooth(x, 0.2, 1.75)) + 1e-6
    ground = np.exp(-((y / thick) ** 2) * 1.6) * smooth(x, -1.40, -0.85) * smooth(x, 1.75, 1.2)
    alpha = 0.50 * ground
    random = np.random.default_rng(7)
    for _ in range(260):
        start = -1.22 + 2.85 * random.random()
        span = (
            0.24
            * float(smooth(np.array(start), -1.55, -0.75))
            * (1 - 0.78 * float(smooth(np.array(start), 0.2, 1.75)))
        )
        offset = (random.random() * 1.7 - 0.95) * span
        steep = np.radians(
            np.interp(start, [-1.25, -0.8, 0.0, 0.9, 1.7], [78, 48, 24, 6, -10]) + 14 * random.normal()
        )
        steep -= np.radians(30) * offset / 0.24  # upper hairs lie down, lower ones stand up
        length = (0.30 + 0.10 * random.random()) * (1 - 0.35 * float(smooth(np.array(start), 0.6, 1.7)))
        dx, dy = np.cos(steep) * length, np.sin(steep) * length * 0.75
        t = np.clip(((x - start) * dx + (y - offset) * dy) / (dx * dx + dy * dy), 0, 1)
        away = np.hypot(x - start - t * dx, y - offset - t * dy)
        line = smooth(away, 0.026 * (1 - 0.65 * t), 0.006) * (0.55 + 0.3 * random.random())
        alpha = alpha + line * (0.94 - alpha).clip(0)
    return alpha


_BROW_STROKES = _draw_brow()


def to_image(colour: F64) -> Image.Image:
    """sRGB (H, W, 3) or (H, W, 4) in [0, 1] -> an 8-bit picture."""
    return Image.fromarray((np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8))


def encode(image: Image.Image, quality: int | None = None) -> bytes:
    """A PNG, or a JPEG of the given quality."""
    out = BytesIO()
    if quality is None:
        image.save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=quality, subsampling=0, optimize=True)
    return out.getvalue()
