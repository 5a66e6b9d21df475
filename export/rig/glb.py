"""Writing a GLB that three.js, Blender and other readers take as it is.

Morph targets are sparse accessors (only the vertices that move), so 52 targets on every moving mesh cost
little. Rules: exactly the bytes that the arguments say, no clock, no random numbers, so that building twice
gives the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pygltflib as gl
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_COMPONENT = {"u1": gl.UNSIGNED_BYTE, "u2": gl.UNSIGNED_SHORT, "u4": gl.UNSIGNED_INT, "f4": gl.FLOAT}
_SPECULAR = "KHR_materials_specular"
_TYPE = {1: gl.SCALAR, 2: gl.VEC2, 3: gl.VEC3, 4: gl.VEC4}


@dataclass(frozen=True)
class Material:
    """A metallic-roughness material; colours are linear, `image` is a whole PNG or JPEG file."""

    name: str
    colour: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    image: bytes | None = None
    image_type: str = "image/png"
    roughness: float = 0.6
    alpha: str = "OPAQUE"
    cutoff: float = 0.5
    double_sided: bool = False
    specular: float = 1.0


@dataclass(frozen=True)
class Part:
    """One mesh. C corners, T triangles.

    positions, normals: float32 (C, 3). uvs: float32 (C, 2), v pointing down as in glTF. triangles: (T, 3).
    colours: float32 (C, 4) linear or None. rig_vertex: (C,) into rig.npz's vertices, or None if it has none.
    moves, turns: float32 (52, C, 3), position and normal deltas, or None on a mesh that never moves.
    rigid: told to clients in the mesh's extras: its normals need no recomputing when vertices are streamed.
    """

    name: str
    material: int
    positions: F32
    normals: F32
    triangles: NDArray[np.int64]
    uvs: F32 | None = None
    colours: F32 | None = None
    rig_vertex: NDArray[np.int64] | None = None
    moves: F32 | None = None
    turns: F32 | None = None
    rigid: bool = False


class _Writer:
    """Collects accessors and the one binary buffer."""

    def __init__(self) -> None:
        self.gltf = gl.GLTF2(asset=gl.Asset(version="2.0", generator="diffspeaker-live export.rig"))
        self.blob = bytearray()

    def view(self, raw: bytes, target: int | None = None) -> int:
        """Append bytes at a 4-byte boundary; returns the bufferView's index."""
        self.blob.extend(b"\0" * (-len(self.blob) % 4))
        self.gltf.bufferViews.append(
            gl.BufferView(buffer=0, byteOffset=len(self.blob), byteLength=len(raw), target=target)
        )
        self.blob.extend(raw)
        return len(self.gltf.bufferViews) - 1

    def accessor(self, array: NDArray[np.generic], target: int | None, bounds: bool = False) -> int:
        """A plain accessor over a (N,) or (N, K) array."""
        accessor = gl.Accessor(
            bufferView=self.view(np.ascontiguousarray(array).tobytes(), target),
            componentType=_COMPONENT[array.dtype.str[1:]],
            count=len(array),
            type=_TYPE[1 if array.ndim == 1 else array.shape[1]],
        )
        if bounds:
            accessor.min = [float(v) for v in np.atleast_1d(array.min(0))]
            accessor.max = [float(v) for v in np.atleast_1d(array.max(0))]
        self.gltf.accessors.append(accessor)
        return len(self.gltf.accessors) - 1

    def sparse(self, rows: F32, bounds: bool) -> int:
        """An accessor over (C, 3) that stores only the rows that are not zero."""
        moved = np.flatnonzero((rows != 0).any(1))
        # Without a view there is nothing to be offset into, and Khronos's validator says so.
        accessor = gl.Accessor(componentType=gl.FLOAT, count=len(rows), type=gl.VEC3, byteOffset=None)
        if bounds:
            accessor.min = [float(v) for v in rows.min(0)]
            accessor.max = [float(v) for v in rows.max(0)]
        if len(moved):
            accessor.sparse = gl.Sparse(
                count=len(moved),
                indices=gl.AccessorSparseIndices(
                    bufferView=self.view(moved.astype("<u2").tobytes()), componentType=gl.UNSIGNED_SHORT
                ),
                values=gl.AccessorSparseValues(bufferView=self.view(rows[moved].astype("<f4").tobytes())),
            )
        self.gltf.accessors.append(accessor)
        return len(self.gltf.accessors) - 1


