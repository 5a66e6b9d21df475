"""The bundle on disk: its manifest, its files, and its face.

Loading checks everything that the manifest promises (``streamer.contract.manifest``). The rig is read when
it is first needed: a server that sends coefficients only never holds it. Whoever made a bundle may be a
stranger, so what its files declare is checked against the manifest before memory is spent on it.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.manifest import MANIFEST_NAME, REFERENCE, Manifest, read_manifest, sha256

F32 = npt.NDArray[np.float32]

_MOST_ITEM_BYTES = 4 * 256  # a name's

DEFAULT_BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "default"


@dataclass(frozen=True, eq=False)
class Rig:
    """The face as a linear map, V vertices and C channels: ``template + coefficients @ basis``.

    Attributes:
        template: float32 (V, 3), metres. basis: float32 (C, V, 3), metres per unit of a coefficient; C is 0
            where the model itself moves vertices. faces: integers (F, 3), triangles.
    """

    template: F32
    basis: F32
    faces: npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path | None = None) -> Bundle:
        """Reads and checks a bundle; the one that ships where no path is given.

        Raises:
            FaceError: ``bad_bundle``.
        """
        folder = DEFAULT_BUNDLE if path is None else path
        return cls(folder, read_manifest(folder))

    @property
    def model_file(self) -> Path:
        """The network's file, the float32 one."""
        return self.variants[REFERENCE]

    @property
    def variants(self) -> dict[str, Path]:
        """The graphs by how they compute: ``fp32``, which is always there, and what else the bundle has."""
        model = self.manifest.model
        files = {REFERENCE: model.file, **model.variants}
        return {name: self.folder / file for name, file in files.items()}

    @cached_property
    def digest(self) -> str:
        """The bundle's fingerprint: SHA-256 of its manifest, which holds those of all its files."""
        return sha256(self.folder / MANIFEST_NAME)

    @property
    def avatar_file(self) -> Path | None:
        """The face for renderers, with named morph targets; None where the bundle has none."""
        avatar = self.manifest.rig.avatar
        return None if avatar is None else self.folder / avatar

    @cached_property
    def rig(self) -> Rig:
        """The face, read on first use.

        Raises:
            FaceError: ``bad_bundle``, the file is no rig or contradicts the manifest.
        """
        name = self.manifest.rig.file
        vertices, channels = self.manifest.rig.vertices, self.manifest.motion.channels
        try:
            with zipfile.ZipFile(self.folder / name) as archive:
                template = _read(archive, "template", "f", (vertices, 3)).astype(np.float32)
                basis = _read(archive, "basis", "f", (len(channels), vertices, 3)).astype(np.float32)
                faces = _read(archive, "faces", "iu", (range(64 * vertices), 3))
                names = [str(channel) for channel in _read(archive, "names", "Uf", (len(channels),))]
            if not (np.isfinite(template).all() and np.isfinite(basis).all()):
                raise ValueError("its vertices are not finite")
            if faces.size and not (faces.min() >= 0 and faces.max() < vertices):
                raise ValueError("its faces name vertices that it does not have")
        except Exception as error:  # those of zipfile, zlib and numpy share no base class
            raise self._refusal(f"{name} is not a rig of this manifest: {error}") from None
        if names != channels:
            raise self._refusal(f"{name} names other channels than the manifest, or in another order")
        return Rig(template, basis, faces)

    def vertices(self, frames: F32) -> F32:
        """The face's vertices in metres, float32 (n, V, 3), from the model's frames, float32 (n, C)."""
        rig = self.rig
        offsets = frames.astype(np.float32)
        if self.manifest.motion.kind == "coefficients":
            # Frame by frame: of a product of more rows some processors add up the terms in another order,
            # and a frame would hang on how many came with it.
            offsets = offsets[:, None] @ rig.basis.reshape(len(rig.basis), -1)
        moved: F32 = rig.template + offsets.reshape(-1, *rig.template.shape)
        return moved

    def _refusal(self, sentence: str) -> FaceError:
        return FaceError("bad_bundle", f"The bundle {self.folder} is refused: {sentence}.")


def _read(
    archive: zipfile.ZipFile, name: str, kinds: str, shape: tuple[int | range, ...]
) -> npt.NDArray[Any]:
    """An array of an npz file, whose header is compared with what is expected before its values are read.

    So a few bytes that declare, or unpack to, more than memory holds are refused for what they declare.

    Args:
        archive: the file. name: the array's. kinds: of numbers that it may hold, as numpy names them.
        shape: its shape, the lengths that it may have where they are not known.

    Raises:
        ValueError, or whatever zipfile, zlib and numpy raise on a broken file.
    """
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its {name} is compressed in an unusual way")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        found, _, dtype = header[version](stream)
        fits = len(found) == len(shape) and all(
            size in length if isinstance(length, range) else size == length
            for size, length in zip(found, shape, strict=True)
        )
        if not fits or dtype.kind not in kinds or dtype.itemsize > _MOST_ITEM_BYTES:
            raise ValueError(f"its {name} is {dtype} of {found}, which does not fit the manifest")
    with archive.open(member) as stream:
        array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array
