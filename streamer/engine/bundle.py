"""The bundle on disk: its manifest, its files, and its face.

Loading checks everything that the manifest promises (``streamer.contract.manifest``). The rig is read when
it is first needed: a server that sends coefficients only never holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.contract.manifest import REFERENCE, Manifest, read_manifest

F32 = npt.NDArray[np.float32]

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
        try:
            with np.load(self.folder / name, allow_pickle=False) as arrays:
                template = np.asarray(arrays["template"], np.float32)
                basis = np.asarray(arrays["basis"], np.float32)
                faces = np.asarray(arrays["faces"])
                names = [str(channel) for channel in arrays["names"]]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise self._refusal(f"{name} is not a rig: {error}") from None
        channels, vertices = self.manifest.motion.channels, self.manifest.rig.vertices
        if template.shape != (vertices, 3) or basis.shape != (len(channels), vertices, 3):
            raise self._refusal(
                f"{name} holds a template of {template.shape} and a basis of {basis.shape}, "
                f"where the manifest says {len(channels)} channels and {vertices} vertices"
            )
        if names != channels:
            raise self._refusal(f"{name} names other channels than the manifest, or in another order")
        return Rig(template, basis, faces)

    def vertices(self, frames: F32) -> F32:
        """The face's vertices in metres, float32 (n, V, 3), from the model's frames, float32 (n, C)."""
        rig = self.rig
        offsets = frames.astype(np.float32)
        if self.manifest.motion.kind == "coefficients":
            offsets = offsets @ rig.basis.reshape(len(rig.basis), -1)
        moved: F32 = rig.template + offsets.reshape(-1, *rig.template.shape)
        return moved

    def _refusal(self, sentence: str) -> FaceError:
        return FaceError("bad_bundle", f"The bundle {self.folder} is refused: {sentence}.")
