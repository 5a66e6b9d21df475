"""The field's measures of an animation in vertices, and what was published of them.

Faces are arrays (T, V, 3) in the data set's own units: metres in VOCASET, where a published LVE of 3.1 is
3.1e-5 m². Which vertices are the lips, the upper face and the lips' middle belongs to the data sets and is
read from files. A figure of a whole test set is the unweighted mean over its clips; a clip of a speaker whom
training never saw is animated in every style, and its figure is the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.misalignment import temporal_misalignment_ms
from model.paper.unpickle import read_pickle

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

# The papers' test tables: LVE and FDD in the data sets' units, MTM in milliseconds (arXiv 2503.20308).
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "vocaset": {
        "FaceFormer": {"lve": 4.1090e-5, "mtm_ms": 53.6},
        "CodeTalker": {"lve": 3.9445e-5, "mtm_ms": 61.8},
        "FaceDiffuser": {"lve": 4.1089e-5},
        "SelfTalk": {"mtm_ms": 50.1},
        "DiffSpeaker": {"lve": 3.1478e-5},
    },
    "biwi": {
        "FaceFormer": {"lve": 5.3077e-4, "fdd": 4.6408e-5},
        "CodeTalker": {"lve": 4.7914e-4, "fdd": 4.1170e-5},
        "FaceDiffuser": {"lve": 4.2986e-4, "fdd": 3.9098e-5},
        "DiffSpeaker": {"lve": 4.2829e-4, "fdd": 3.8535e-5},
    },
}


def lip_vertex_error(truth: Array, predicted: Array, lips: Indices) -> float:
    """LVE: the squared distance of the worst lip vertex, mean over the frames."""
    squared = np.square(truth[:, lips] - predicted[:, lips]).sum(axis=-1)
    return float(squared.max(axis=1).mean())


def upper_face_dynamics(truth: Array, predicted: Array, template: Array, upper: Indices) -> float:
    """FDD: how much more the truth's upper face varies than the prediction's, with its sign.

    Of each vertex the squared distance from its place in the template (V, 3), of that the standard
    deviation over time; truth minus prediction, mean over the vertices.
    """

    def variation(face: Array) -> Array:
        return np.square(face[:, upper] - template[upper]).sum(axis=-1).std(axis=0)  # type: ignore[no-any-return]

    return float((variation(truth) - variation(predicted)).mean())


def lip_gap(face: Array, upper_and_lower: Indices) -> Array:
    """The distance (T,) between the upper lip's vertices and the lower lip's, mean over the pairs (P, 2)."""
    pairs = upper_and_lower.reshape(-1, 2)
    gaps = np.linalg.norm(face[:, pairs[:, 0]] - face[:, pairs[:, 1]], axis=-1)
    return gaps.mean(axis=1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class VertexSets:
    """Which vertices are measured; without one of the last two, its measure is left out."""

    lips: Indices
    upper_face: Indices | None = None
    lip_gap: Indices | None = None


def read_vertex_sets(lips: Path, upper_face: Path | None, lip_gap: Path | None, vertices: int) -> VertexSets:
    """The sets from their files; see ``read_indices``. Lip-gap vertices come in pairs, upper then lower."""
    pairs = None if lip_gap is None else read_indices(lip_gap, vertices)
    if pairs is not None and len(pairs) % 2:
        raise ValueError(
            f"{lip_gap} should hold pairs of vertices, one of the upper lip and one of the lower."
        )
    upper = None if upper_face is None else read_indices(upper_face, vertices)
    return VertexSets(read_indices(lips, vertices), upper, pairs)


def read_indices(path: Path, vertices: int) -> Indices:
    """A set of vertex numbers from a file.

    A text file of numbers with spaces, commas or new lines between them, an ``.npy`` file of whole numbers,
    or one entry of a pickled dictionary, written ``FLAME_masks.pkl#lips``.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it holds no vertex numbers below ``vertices``.
    """
    file, _, entry = path.name.partition("#")
    place = path.with_name(file)
    if not place.is_file():
        raise FileNotFoundError(
            f"{place} is missing: it should list the numbers of some of the face's vertices."
        )
    try:
        if place.suffix == ".npy":
            numbers = np.load(place, allow_pickle=False)
        elif place.suffix == ".pkl":
            numbers = read_pickle(place)[entry]
        else:
            numbers = np.array([int(word) for word in place.read_text().replace(",", " ").split()])
    except KeyError:
        raise ValueError(f"{place} has no entry '{entry}': name one as {file}#lips.") from None
    except ValueError as error:
        raise ValueError(f"{place} holds no vertex numbers ({error}).") from None
    indices = np.asarray(numbers).reshape(-1)
    if indices.dtype.kind not in "iu" or not len(indices) or indices.min() < 0 or indices.max() >= vertices:
        raise ValueError(f"{place} should hold numbers of vertices, whole and from 0 to {vertices - 1}.")
    return indices.astype(np.int64)


def clip_measures(
    truth: Array, predictions: Sequence[Array], template: Array, sets: VertexSets, frame_rate_hz: int
) -> dict[str, float]:
    """The measures of one clip, each the mean over its predictions (one per style).

    Args:
        truth: (T, V, 3). predictions: each (T, V, 3). template: (V, 3), the speaker's face at rest.
        sets: where to look. frame_rate_hz: of all.

    Returns:
        ``lve`` and, where their vertices are given, ``fdd`` (signed) and ``mtm_ms`` (NaN: no match).
    """
    measures = {"lve": [lip_vertex_error(truth, each, sets.lips) for each in predictions]}
    if (upper := sets.upper_face) is not None:
        measures["fdd"] = [upper_face_dynamics(truth, each, template, upper) for each in predictions]
    if (pairs := sets.lip_gap) is not None:
        gap = lip_gap(truth, pairs)
        measures["mtm_ms"] = [
            temporal_misalignment_ms(lip_gap(each, pairs), gap, frame_rate_hz) for each in predictions
        ]
    return {name: _mean(values) for name, values in measures.items()}


def mean_measures(clips: Sequence[dict[str, float]]) -> dict[str, float]:
    """The unweighted mean over clips, of each measure; clips without a value (NaN) are left out."""
    return {name: _mean([clip[name] for clip in clips]) for name in clips[0]}


def known(measures: dict[str, float]) -> dict[str, float | None]:
    """The same with None for NaN, which JSON does not have."""
    return {name: None if math.isnan(value) else value for name, value in measures.items()}


def _mean(values: Sequence[float]) -> float:
    found = [value for value in values if not math.isnan(value)]
    return float(np.mean(found)) if found else math.nan