def write_glb(
    parts: Sequence[Part], materials: Sequence[Material], names: Sequence[str], extras: dict[str, object]
) -> bytes:
    """The whole GLB file. `names` are the morph targets' names; `extras` go to the asset."""
    writer = _Writer()
    gltf = writer.gltf
    gltf.asset.extras = dict(extras)
    for material in materials:
        _add_material(writer, material)
    for part in parts:
        _add_part(writer, part, names)
    gltf.scenes = [gl.Scene(name="face", nodes=list(range(len(parts))))]
    gltf.scene = 0
    writer.blob.extend(b"\0" * (-len(writer.blob) % 4))
    gltf.buffers = [gl.Buffer(byteLength=len(writer.blob))]
    gltf.set_binary_blob(bytes(writer.blob))
    return b"".join(gltf.save_to_bytes())


def _add_material(writer: _Writer, material: Material) -> None:
    gltf = writer.gltf
    surface = gl.PbrMetallicRoughness(
        baseColorFactor=list(material.colour), metallicFactor=0.0, roughnessFactor=material.roughness
    )
    if material.image is not None:
        if not gltf.samplers:
            gltf.samplers.append(
                gl.Sampler(
                    magFilter=gl.LINEAR,
                    minFilter=gl.LINEAR_MIPMAP_LINEAR,
                    wrapS=gl.CLAMP_TO_EDGE,
                    wrapT=gl.CLAMP_TO_EDGE,
                )
            )
        view = writer.view(material.image)
        gltf.images.append(gl.Image(bufferView=view, mimeType=material.image_type, name=material.name))
        gltf.textures.append(gl.Texture(sampler=0, source=len(gltf.images) - 1))
        surface.baseColorTexture = gl.TextureInfo(index=len(gltf.textures) - 1)
    gltf.materials.append(
        gl.Material(
            name=material.name,
            pbrMetallicRoughness=surface,
            alphaMode=material.alpha,
            alphaCutoff=material.cutoff if material.alpha == "MASK" else None,
            doubleSided=material.double_sided,
        )
    )
    if material.specular != 1.0:
        gltf.materials[-1].extensions = {_SPECULAR: {"specularFactor": material.specular}}
        gltf.extensionsUsed = [_SPECULAR]


def _add_part(writer: _Writer, part: Part, names: Sequence[str]) -> None:
    gltf = writer.gltf
    vertices = gl.ARRAY_BUFFER
    attributes = gl.Attributes(
        POSITION=writer.accessor(part.positions.astype("<f4"), vertices, bounds=True),
        NORMAL=writer.accessor(part.normals.astype("<f4"), vertices),
    )
    if part.uvs is not None:
        attributes.TEXCOORD_0 = writer.accessor(part.uvs.astype("<f4"), vertices)
    if part.colours is not None:
        attributes.COLOR_0 = writer.accessor(part.colours.astype("<f4"), vertices)
    if part.rig_vertex is not None:
        # Vertex attributes need a 4-byte stride, and glTF allows no 32-bit integers there: a float holds it.
        attributes._RIG_VERTEX = writer.accessor(part.rig_vertex.astype("<f4"), vertices)
    primitive = gl.Primitive(
        attributes=attributes,
        indices=writer.accessor(part.triangles.astype("<u2").ravel(), gl.ELEMENT_ARRAY_BUFFER),
        material=part.material,
    )
    mesh = gl.Mesh(name=part.name, primitives=[primitive])
    if part.moves is not None:
        primitive.targets = []
        for k in range(len(part.moves)):
            target = {"POSITION": writer.sparse(part.moves[k], bounds=True)}
            if part.turns is not None:
                target["NORMAL"] = writer.sparse(part.turns[k], bounds=False)
            primitive.targets.append(target)
        mesh.weights = [0.0] * len(names)
        mesh.extras = {"targetNames": list(names)} | ({"rigid": True} if part.rigid else {})
    gltf.meshes.append(mesh)
    gltf.nodes.append(gl.Node(name=part.name, mesh=len(gltf.meshes) - 1))
