"""The recordings that the paper trains on: VOCASET and BIWI, clip by clip, in the layouts they exist in.

Neither can be had without a licence, so nothing is fetched: ``open_recordings`` looks into a folder that
the user filled and recognises its layout.

The **official** layout (VOCASET only): ``data_verts.npy`` (rows, V, 3), ``raw_audio_fixed.pkl``
(``[subject][sentence]["audio" | "sample_rate"]``), ``subj_seq_to_idx.pkl`` (``[subject][sentence][frame] ->
row``) and ``templates.pkl``.

The **FaceFormer** layout (both): ``wav/<subject>_<sentence>.wav``, ``vertices_npy/<subject>_<sentence>.npy``
(T, V·3) and ``templates.pkl``.

Rules. A clip is read when it is asked for; vertices are memory-mapped, so that only the frames of that clip
leave the disk. VOCASET was recorded at 60 fps and is used at 30: every second frame. Audio of any rate
becomes 16 kHz mono. Both sets lack a few clips; a clip that is not there is left out, a split without any
is an error. A training subject's place in the list is its style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from model.paper.shape import SAMPLE_RATE_HZ
from model.paper.unpickle import read_pickle

Split = Literal["train", "validation", "test"]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Edition:
    """What was recorded, and how the paper divides it.

    Attributes:
        name: the data set's.
        recorded_hz: of the motion as it lies on disk; every: one frame in so many is used.
        sentence: how a sentence's number is written.
        subjects: of each split; those of the training split in the order of their styles.
        sentences: of each split, numbers from 1.
        licence: where to ask for it and what to put where, for the message when it is missing.
    """

    name: str
    recorded_hz: int
    every: int
    sentence: str
    subjects: Mapping[Split, tuple[str, ...]]
    sentences: Mapping[Split, range]
    licence: str

    @property
    def frame_rate_hz(self) -> int:
        """Of the motion as it is used."""
        return self.recorded_hz // self.every


_BIWI_SUBJECTS = ("F2", "F3", "F4", "M3", "M4", "M5")
EDITIONS = {
    "vocaset": Edition(
        name="VOCASET",
        recorded_hz=60,
        every=2,
        sentence="sentence{:02d}",
        subjects={
            "train": (
                "FaceTalk_170728_03272_TA",
                "FaceTalk_170904_00128_TA",
                "FaceTalk_170725_00137_TA",
                "FaceTalk_170915_00223_TA",
                "FaceTalk_170811_03274_TA",
                "FaceTalk_170913_03279_TA",
                "FaceTalk_170904_03276_TA",
                "FaceTalk_170912_03278_TA",
            ),
            "validation": ("FaceTalk_170811_03275_TA", "FaceTalk_170908_03277_TA"),
            "test": ("FaceTalk_170809_00138_TA", "FaceTalk_170731_00024_TA"),
        },
        sentences={"train": range(1, 41), "validation": range(21, 41), "test": range(21, 41)},
        licence=(
            "VOCASET needs a licence: register at https://voca.is.tue.mpg.de, download the training data, "
            "and put data_verts.npy, raw_audio_fixed.pkl, templates.pkl and subj_seq_to_idx.pkl there"
        ),
    ),
    "biwi": Edition(
        name="BIWI",
        recorded_hz=25,
        every=1,
        sentence="e{:02d}",
        subjects={"train": _BIWI_SUBJECTS, "validation": _BIWI_SUBJECTS, "test": _BIWI_SUBJECTS},
        sentences={"train": range(1, 33), "validation": range(33, 37), "test": range(37, 41)},
        licence=(
            "BIWI needs a licence: ask at https://data.vision.ee.ethz.ch/cvl/datasets/b3dac2.en.html, "
            "convert it as FaceFormer's page describes, and put wav/, vertices_npy/ and templates.pkl there"
        ),
    ),
}


@dataclass(frozen=True)
class Clip:
    """One spoken sentence.

    Attributes:
        name: ``<subject>_<sentence>``. subject: who speaks.
        style: the subject's place among the training subjects; None for an unseen one.
        audio: float32 (N,), 16 kHz mono in [-1, 1].
        vertices: float32 (T, V·3), in the data set's units (VOCASET: metres), at the edition's frame rate.
        template: float32 (V·3,), the subject's face at rest.
    """

    name: str
    subject: str
    style: int | None
    audio: Array
    vertices: Array
    template: Array


class Folder(Protocol):
    """A layout: what is there, and how to read it. Sentences are texts such as ``sentence07``."""

    templates_file: Path

    def __init__(self, root: Path) -> None: ...

    def holds(self, subject: str, sentence: str) -> bool:
        """Whether both sound and motion of that clip are there."""
        ...

    def audio(self, subject: str, sentence: str) -> tuple[Array, int]:
        """Samples (N,) or (N, channels) in [-1, 1], and their rate in Hz."""
        ...

    def vertices(self, subject: str, sentence: str, every: int) -> Array:
        """Every so manieth frame, (T, V·3)."""
        ...


class OfficialFolder:
    """VOCASET as its authors publish it. Its audio, some 100 MB, is read whole at the first clip."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.templates_file = root / "templates.pkl"

    @cached_property
    def _rows(self) -> Any:
        return read_pickle(self.root / "subj_seq_to_idx.pkl")

    @cached_property
    def _sound(self) -> Any:
        return read_pickle(self.root / "raw_audio_fixed.pkl")

    @cached_property
    def _vertices(self) -> Array:
        return _mapped(self.root / "data_verts.npy")

    def holds(self, subject: str, sentence: str) -> bool:
        """See ``Folder``."""
        return sentence in self._rows.get(subject, {}) and sentence in self._sound.get(subject, {})

    def audio(self, subject: str, sentence: str) -> tuple[Array, int]:
        """See ``Folder``; the file holds 16-bit samples at 22 kHz."""
        entry = self._sound[subject][sentence]
        samples = np.asarray(entry["audio"])
        scale = 32768 if samples.dtype.kind == "i" else 1
        return np.divide(samples, scale, dtype=np.float32), int(entry["sample_rate"])

    def vertices(self, subject: str, sentence: str, every: int) -> Array:
        """See ``Folder``."""
        row_of = self._rows[subject][sentence]
        rows = [int(row_of[frame]) for frame in sorted(row_of, key=int)][::every]
        taken = self._vertices[rows]
        return np.asarray(taken, dtype=np.float32).reshape(len(rows), -1)


