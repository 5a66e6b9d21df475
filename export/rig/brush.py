"""What every painter here needs: noise, soft steps, mixing, and turning arrays into picture files.

Rules: colours are sRGB in [0, 1] while painting; the noise is a fixed hash of the position, so the picture is
the same on every machine.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from export.rig.makehuman import F64, I64


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
