"""The measures of a speaking face, in numpy alone: curves in, numbers out. It knows no model and no file.

A *motion* is float32 (n, 52), ARKit coefficients at 30 fps. ``Face`` reads millimetres off it: lengths are
linear in the coefficients, so no mesh is ever posed. Phones are (ARPABET or SIL, start_s, end_s).

A phone's score is the greatest value of a curve over the frames within ±55 ms of the phone's middle, at zero
lag: what the face shows counts when the phone is heard, and no shift is ever fitted. ``CONTRASTS`` lists the
curve that has to tell some phones from others; each answer is an area under the ROC curve, 0.5 by chance and
1 when perfect:

- *closure*, by the closed aperture: P B M from all other phones but silence.
- *opening*, by the aperture: open vowels from consonants that narrow or close the mouth.
- *rounding*, by mouthPucker + mouthFunnel: rounded vowels and W from spread vowels and S Z.
- *labiodental*, by mouthRollLower: F V from consonants of the tongue.

The aperture is the vertical distance between the midpoints of the two lips. What is left of it at rest is the
rest gap. A lag is positive where the face is late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.shape import CHANNELS

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Phone = tuple[str, float, float]

NEAR_S = 0.055
SILENCE = "SIL"
SETTLE_S = 0.2  # how long a mouth may take to come to rest before a pause is a pause
LAGS = range(-6, 7)  # frames within which a best lag is looked for


@dataclass(frozen=True)
class Contrast:
    """Phones that a curve must tell apart. ``negatives`` is None for all but the positives and silence."""

    curve: str
    positives: frozenset[str]
    negatives: frozenset[str] | None


def _phones(names: str) -> frozenset[str]:
    return frozenset(names.split())


OPEN = _phones("AA AE AY AW AO EH")
CONTRASTS = {
    "closure": Contrast("closure", _phones("P B M"), None),
    "opening": Contrast("aperture", OPEN, _phones("S Z T D P B M F V SH CH JH")),
    "rounding": Contrast("rounding", _phones("UW W OW UH OY"), _phones("IY EH AE S Z")),
    "labiodental": Contrast("tuck", _phones("F V"), _phones("T D S Z N K")),
}


class Face:
    """Lengths on a rig, linear in the coefficients: basis (52, V, 3) and template (V, 3), in metres.

    Attributes:
        lips, upper, skin: float32 (52, vertices, 3), mm per unit: the lips, the upper face, all vertices.
        rest_mm: the aperture of the face at rest.
    """

    def __init__(self, rig: Mapping[str, npt.NDArray[np.generic]]) -> None:
        basis = np.asarray(rig["basis"], np.float32) * 1000
        template = np.asarray(rig["template"], np.float64) * 1000
        upper, lower = int(rig["upper_lip_mid"]), int(rig["lower_lip_mid"])
        self.skin: F32 = basis
        self.lips: F32 = basis[:, rig["lip_vertices"]]
        self.upper: F32 = basis[:, rig["upper_face_vertices"]]
        self.rest_mm = float(template[upper, 1] - template[lower, 1])
        self._aperture: F32 = basis[:, upper, 1] - basis[:, lower, 1]

    def aperture_mm(self, motion: F32) -> F32:
        """The lip gap, (n, 52) -> (n,)."""
        return np.asarray(self.rest_mm + motion @ self._aperture, np.float32)

    def curves(self, motion: F32) -> dict[str, F32]:
        """The curves that ``CONTRASTS`` names, each (n,)."""
        aperture = self.aperture_mm(motion)
        return {
            "closure": -aperture,
            "aperture": aperture,
            "rounding": channel(motion, "mouthPucker") + channel(motion, "mouthFunnel"),
            "tuck": channel(motion, "mouthRollLower"),
        }


def channel(motion: F32, name: str) -> F32:
    """One channel of (n, 52)."""
    return motion[:, CHANNELS.index(name)]


# ---- phones told apart -------------------------------------------------------------------------------------


def phone_scores(
    curve: F32, phones: Sequence[Phone], fps: int, mean: bool = False
) -> list[tuple[str, float]]:
    """(phone, score) of each phone but silences: the curve's maximum (or mean) near the phone's middle.

    A phone so near an end of the recording that no frame lies within ±55 ms of its middle is left out.
    """
    scores = []
    for name, start, end in phones:
        middle = (start + end) / 2
        first = max(0, int(np.ceil((middle - NEAR_S) * fps)))
        near = curve[first : int(np.floor((middle + NEAR_S) * fps)) + 1]
        if name != SILENCE and len(near):
            scores.append((name, float(near.mean() if mean else near.max())))
    return scores


def split(scores: Sequence[tuple[str, float]], contrast: Contrast) -> tuple[F64, F64]:
    """The scores of a contrast's positives and of its negatives."""
    other = contrast.negatives
    positive = [score for name, score in scores if name in contrast.positives]
    negative = [s for n, s in scores if (n in other if other is not None else n not in contrast.positives)]
    return np.array(positive), np.array(negative)


