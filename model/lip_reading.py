"""What a set of animated recordings amounts to: the measures of ``model.measures`` composed into figures.

``with_words`` needs the phones and the idealised curves made from them; ``without_words`` needs the sound
alone, and so holds for any language. Recordings of a set are counted together, phone by phone and frame by
frame, but for LVE, FDD and MTM, which are means over recordings as the field computes them.

A pause is judged twice: from 200 ms after it begins to its end, and without the last 150 ms before somebody
speaks again, when a mouth already takes the shape of the next sound, as the idealised curves do. Percentages
are of the opening in open vowels, both in excess of the rest gap. Without words, the 95th percentile of the
aperture while speaking takes that opening's place: on the idealised English curves the two are 3 % apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from model import measures
from model.human_speech import Recording
from model.measures import CONTRASTS, OPEN, Face, Phone
from model.misalignment import temporal_misalignment_ms

F32 = npt.NDArray[np.float32]
Figures = dict[str, float]

PREPARE_S = 0.15
OPENING_PERCENTILE = 95


def with_words(
    face: Face,
    recordings: Sequence[Recording],
    motions: Sequence[F32],
    ideal: Sequence[F32],
    hop_frames: int,
    fps: int,
) -> Figures:
    """Everything that is said of a set with phones: motions and idealised curves, each float32 (n, 52)."""
    gaps = [(face.aperture_mm(m), face.aperture_mm(i)) for m, i in zip(motions, ideal, strict=True)]
    dynamics = [measures.upper_face_dynamics_mm(face, i, m) for m, i in zip(motions, ideal, strict=True)]
    errors = [measures.lip_error_mm2(face, m, i) for m, i in zip(motions, ideal, strict=True)]
    return rounded(
        {
            **by_phone(face, recordings, motions, fps),
            "opening_r": measures.correlation_at(gaps, 0),
            "lag_ms": measures.best_lag_ms(gaps, fps),
            "mtm_ms": float(np.nanmean([temporal_misalignment_ms(m, i, fps) for m, i in gaps])),
            "jitter_ratio": jitter_mm(face, motions) / jitter_mm(face, ideal),
            "lve_mm2": float(np.mean(errors)),
            "lve_still_mm2": float(np.mean([measures.lip_error_mm2(face, 0 * i, i) for i in ideal])),
            "fdd_mm": float(np.mean(dynamics)),
            "fdd_absolute_mm": float(np.mean(np.abs(dynamics))),
            "seam_ratio": measures.seam_ratio(face, motions, hop_frames),
        }
    )


def by_phone(face: Face, recordings: Sequence[Recording], motions: Sequence[F32], fps: int) -> Figures:
    """What needs no idealised curves, and so can be asked of them as well: contrasts and pauses."""
    curves = [face.curves(motion) for motion in motions]
    phones = [recording.phones for recording in recordings]
    found: Figures = {}
    for name, contrast in CONTRASTS.items():
        mine = [curve[contrast.curve] for curve in curves]
        positive, negative = measures.split(_scores(mine, phones, fps), contrast)
        found[f"{name}_auc"] = measures.auc(positive, negative)
        if name == "opening":
            means = measures.split(_scores(mine, phones, fps, mean=True), contrast)
            found["opening_auc_mean"] = measures.auc(*means)
        if name == "closure":
            found["closure_recall"] = measures.recall_at_equal_error(positive, negative)
    openings = [s for n, s in _scores([c["aperture"] for c in curves], phones, fps) if n in OPEN]
    opening_mm = float(np.median(openings)) - face.rest_mm
    return rounded({**found, "opening_mm": opening_mm, **pauses(face, motions, phones, opening_mm, fps)})


def without_words(
    face: Face, recordings: Sequence[Recording], motions: Sequence[F32], hop_frames: int, fps: int
) -> Figures:
    """What sound alone can say of a set: in time, still in pauses, smooth, closing often enough."""
    apertures = [face.aperture_mm(motion) for motion in motions]
    levels = [measures.level_db(r.audio, len(m), fps) for r, m in zip(recordings, motions, strict=True)]
    spans = [measures.quiet_spans(level, fps) for level in levels]
    silent = [_during(span, len(level), fps) for span, level in zip(spans, levels, strict=True)]
    speaking = np.concatenate([a[~s] for a, s in zip(apertures, silent, strict=True)])
    opening_mm = float(np.percentile(speaking, OPENING_PERCENTILE)) - face.rest_mm
    closed = sum(measures.closures(a, s) for a, s in zip(apertures, silent, strict=True))
    return rounded(
        {
            "seconds": sum(recording.seconds for recording in recordings),
            "lag_ms": measures.best_lag_ms(list(zip(apertures, levels, strict=True)), fps),
            "opening_mm": opening_mm,
            **pauses(face, motions, spans, opening_mm, fps),
            "jitter_mm": jitter_mm(face, motions),
            "seam_ratio": measures.seam_ratio(face, motions, hop_frames),
            "closures_per_s": closed * fps / len(speaking),
        }
    )


def pauses(
    face: Face, motions: Sequence[F32], phones: Sequence[Sequence[Phone]], opening_mm: float, fps: int
) -> Figures:
    """How open the mouth stays in pauses, in per cent of an opening; NaN where there is no pause."""
    found: Figures = {}
    for name, before_s in (("pause", 0.0), ("settled", PREPARE_S)):
        excess = np.concatenate(
            [
                face.aperture_mm(m)[measures.pause_frames(p, len(m), fps, before_s)] - face.rest_mm
                for m, p in zip(motions, phones, strict=True)
            ]
        )
        mean, high = (excess.mean(), np.percentile(excess, 95)) if len(excess) else (np.nan, np.nan)
        found[f"{name}_mean_percent"] = 100 * float(mean) / opening_mm
        found[f"{name}_p95_percent"] = 100 * float(high) / opening_mm
    return found


def jitter_mm(face: Face, motions: Sequence[F32]) -> float:
    """Mean second difference of the lips over all frames of all recordings, mm per frame²."""
    return float(np.concatenate([measures.bends_mm(face, motion) for motion in motions]).mean())


def rounded(figures: Figures) -> Figures:
    """To four significant digits: more would only make a committed file noisy."""
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def _scores(
    curves: Sequence[F32], phones: Sequence[Sequence[Phone]], fps: int, mean: bool = False
) -> list[tuple[str, float]]:
    pairs = zip(curves, phones, strict=True)
    return [score for curve, spoken in pairs for score in measures.phone_scores(curve, spoken, fps, mean)]


def _during(spans: Sequence[Phone], frames: int, fps: int) -> npt.NDArray[np.bool_]:
    silent = np.zeros(frames, bool)
    for name, start, end in spans:
        silent[round(start * fps) : round(end * fps)] = name == measures.SILENCE
    return silent
