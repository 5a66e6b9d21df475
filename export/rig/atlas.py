"""Texture layout: where each part of the head lies on its texture.

MakeHuman lays out a whole body; its head island is reused here, cut out, turned upright and stretched with
a smooth monotone map so that eyes and mouth get several times the texels of the back of the head. The other
islands (neck, sockets) are small plain-coloured boxes along the bottom.

Rules: coordinates in [0, 1], v up; one map from MakeHuman's uv to ours, so seams stay where they were.
"""

from __future__ import annotations

import numpy as np

from export.rig.head import PARTS, Head
from export.rig.makehuman import F64, I64

_HEAD = (0.6412, 0.9936, 0.1486, 0.8177)  # u low, u high, v low, v high of MakeHuman's head island
_FACE_U, _FACE_V = 0.878, 0.483  # between eyes and mouth; the face's mid-line
PAINTED = ("skin", "leftSocket", "rightSocket")
"""The parts that share the skin's texture."""
_STRIP = 0.1  # height of the bottom strip


def _stretch(x: F64, low: float, high: float, centre: float, width: float, gain: float) -> F64:
    """Monotone map of [low, high] onto [0, 1] whose slope is (1 + gain) times steeper near `centre`."""
    table = np.linspace(low, high, 513)
    density = 1.0 + gain * np.exp(-(((table - centre) / width) ** 2))
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.asarray(np.interp(x, table, total / total[-1]))


def skin_layout(head: Head) -> tuple[F64, I64]:
    """Texture coordinates of the skin and the eye sockets.

    Returns uvs (K, 2) and uv_quads (F', 4) of the quads of PAINTED, in the head's order.
    """
    shown = head.quads_of(*PAINTED)
    quads, part = head.uv_quads[shown], head.quad_part[shown]
    u, v = head.uvs[:, 0], head.uvs[:, 1]
    placed = np.zeros_like(head.uvs)
    box = np.full(len(head.uvs), -1)
    on_face = (u[quads].mean(1) > _HEAD[0]) & (v[quads].mean(1) > 0.145) & (part == 0)
    for index, chosen in enumerate(
        [on_face, (part == 0) & ~on_face, *(part == PARTS.index(n) for n in PAINTED[1:])]
    ):
        used = np.unique(quads[chosen])
        box[used] = index
        if index == 0:
            placed[used, 0] = _stretch(v[used], *_HEAD[2:], _FACE_V, 0.075, 2.6)
            down = _stretch(u[used], *_HEAD[:2], _FACE_U, 0.06, 2.2)
            placed[used, 1] = 1.0 - down * (1.0 - _STRIP)
            placed[used, 0] = 0.005 + placed[used, 0] * 0.99
        elif len(used):
            span = np.maximum(np.ptp(head.uvs[used], axis=0), 1e-9)
            unit = (head.uvs[used] - head.uvs[used].min(0)) / span
            corner = np.array([0.01 + 0.25 * (index - 1), 0.008])
            placed[used] = corner + unit * np.array([0.23, _STRIP - 0.02])
    return placed, quads


def eye_layout(head: Head, side: str) -> tuple[F64, I64]:
    """A straight-on projection of one eyeball: (72, 2) by vertex, and those vertices' indices (72,).

    (0.5, 0.5) is the optical axis and 0.5 the eyeball's radius, so an iris is a circle on the texture. The
    back half lies under the front half; nobody sees it.
    """
    which = np.flatnonzero(head.of(f"{side}Eye"))
    ball = head.template[which]
    centre = (ball.min(0) + ball.max(0)) / 2
    radius = np.ptp(ball[:, 0]) / 2
    axis = ball[np.argsort(-ball[:, 2])[:8]].mean(0) - centre  # MakeHuman's pupil is a ring of eight
    flat = (ball[:, :2] - centre[:2]) - (axis[:2] / axis[2]) * (ball[:, 2:] - centre[2])
    return 0.5 + 0.49 * flat / radius, which


def box_layout(
    head: Head, parts: tuple[str, ...], boxes: tuple[tuple[float, float, float, float], ...]
) -> tuple[F64, I64]:
    """Each part's MakeHuman island stretched over its own box (u, v, width, height).

    Returns uvs (M, 2) and uv_quads of the parts' quads, in the head's order.
    """
    placed = np.zeros_like(head.uvs)
    for name, (left, low, width, height) in zip(parts, boxes, strict=True):
        used = np.unique(head.uv_quads[head.quad_part == PARTS.index(name)])
        span = np.maximum(np.ptp(head.uvs[used], axis=0), 1e-9)
        unit = (head.uvs[used] - head.uvs[used].min(0)) / span
        placed[used] = np.array([left, low]) + unit * np.array([width, height])
    chosen = np.isin(head.quad_part, [PARTS.index(name) for name in parts])
    return placed, head.uv_quads[chosen]


def lash_layout(head: Head, side: str) -> tuple[F64, I64]:
    """Texture coordinates of one eye's lashes: (L, 2) by vertex, and those vertices' indices (L,).

    u runs from the inner to the outer corner. v is 0.5 to 1 on the upper lid's strip and 0 to 0.5 on the
    lower one, from root to tip.
    """
    which = np.flatnonzero(head.of(f"{side}Lashes"))
    quads = head.quads[head.quad_part == PARTS.index(f"{side}Lashes")]
    ball = head.template[head.of(f"{side}Eye")]
    centre = (ball.min(0) + ball.max(0)) / 2
    uvs = np.zeros((len(head.template), 2))
    for strip in _pieces(quads):
        points = head.template[strip]
        low = 0.5 if points[:, 1].mean() > head.template[which, 1].mean() else 0.0
        x, r = np.abs(points[:, 0]), np.linalg.norm(points - centre, axis=1)
        near = np.abs(x[:, None] - x[None]) < 0.0016
        least = np.where(near, r[None], np.inf).min(1)
        most = np.where(near, r[None], -np.inf).max(1)
        uvs[strip, 0] = (x - x.min()) / np.ptp(x)
        uvs[strip, 1] = low + 0.5 * np.clip((r - least) / np.maximum(most - least, 1e-6), 0.02, 0.98)
    return uvs[which], which


def _pieces(quads: I64) -> list[I64]:
    """The vertices of each connected piece of a mesh of quads (F, 4)."""
    label = np.arange(quads.max() + 1)
    while True:
        least = label[quads].min(1)
        before = label.copy()
        np.minimum.at(label, quads, least[:, None])
        if np.array_equal(label, before):
            used = np.unique(quads)
            return [used[label[used] == value] for value in np.unique(label[used])]