class FaceFormerFolder:
    """One wav and one npy per clip."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.templates_file = root / "templates.pkl"

    def _paths(self, subject: str, sentence: str) -> tuple[Path, Path]:
        name = f"{subject}_{sentence}"
        return self.root / "wav" / f"{name}.wav", self.root / "vertices_npy" / f"{name}.npy"

    def holds(self, subject: str, sentence: str) -> bool:
        """See ``Folder``."""
        return all(path.is_file() for path in self._paths(subject, sentence))

    def audio(self, subject: str, sentence: str) -> tuple[Array, int]:
        """See ``Folder``."""
        path, _ = self._paths(subject, sentence)
        try:
            samples, rate_hz = soundfile.read(path, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path} cannot be read: {error.error_string}") from None
        return samples.astype(np.float32), rate_hz

    def vertices(self, subject: str, sentence: str, every: int) -> Array:
        """See ``Folder``."""
        _, path = self._paths(subject, sentence)
        taken = _mapped(path)[::every]
        return np.asarray(taken, dtype=np.float32).reshape(len(taken), -1)


def _mapped(path: Path) -> Array:
    """The array of an npy file, left on disk until a part of it is used."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except ValueError as error:
        raise ValueError(f"{path} is no array of numbers ({error}).") from None


class Clips:
    """The clips of one split, each read when it is asked for, in the order subject by subject."""

    def __init__(self, edition: Edition, folder: Folder, split: Split, vertices: int) -> None:
        self.edition, self.folder, self.vertices = edition, folder, vertices
        wanted = [
            (subject, edition.sentence.format(number))
            for subject in edition.subjects[split]
            for number in edition.sentences[split]
        ]
        self.wanted = len(wanted)
        self.names = [(subject, sentence) for subject, sentence in wanted if folder.holds(subject, sentence)]
        self._templates = read_pickle(folder.templates_file)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Clip:
        subject, sentence = self.names[index]
        name = f"{subject}_{sentence}"
        samples, rate_hz = self.folder.audio(subject, sentence)
        trained = self.edition.subjects["train"]
        if subject not in self._templates:
            raise ValueError(f"{self.folder.templates_file} has no face of {subject}.")
        template = np.asarray(self._templates[subject], dtype=np.float32).reshape(-1)
        vertices = self.folder.vertices(subject, sentence, self.edition.every)
        for part, size in (("template", template.size), ("motion", vertices.shape[1])):
            if size != 3 * self.vertices:
                raise ValueError(f"The {part} of {name} has {size} values where 3 × {self.vertices} are due.")
        return Clip(
            name=name,
            subject=subject,
            style=trained.index(subject) if subject in trained else None,
            audio=mono_16k(samples, rate_hz),
            vertices=vertices,
            template=template,
        )


def open_recordings(edition: Edition, root: Path, split: Split, vertices: int) -> Clips:
    """The clips of one split.

    Args:
        edition: which data set.
        root: the folder it lies in, in either layout.
        split: the paper's. BIWI's test split has the training speakers; VOCASET's has none of them.
        vertices: V, how many a face must have.

    Raises:
        FileNotFoundError: the folder, a file of its layout, or every clip of the split is missing; the
            sentence says where the data set is to be had and what to put where.
        ValueError: a file holds something else than it should.
    """
    folder = _layout(edition, root)
    clips = Clips(edition, folder, split, vertices)
    if not clips:
        subject, sentence = edition.subjects[split][0], edition.sentence.format(edition.sentences[split][0])
        raise FileNotFoundError(
            f"{root} has no clip of {edition.name}'s {split} split, such as {subject}_{sentence}."
        )
    return clips


def _layout(edition: Edition, root: Path) -> Folder:
    """The folder's layout, by what lies in it."""
    layouts: dict[type[Folder], tuple[str, ...]] = {
        FaceFormerFolder: ("wav", "vertices_npy", "templates.pkl")
    }
    if edition.name == "VOCASET":
        layouts[OfficialFolder] = (
            "data_verts.npy",
            "raw_audio_fixed.pkl",
            "subj_seq_to_idx.pkl",
            "templates.pkl",
        )
    missing = {
        layout: [name for name in names if not (root / name).exists()] for layout, names in layouts.items()
    }
    nearest = min(missing, key=lambda layout: len(missing[layout]))
    if not missing[nearest]:
        return nearest(root)
    if len(missing[nearest]) < len(layouts[nearest]):
        raise FileNotFoundError(f"{root} lacks {' and '.join(missing[nearest])}. {edition.licence}.")
    raise FileNotFoundError(f"{root} does not hold {edition.name}. {edition.licence}.")


def mono_16k(samples: Array, rate_hz: int) -> Array:
    """Samples (N,) or (N, channels) at any rate -> float32 (M,) at 16 kHz, the mean of the channels."""
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    resampled = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ) if rate_hz != SAMPLE_RATE_HZ else mono
    return np.ascontiguousarray(resampled, dtype=np.float32)