def auc(positive: F64, negative: F64) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    NaN where either is empty.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / 2 / len(negative))


def recall_at_equal_error(positive: F64, negative: F64) -> float:
    """Share of positives found at the threshold where as great a share of them is missed as of the negatives
    is wrongly taken. Between two thresholds it is interpolated."""
    thresholds = np.unique(np.concatenate([positive, negative]))
    missed = np.searchsorted(np.sort(positive), thresholds, "left") / len(positive)
    wrong = 1 - np.searchsorted(np.sort(negative), thresholds, "left") / len(negative)
    # Past the last threshold everything is missed and nothing is wrong.
    missed, wrong = np.append(missed, 1.0), np.append(wrong, 0.0)
    after = int(np.argmax(missed >= wrong))
    if after == 0:
        return 1 - float(missed[0])
    before = after - 1
    gap_before, gap_after = wrong[before] - missed[before], wrong[after] - missed[after]
    share = gap_before / (gap_before - gap_after)
    return 1 - float(missed[before] + share * (missed[after] - missed[before]))


# ---- in time -----------------------------------------------------------------------------------------------


def correlation_at(pairs: Sequence[tuple[F32, F32]], lag: int) -> float:
    """Pearson's r of all pairs of curves together, the first of each taken ``lag`` frames later."""
    shifted = [(one[max(0, lag) :], other[max(0, -lag) :]) for one, other in pairs]
    first = np.concatenate([a[: min(len(a), len(b))] for a, b in shifted])
    second = np.concatenate([b[: min(len(a), len(b))] for a, b in shifted])
    return float(np.corrcoef(first, second)[0, 1])


def best_lag_ms(pairs: Sequence[tuple[F32, F32]], fps: int, lags: range = LAGS) -> float:
    """How late the first curve of each pair is against the second, by the peak of ``correlation_at`` over
    ``lags``, refined by the parabola through the three points around it."""
    found = [correlation_at(pairs, lag) for lag in lags]
    best = int(np.argmax(found))
    bend = 0.0
    if 0 < best < len(found) - 1:
        before, at, after = found[best - 1 : best + 2]
        bend = 0.5 * (before - after) / (before - 2 * at + after)
    return 1000 * (lags[best] + bend) / fps


# ---- in space ----------------------------------------------------------------------------------------------


def lip_error_mm2(face: Face, one: F32, other: F32) -> float:
    """LVE: mean over frames of the largest squared lip-vertex distance, mm²."""
    distance = np.tensordot(one - other, face.lips, 1)
    return float(np.square(distance).sum(-1).max(-1).mean())


def upper_face_dynamics_mm(face: Face, reference: F32, predicted: F32) -> float:
    """FDD: mean over the upper face's vertices of how much more the reference's distance from rest varies in
    time (standard deviation, mm). Positive: the prediction is stiller."""
    reach = [np.linalg.norm(np.tensordot(m, face.upper, 1), axis=-1) for m in (reference, predicted)]
    return float((reach[0].std(0) - reach[1].std(0)).mean())


def bends_mm(face: Face, motion: F32) -> F32:
    """The size of the second difference of each frame, mean over the lip vertices, (n − 2,) mm per frame²."""
    return np.asarray(
        np.linalg.norm(np.tensordot(np.diff(motion, 2, axis=0), face.lips, 1), axis=-1).mean(-1)
    )


