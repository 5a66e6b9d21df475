"""``python -m benchmarks.lips CORPUS``: how well the default model reads lips, on voices it never heard.

Runs held-out voices of a corpus with phone times through exactly the live path and measures the mesh. The lip
gap is the distance between the two lips' midpoints on the default rig, in millimetres.

- ``closure_auc``: do /p b m/ show a smaller least gap than other phones (chance is 0.5)?
- ``closure_recall``: share of /p b m/ with a gap under 1 mm; ``false_closure``: the same for open vowels.
- ``labiodental_auc``: is the lower lip tucked in /f v/ more than in other phones (without /p b m/)?
- ``rounding_auc``: are the lips rounder in /u o w/ than in /i e æ/?
- ``opening_r``: correlation of the gap's curve with the articulation curve made from the phones.
- ``lag_ms``: the shift at which that correlation is greatest (positive: the face is late).
- ``lve_mm2``: mean over frames of the largest squared lip-vertex error against those curves.
- ``silence_gap_mm``: 95th percentile of the gap in silences, from 200 ms after they begin.
- ``blinks_per_minute``: eyelids over 0.6, in a minute of digital silence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from tqdm import tqdm

from benchmarks.provenance import provenance, write
from model.articulation import TRACK_RATE_HZ, gestures, speech_coefficients
from model.shape import CHANNELS, STYLES, Shape
from model.speech import is_held_out, loudness, pitch, read_corpus
from streamer.core.options import SessionOptions
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.offline import animate

F32 = npt.NDArray[np.float32]
CLOSURES, LABIODENTALS = set("PBM"), set("FV")
ROUND, SPREAD, OPEN = {"UW", "OW", "W"}, {"IY", "IH", "EH", "AE"}, {"AA", "AE", "AY", "AW"}


def auc(positive: list[float], negative: list[float]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative."""
    ranks = np.argsort(np.argsort(np.concatenate([positive, negative]))) + 1
    count = len(positive)
    return round(float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(negative))), 4)


class Face:
    """Linear measures of the rig."""

    def __init__(self, bundle: Bundle) -> None:
        with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
            basis, template = rig["basis"].astype(np.float32), rig["template"]
            upper, lower = int(rig["upper_lip_mid"]), int(rig["lower_lip_mid"])
            self.lips = basis[:, rig["lip_vertices"]] * 1000
        self._gap = (basis[:, upper, 1] - basis[:, lower, 1]) * 1000
        self._rest = float(template[upper, 1] - template[lower, 1]) * 1000

    def gap_mm(self, coefficients: F32) -> F32:
        """(n, 52) -> (n,)."""
        return self._rest + coefficients @ self._gap

    def lip_error_mm2(self, one: F32, other: F32) -> float:
        """LVE: mean over frames of the largest squared lip-vertex distance."""
        distance = np.einsum("tc,cvd->tvd", one - other, self.lips)
        return float(np.square(distance).sum(-1).max(-1).mean())


def column(coefficients: F32, name: str) -> F32:
    """One channel of (n, 52)."""
    return coefficients[:, CHANNELS.index(name)]


def measure(
    predicted: list[F32], taught: list[F32], utterances: list[dict[str, Any]], face: Face, fps: int
) -> dict[str, Any]:
    """The figures of the module's list that need phones."""
    scores: dict[str, list[float]] = {
        k: [] for k in ("closed", "other", "tucked", "free", "round", "spread", "open")
    }
    silence: list[float] = []
    for motion, utterance in zip(predicted, utterances, strict=True):
        gap, tuck = face.gap_mm(motion), column(motion, "mouthRollLower")
        rounding = column(motion, "mouthPucker") + column(motion, "mouthFunnel")
        for name, start, end in utterance["phones"]:
            first = round(start * fps)
            span = slice(first, max(first + 1, round(end * fps)))
            if first >= len(gap):
                continue
            if name == "SIL":
                silence += list(gap[first + int(0.2 * fps) : span.stop])
                continue
            scores["closed" if name in CLOSURES else "other"].append(-float(gap[span].min()))
            if name not in CLOSURES:
                scores["tucked" if name in LABIODENTALS else "free"].append(float(tuck[span].max()))
            if name in ROUND | SPREAD:
                scores["round" if name in ROUND else "spread"].append(float(rounding[span].max()))
            if name in OPEN:
                scores["open"].append(-float(gap[span].max()))
    shifts = range(-6, 7)
    gaps = [(face.gap_mm(p), face.gap_mm(t)) for p, t in zip(predicted, taught, strict=True)]
    curve = [_correlation(gaps, shift) for shift in shifts]
    best = int(np.argmax(curve))
    bend = 0.0
    if 0 < best < len(curve) - 1:  # the parabola through the three points around the peak
        before, at, after = curve[best - 1 : best + 2]
        bend = 0.5 * (before - after) / (before - 2 * at + after)
    return {
        "closure_auc": auc(scores["closed"], scores["other"]),
        "closure_recall": round(float(np.mean(np.array(scores["closed"]) > -1)), 4),
        "false_closure": round(float(np.mean(np.array(scores["open"]) > -1)), 4),
        "labiodental_auc": auc(scores["tucked"], scores["free"]),
        "rounding_auc": auc(scores["round"], scores["spread"]),
        "opening_r": round(curve[shifts.index(0)], 4),
        "lag_ms": round(1000 * (shifts[best] + bend) / fps, 1),
        "lve_mm2": round(
            float(np.mean([face.lip_error_mm2(p, t) for p, t in zip(predicted, taught, strict=True)])), 2
        ),
        "lve_still_mm2": round(float(np.mean([face.lip_error_mm2(0 * t, t) for t in taught])), 2),
        "silence_gap_mm": round(float(np.percentile(silence, 95)), 2),
    }


