"""The studio: a warm key from the upper left, a cool fill, a rim from behind, a soft room, and what they do.

Colours are linear light until ``develop``. Skin scatters light under its surface, red farthest: its diffuse
term wraps around the terminator, more so in red (the usual wrap approximation of subsurface scattering, GPU
Gems 16.2). Highlights are Blinn and Phong's with Schlick's Fresnel. Teeth, tongue and mouth glow a little, as
lit from within. Pictures are developed with Narkowicz's fit of the ACES film curve and end in sRGB.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamer.engine.render.avatar import Material

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

KEY = np.array([-0.7, 0.75, 1.2])


def _unit(x: float, y: float, z: float) -> F32:
    vector = np.array([x, y, z])
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def _colour(red: float, green: float, blue: float, strength: float) -> F32:
    return np.array([[red], [green], [blue]], np.float32) * np.float32(strength)


_LAMPS = np.stack([_unit(*KEY), _unit(1.2, 0.1, 0.9), _unit(0.7, 0.6, -1.1)])
_COLOURS = (
    _colour(1.00, 0.88, 0.75, 0.74),
    _colour(0.74, 0.81, 1.00, 0.17),
    _colour(1.00, 1.00, 1.00, 0.55),
)
_SKY, _GROUND = _colour(1.0, 0.99, 0.98, 0.46), _colour(0.80, 0.66, 0.58, 0.26)
_WRAP = _colour(0.34, 0.16, 0.11, 1.0)
_LEAST_ROUGHNESS = 0.28  # lamps are as large as windows: a glint on a wet eye is no point
_BACKDROP = ((0.0, (0x59, 0x63, 0x6F)), (0.55, (0x33, 0x3B, 0x46)), (1.0, (0x19, 0x1D, 0x24)))


def shade(material: Material, albedo: F32, normals: F32, view: F32, ambient: F32, lit: F32) -> F32:
    """Light that N samples of one material send to the eye.

    Args:
        material: their surface.
        albedo: float32 (3, N), linear.
        normals: float32 (3, N), any length. view: float32 (3, N), unit, towards the eye.
        ambient, lit: float32 (N,), see ``visibility.bake``.

    Returns:
        float32 (3, N), linear, 0 and up.
    """
    normals = normals / np.sqrt(_dot(normals, normals) + np.float32(1e-12))
    facing = _dot(normals, view)
    if material.double_sided:
        normals = np.where(facing < 0, -normals, normals)
        facing = np.abs(facing)
    cosines = _LAMPS @ normals
    falling = np.maximum(cosines, 0) * np.stack([lit, ambient, ambient])
    light = (_GROUND + (_SKY - _GROUND) * (np.float32(0.5) + np.float32(0.5) * normals[1])) * ambient
    if material.name == "skin":
        # Wrapped light has passed through tissue, so red is dimmed less by a shadow on the surface.
        wrapped = np.maximum(cosines[0] + _WRAP, 0) / (1 + _WRAP)
        light += wrapped * np.stack([np.sqrt(lit), lit, lit]) * _COLOURS[0]
    else:
        light += falling[0] * _COLOURS[0]
    light += falling[1] * _COLOURS[1] + falling[2] * _COLOURS[2]
    if material.name == "mouth":
        light += np.float32(0.3) * ambient
    out = albedo * light
    # A highlight of each lamp, and the soft room in whatever is seen at a glance.
    away = np.clip(1 - facing, 0, 1)
    fresnel = np.float32(0.04) + np.float32(0.96) * away * np.square(np.square(away))
    sharpness = np.float32(min(2 / max(material.roughness, _LEAST_ROUGHNESS) ** 4 - 2, 900.0))
    strength = fresnel * np.float32(material.specular * (sharpness + 8) / (8 * np.pi))
    for k, colour in enumerate(_COLOURS):
        half = view + _LAMPS[k][:, None]
        cosine = np.maximum(_dot(normals, half) / np.sqrt(_dot(half, half)), 0)
        out += np.minimum(cosine**sharpness * strength * falling[k], 4) * colour
    gloss = np.float32(0.5 * material.specular * (1 - material.roughness))
    return np.asarray(out + fresnel * ambient * gloss * _SKY, np.float32)


def _dot(u: F32, v: F32) -> F32:
    return np.asarray(u[0] * v[0] + u[1] * v[1] + u[2] * v[2])


def backdrop(height: int, width: int) -> F32:
    """The wall behind the head: a soft gradient, linear light, float32 (3, height, width)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    scale = max(height, width)
    x, y = (x - (width - 1) / 2) / scale, (y - 0.46 * (height - 1)) / scale
    place = np.hypot(x, y) / 0.75
    stops = [stop for stop, _ in _BACKDROP]
    shades = [[colour[k] / 255 for _, colour in _BACKDROP] for k in range(3)]
    wall = np.stack([np.interp(place, stops, shades[k]) for k in range(3)], -1)
    # Dithered, so that it does not band; the same grain in every picture, or a film would flicker.
    wall += np.random.default_rng(0).uniform(-0.5, 0.5, (height, width, 1)) / 255
    undeveloped = np.interp(wall.transpose(2, 0, 1), _CURVE / 255, _LIGHT)
    return np.asarray(undeveloped, np.float32)


def _film_curve(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Linear light to sRGB, 0 to 255."""
    toned = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    toned = np.clip(toned, 0, 1)
    return 255 * np.where(toned <= 0.0031308, 12.92 * toned, 1.055 * toned ** (1 / 2.4) - 0.055)


_STEPS, _WHITE = 4096, 12.0
_PALE = 0.12  # film is less colourful than its curve applied channel by channel
_GREY = np.array([0.2126, 0.7152, 0.0722], np.float32)
_LIGHT = (np.arange(_STEPS) / (_STEPS - 1)) ** 2 * _WHITE  # finer where it is dark
_CURVE = _film_curve(_LIGHT)
_TABLE = np.round(_CURVE).astype(np.uint8)


def develop(light: F32) -> U8:
    """Linear light float32 (3, height, width) to sRGB uint8 (height, width, 3)."""
    grey = np.tensordot(_GREY, light, 1)
    light = light + (grey - light) * np.float32(_PALE)
    place = np.sqrt(np.clip(light, 0, _WHITE) * np.float32(1 / _WHITE)) * np.float32(_STEPS - 1)
    picture = _TABLE.take((place + np.float32(0.5)).astype(np.int32))
    return np.ascontiguousarray(picture.transpose(1, 2, 0))