def steps_mm(face: Face, motion: F32) -> F32:
    """The size of the step to each frame from the one before, mean over all vertices, (n − 1,) mm."""
    moved = np.tensordot(np.diff(motion, axis=0), face.skin, 1)
    return np.asarray(np.linalg.norm(moved, axis=-1).mean(-1))


def seam_ratio(face: Face, motions: Sequence[F32], hop_frames: int) -> float:
    """The mean step across the seam of two hops ÷ the mean step within a hop. 1 is perfect.

    NaN for hops of one frame, where every step crosses a seam. Steps and not second differences are compared,
    because with hops of two frames every second difference spans a seam.
    """
    steps = [steps_mm(face, motion) for motion in motions]
    at_seam = np.concatenate([(np.arange(len(s)) + 1) % hop_frames == 0 for s in steps])
    crossing, within = (np.concatenate(steps)[chosen] for chosen in (at_seam, ~at_seam))
    return float(crossing.mean() / within.mean()) if len(within) else float("nan")


def diversity_mm(face: Face, samples: Sequence[F32]) -> float:
    """How unlike samples of the same speech are: mean distance of all vertices, frames and pairs, mm."""
    apart = [
        np.linalg.norm(np.tensordot(one - other, face.skin, 1), axis=-1).mean()
        for index, one in enumerate(samples)
        for other in samples[:index]
    ]
    return float(np.mean(apart))


def blinks(motion: F32) -> int:
    """How often the left eyelid goes over 0.6."""
    shut = channel(motion, "eyeBlinkLeft") > 0.6
    return int((shut[1:] & ~shut[:-1]).sum())


# ---- pauses, and speech without words ----------------------------------------------------------------------


def pause_frames(
    phones: Sequence[Phone], frames: int, fps: int, before_s: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Which of the frames lie in a silence that began at least 200 ms ago and lasts ``before_s`` more,
    (frames,). The recording's last silence lasts for ever."""
    time_s = np.arange(frames) / fps
    last_s = phones[-1][2] if phones else 0.0
    spans = [
        (start + SETTLE_S <= time_s) & (time_s < (end - before_s if end < last_s else np.inf))
        for name, start, end in phones
        if name == SILENCE
    ]
    return np.asarray(np.any(spans, axis=0)) if spans else np.zeros(frames, bool)


def level_db(audio: F32, frames: int, fps: int, rate_hz: int = 16_000) -> F32:
    """Loudness at each frame: the RMS of the 40 ms around it in dB, 0 at the recording's 90th percentile and
    no less than −40, (frames,)."""
    power = np.convolve(audio.astype(np.float64) ** 2, np.ones(rate_hz // 25) / (rate_hz // 25), mode="same")
    at = np.minimum(np.arange(frames) * rate_hz // fps, len(audio) - 1)
    level = 10 * np.log10(np.maximum(power[at], 1e-12))
    return np.asarray(np.maximum(level - np.percentile(level, 90), -40), np.float32)


QUIET_DB, QUIET_S = -30.0, 0.3


def quiet_spans(level: F32, fps: int) -> list[Phone]:
    """Speech and silence by loudness alone: ``SIL`` where it stays under −30 dB for 300 ms or more, else
    ``SPEECH``. They follow one another from 0 to the end."""
    silent = [(start, stop) for start, stop in runs(level < QUIET_DB) if stop - start >= QUIET_S * fps]
    edges = [0, *(edge for span in silent for edge in span), len(level)]
    names = ["SPEECH", SILENCE] * len(silent) + ["SPEECH"]
    spans = zip(names, edges[:-1], edges[1:], strict=True)
    return [(name, start / fps, stop / fps) for name, start, stop in spans if stop > start]


def closures(aperture: F32, paused: npt.NDArray[np.bool_], below_mm: float = 0.5) -> int:
    """Dips of the aperture under half a millimetre that do not touch a pause."""
    return sum(not paused[start:stop].any() for start, stop in runs(aperture < below_mm))


def runs(held: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