def _correlation(gaps: list[tuple[F32, F32]], shift: int) -> float:
    pairs = [(p[max(0, shift) :], t[max(0, -shift) :]) for p, t in gaps]
    one = np.concatenate([p[: min(len(p), len(t))] for p, t in pairs])
    other = np.concatenate([t[: min(len(p), len(t))] for p, t in pairs])
    return float(np.corrcoef(one, other)[0, 1])


def taught_curves(utterance: dict[str, Any], audio: F32, frames: int, fps: int) -> F32:
    """The articulation curves of an utterance in the neutral style, (frames, 52)."""
    phones = [(str(p), float(s), float(e)) for p, s, e in utterance["phones"]]
    tracks = gestures(phones, len(audio) / 16_000, loudness(audio), pitch(audio))
    place = np.arange(frames) * TRACK_RATE_HZ / fps
    at = np.stack([np.interp(place, np.arange(len(tracks)), column) for column in tracks.T], -1).astype(
        np.float32
    )
    style = torch.eye(len(STYLES), Shape().styles)[:1]
    return np.asarray(speech_coefficients(torch.from_numpy(at)[None], style)[0].numpy(), np.float32)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lips",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("corpus", type=Path, help="folder of Ogg files and *.jsonl with phone times")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--count", type=int, default=100, help="utterances (%(default)s)")
    parser.add_argument("--lookahead-ms", type=float, help="lookahead (the bundle's default)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    bundle = Bundle.load(options.bundle)
    backend = OnnxBackend(bundle)
    face = Face(bundle)
    fps = bundle.manifest.timing.frame_rate_hz
    session = SessionOptions.choose(bundle.manifest, lookahead_ms=options.lookahead_ms)

    def run(audio: F32) -> F32:
        return np.concatenate([b.values for b in animate([audio], bundle.manifest, backend, session)])

    held_out = [u for u in read_corpus(options.corpus) if is_held_out(str(u["voice"]))]
    chosen: list[Any] = held_out[:: max(1, len(held_out) // options.count)][: options.count]
    predicted, taught, seconds = [], [], 0.0
    for utterance in tqdm(chosen, desc="held-out voices", unit="utterance", disable=None):
        audio, _ = soundfile.read(options.corpus / utterance["audio"], dtype="float32")
        predicted.append(run(audio))
        taught.append(taught_curves(utterance, audio, len(predicted[-1]), fps))
        seconds += len(audio) / 16_000
    figures = measure(predicted, taught, chosen, face, fps)
    still = run(np.zeros(60 * 16_000, np.float32))
    shut = column(still, "eyeBlinkLeft") > 0.6
    figures["blinks_per_minute"] = int((shut[1:] & ~shut[:-1]).sum())
    figures["digital_silence_gap_mm"] = round(float(np.percentile(face.gap_mm(still), 95)), 2)
    for name, value in figures.items():
        print(f"{name:24} {value}")
    config = {
        "utterances": len(chosen),
        "seconds": round(seconds, 1),
        "lookahead_ms": bundle.manifest.timing.grid().lookahead_ms(session.lookahead_frames),
        "bundle": bundle.manifest.version,
    }
    write(options.json, {**figures, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
