"""The bundle's avatar as numpy arrays, read from its GLB (glTF 2.0, binary).

Reads what ``export/rig/glb.py`` writes and no more: one binary buffer, plain and sparse accessors, one
primitive per mesh, textures inside the file, no node transforms. Colours come out linear. Corners of all
meshes lie in one table, so that a face is moved by one matrix product.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from streamer.contract.errors import FaceError
from streamer.engine.animation import glb

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

_DTYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True, eq=False)
class Material:
    """A surface. ``texture``: float32 (H, W, 3 or 4), linear, or None. ``blend``: its alpha is translucency,
    otherwise it is opaque. ``roughness`` and ``specular`` as in glTF and KHR_materials_specular."""

    name: str
    colour: F32
    texture: F32 | None
    roughness: float
    specular: float
    blend: bool
    double_sided: bool


@dataclass(frozen=True, eq=False)
class Avatar:
    """C corners, T triangles, M meshes, K channels; metres, y up, the face looks along +z.

    Attributes:
        channels: the K morph targets' names.
        materials: one per mesh.
        positions, normals: float32 (C, 3). uvs: float32 (C, 2), v down. colours: float32 (C, 4), linear.
        triangles: int32 (T, 3), counter-clockwise from outside. mesh: int32 (T,), whose triangle it is.
        moving: int32 (N,), the corners that some target moves.
        moves, turns: float32 (K, N, 3), position and normal deltas of the moving corners.
    """

    channels: tuple[str, ...]
    materials: tuple[Material, ...]
    positions: F32
    normals: F32
    uvs: F32
    colours: F32
    triangles: I32
    mesh: I32
    moving: I32
    moves: F32
    turns: F32

    def pose(self, coefficients: F32) -> tuple[F32, F32]:
        """Positions and (not unit) normals, float32 (C, 3) each, under coefficients float32 (K,)."""
        positions, normals = self.positions.copy(), self.normals.copy()
        active = np.flatnonzero(coefficients)
        weights = coefficients[active]
        positions[self.moving] += np.tensordot(weights, self.moves[active], 1)
        normals[self.moving] += np.tensordot(weights, self.turns[active], 1)
        return positions, normals


def read_avatar(path: Path) -> Avatar:
    """Reads a GLB.

    Raises:
        FaceError: ``bad_bundle``, the file is no GLB or lacks what a face needs.
    """
    try:
        return _Reader(path.read_bytes()).avatar()
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise FaceError("bad_bundle", f"{path} is not an avatar that can be drawn: {error}.") from None


def srgb_to_linear(values: F32) -> F32:
    """IEC 61966-2-1's inverse transfer function on [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


class _Reader:
    """One GLB file's JSON and buffer."""

    def __init__(self, raw: bytes) -> None:
        self.gltf, self.blob = glb.parse(raw)

    def avatar(self) -> Avatar:
        meshes = self.gltf["meshes"]
        channels = next(tuple(m["extras"]["targetNames"]) for m in meshes if "extras" in m)
        columns: dict[str, list[npt.NDArray[Any]]] = {}
        moving, moves, turns, first = [], [], [], 0
        for number, mesh in enumerate(meshes):
            primitive = mesh["primitives"][0]
            attributes = primitive["attributes"]
            positions = self.rows(attributes["POSITION"])
            count = len(positions)
            triangles = self.rows(primitive["indices"]).reshape(-1, 3) + first
            optional = {"uvs": ("TEXCOORD_0", 2), "colours": ("COLOR_0", 4)}
            for column, (name, width) in optional.items():
                present = name in attributes
                values = self.rows(attributes[name]) if present else np.ones((count, width), np.float32)
                columns.setdefault(column, []).append(values)
            columns.setdefault("positions", []).append(positions)
            columns.setdefault("normals", []).append(self.rows(attributes["NORMAL"]))
            columns.setdefault("triangles", []).append(triangles.astype(np.int32))
            columns.setdefault("mesh", []).append(np.full(len(triangles), number, np.int32))
            if targets := primitive.get("targets"):
                if tuple(mesh["extras"]["targetNames"]) != channels:
                    raise ValueError(f"mesh {mesh['name']} has other morph targets than the first one")
                move = np.stack([self.rows(target["POSITION"]) for target in targets])
                turn = np.stack(
                    [self.rows(t["NORMAL"]) if "NORMAL" in t else np.zeros_like(positions) for t in targets]
                )
                moved = np.flatnonzero((move != 0).any((0, 2)) | (turn != 0).any((0, 2)))
                moving.append((moved + first).astype(np.int32))
                moves.append(move[:, moved])
                turns.append(turn[:, moved])
            first += count
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        return Avatar(
            channels=channels,
            materials=tuple(self.material(m["primitives"][0]["material"]) for m in meshes),
            moving=np.concatenate(moving),
            moves=np.concatenate(moves, 1),
            turns=np.concatenate(turns, 1),
            **joined,
        )

    def rows(self, index: int) -> npt.NDArray[Any]:
        """An accessor's values: (N,) or (N, width)."""
        accessor = self.gltf["accessors"][index]
        width = _WIDTHS[accessor["type"]]
        dtype = np.dtype(_DTYPES[accessor["componentType"]])
        if "bufferView" in accessor:
            values = self.view(accessor["bufferView"], dtype, accessor["count"] * width).copy()
        else:
            values = np.zeros(accessor["count"] * width, dtype)
        values = values.reshape(accessor["count"], width) if width > 1 else values
        if sparse := accessor.get("sparse"):
            at = sparse["indices"]
            rows = self.view(at["bufferView"], np.dtype(_DTYPES[at["componentType"]]), sparse["count"])
            inserted = self.view(sparse["values"]["bufferView"], dtype, sparse["count"] * width)
            values[rows] = inserted.reshape(sparse["count"], width)
        return values

    def view(self, index: int, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        view = self.gltf["bufferViews"][index]
        return np.frombuffer(self.blob, dtype, count, view.get("byteOffset", 0))

    def material(self, index: int) -> Material:
        material = self.gltf["materials"][index]
        surface = material["pbrMetallicRoughness"]
        texture: F32 | None = None
        if "baseColorTexture" in surface:
            source = self.gltf["textures"][surface["baseColorTexture"]["index"]]["source"]
            view = self.gltf["bufferViews"][self.gltf["images"][source]["bufferView"]]
            start = view.get("byteOffset", 0)
            picture = Image.open(BytesIO(self.blob[start : start + view["byteLength"]]))
            texture = np.asarray(picture, np.float32) / np.float32(255)
            texture[..., :3] = srgb_to_linear(texture[..., :3])
        extension = material.get("extensions", {}).get("KHR_materials_specular", {})
        return Material(
            name=material.get("name", ""),
            colour=np.asarray(surface.get("baseColorFactor", (1, 1, 1, 1)), np.float32),
            texture=texture,
            roughness=float(surface.get("roughnessFactor", 1.0)),
            specular=float(extension.get("specularFactor", 1.0)),
            blend=material.get("alphaMode", "OPAQUE") == "BLEND",
            double_sided=bool(material.get("doubleSided", False)),
        )
