"""From phones with times to ARKit-52 curves: the lessons the network learns from. Never used at run time.

Two stages. ``gestures`` turns an utterance into a few continuous tracks at 100 Hz by co-articulation in the
manner of Cohen and Massaro (1993): every phone pulls each articulator toward its own target with a strength
that decays exponentially before and after it, and the pulls are averaged. Closures and tucks do not average
(a /p/ whose lips do not meet is wrong however short it is), so they are separate tracks that reach 1, as JALI
(Edwards et al. 2016) does. ``speech_coefficients`` then lays the tracks on the ARKit channels under a style.

What speech does not determine (blinks, gaze, brows) is a fixed function of the diffusion noise itself, see
``idle_coefficients`` and docs/decisions/0002-blinks-live-in-the-noise.md.

Tracks, all 0 to 1: jaw, spread (lips drawn back), round (protruded), funnel (open rounding), lower and upper
(lip raised off the teeth), seal (lips meet), tuck (lower lip under the teeth), tongue, emphasis (stress).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.shape import CHANNELS, STYLE_SCALES, STYLES

F32 = npt.NDArray[np.float32]
Phone = tuple[str, float, float]

TRACK_RATE_HZ = 100
TRACKS = ("jaw", "spread", "round", "funnel", "lower", "upper", "seal", "tuck", "tongue", "emphasis")
_BLENDED = TRACKS[:6]

# Targets of (jaw, spread, round, funnel, lower, upper), then how strongly a phone insists on its
# (jaw, lips), and how far its lips reach ahead and behind in seconds. Vowel openness follows F1, rounding the
# IPA; consonants that are made with the tongue insist little on the lips and take their neighbours' shape.
_VOWEL = (1.0, 1.0, 0.055)
_ROUNDED = (0.9, 1.4, 0.095)
_TONGUE = (1.1, 0.3, 0.035)
_T: dict[str, tuple[tuple[float, ...], tuple[float, float, float]]] = {
    "AA": ((0.60, 0.06, 0.00, 0.05, 0.34, 0.16), _VOWEL),
    "AE": ((0.52, 0.34, 0.00, 0.00, 0.40, 0.26), _VOWEL),
    "AH": ((0.29, 0.10, 0.00, 0.02, 0.24, 0.12), (0.8, 0.55, 0.05)),
    "AO": ((0.42, 0.00, 0.40, 0.20, 0.18, 0.10), _ROUNDED),
    "EH": ((0.42, 0.28, 0.00, 0.00, 0.36, 0.22), _VOWEL),
    "ER": ((0.19, 0.00, 0.30, 0.18, 0.18, 0.08), (0.8, 0.9, 0.07)),
    "IH": ((0.24, 0.30, 0.00, 0.00, 0.28, 0.16), (0.8, 0.8, 0.05)),
    "IY": ((0.15, 0.55, 0.00, 0.00, 0.32, 0.20), _VOWEL),
    "UH": ((0.19, 0.00, 0.40, 0.14, 0.14, 0.06), _ROUNDED),
    "UW": ((0.11, 0.00, 0.82, 0.10, 0.06, 0.02), _ROUNDED),
    "_O": ((0.30, 0.00, 0.60, 0.20, 0.14, 0.06), _ROUNDED),
    "P": ((0.05, 0.06, 0.04, 0.00, 0.02, 0.01), (1.8, 0.6, 0.03)),
    "B": ((0.05, 0.06, 0.04, 0.00, 0.02, 0.01), (1.8, 0.6, 0.03)),
    "M": ((0.05, 0.06, 0.04, 0.00, 0.02, 0.01), (1.8, 0.6, 0.03)),
    "F": ((0.08, 0.16, 0.00, 0.00, 0.00, 0.56), (1.8, 1.6, 0.03)),
    "V": ((0.08, 0.14, 0.00, 0.00, 0.00, 0.52), (1.8, 1.6, 0.03)),
    "W": ((0.08, 0.00, 0.92, 0.05, 0.02, 0.00), (0.9, 1.8, 0.09)),
    "R": ((0.13, 0.00, 0.40, 0.16, 0.16, 0.06), (0.7, 0.8, 0.06)),
    "S": ((0.05, 0.28, 0.00, 0.00, 0.26, 0.16), (2.0, 0.7, 0.035)),
    "Z": ((0.05, 0.26, 0.00, 0.00, 0.26, 0.16), (2.0, 0.7, 0.035)),
    "SH": ((0.05, 0.00, 0.52, 0.22, 0.20, 0.14), (2.0, 1.4, 0.055)),
    "ZH": ((0.05, 0.00, 0.50, 0.20, 0.20, 0.14), (2.0, 1.4, 0.055)),
    "CH": ((0.05, 0.00, 0.50, 0.20, 0.20, 0.14), (2.0, 1.4, 0.055)),
    "JH": ((0.05, 0.00, 0.48, 0.20, 0.20, 0.14), (2.0, 1.4, 0.055)),
    "TH": ((0.15, 0.14, 0.00, 0.00, 0.22, 0.14), (1.0, 0.4, 0.04)),
    "DH": ((0.15, 0.12, 0.00, 0.00, 0.20, 0.12), (0.9, 0.25, 0.04)),
    "T": ((0.07, 0.14, 0.00, 0.00, 0.10, 0.05), _TONGUE),
    "D": ((0.08, 0.14, 0.00, 0.00, 0.10, 0.05), _TONGUE),
    "N": ((0.10, 0.14, 0.00, 0.00, 0.12, 0.06), (0.8, 0.2, 0.035)),
    "L": ((0.20, 0.12, 0.00, 0.02, 0.20, 0.10), (0.5, 0.15, 0.04)),
    "K": ((0.20, 0.10, 0.00, 0.02, 0.16, 0.08), (0.35, 0.08, 0.04)),
    "G": ((0.20, 0.10, 0.00, 0.02, 0.16, 0.08), (0.35, 0.08, 0.04)),
    "NG": ((0.20, 0.10, 0.00, 0.02, 0.16, 0.08), (0.35, 0.08, 0.04)),
    "HH": ((0.24, 0.08, 0.00, 0.02, 0.16, 0.08), (0.15, 0.04, 0.04)),
    "Y": ((0.13, 0.42, 0.00, 0.00, 0.26, 0.16), (0.7, 0.6, 0.05)),
    "SIL": ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (1.0, 0.7, 0.06)),
}
_DIPHTHONGS = {
    "AW": ("AA", "UH"),
    "AY": ("AA", "IH"),
    "EY": ("EH", "IY"),
    "OW": ("_O", "UW"),
    "OY": ("AO", "IH"),
}
_SEAL, _TUCK, _TONGUE_OUT = set("PBM"), set("FV"), {"TH", "DH"}
_VOWELS = {"AA", "AE", "AH", "AO", "EH", "ER", "IH", "IY", "UH", "UW", "_O"}


def _split_diphthongs(phones: Sequence[Phone]) -> list[Phone]:
    parts: list[Phone] = []
    for name, start, end in phones:
        if name in _DIPHTHONGS:
            first, second = _DIPHTHONGS[name]
            turn = start + 0.55 * (end - start)
            parts += [(first, start, turn), (second, turn, end)]
        else:
            parts.append((name, start, end))
    return parts


PRESS = 0.3  # a contact begins at 1 − PRESS, where the lips just meet, and is pressed to 1 by its middle


def _near(t: F32, start: float, end: float, attack: float, release: float) -> F32:
    """1 from ``start`` to ``end``, with raised-cosine flanks of ``attack`` and ``release`` seconds."""
    distance = np.where(t < start, (start - t) / attack, np.where(t > end, (t - end) / release, 0.0))
    return (0.5 + 0.5 * np.cos(np.pi * np.clip(distance, 0, 1))).astype(np.float32)


def _contact(t: F32, start: float, end: float) -> F32:
    """A contact's track: the flanks of an approach, then a press that peaks in the middle, as the lips'
    tissue does under a stop (Löfqvist and Gracco 1997). It holds at least 50 ms, so that a 30 fps grid of
    any phase meets it, and is fast (55 ms in, 50 ms out), so that a short neighbour keeps its own shape."""
    lack = max(0.0, 0.05 - (end - start)) / 2
    start, end = start - lack, end + lack
    from_middle = (2 * t - start - end) / (end - start)
    press = 1 - PRESS * np.minimum(np.square(from_middle), 1)
    return np.asarray(_near(t, start, end, 0.055, 0.05) * press, np.float32)


def gestures(phones: Sequence[Phone], duration_s: float, loudness: F32, pitch: F32 | None = None) -> F32:
    """Articulator tracks of one utterance.

    Args:
        phones: (ARPABET name or SIL, start_s, end_s), contiguous.
        duration_s: the utterance's length.
        loudness: float32 (n,) at 100 Hz, about 1 for this speaker's loud vowels, 0 in silence.
        pitch: float32 (n,) at 100 Hz, semitones above this speaker's median, 0 where there is no voice.

    Returns:
        float32 (ceil(duration_s · 100) + 1, len(TRACKS)), each in [0, 1].
    """
    t = np.arange(int(np.ceil(duration_s * TRACK_RATE_HZ)) + 1, dtype=np.float32) / TRACK_RATE_HZ
    loud = np.interp(t, np.arange(len(loudness)) / TRACK_RATE_HZ, loudness).astype(np.float32)
    high = np.zeros_like(t)
    if pitch is not None:
        high = np.interp(t, np.arange(len(pitch)) / TRACK_RATE_HZ, pitch).astype(np.float32)
    parts = _split_diphthongs(phones)
    pull = np.zeros((len(t), len(_BLENDED)), np.float32)
    weight = np.full((len(t), len(_BLENDED)), 1e-6, np.float32)
    contacts = {name: np.zeros(len(t), np.float32) for name in ("seal", "tuck", "tongue")}
    emphasis = np.zeros(len(t), np.float32)
    for name, start, end in parts:
        targets, (jaw_strength, lip_strength, reach) = _T[name]
        middle, half = (start + end) / 2, (end - start) / 2
        near = np.flatnonzero(np.abs(t - middle) < half + 0.45)
        if not len(near):
            continue
        outside = np.maximum(np.abs(t[near] - middle) - 0.25 * half, 0)
        # A jaw is heavier than lips, so it reaches further; rounding reaches further ahead than behind.
        jaw_pull = jaw_strength * np.exp(-outside / 0.04)
        ahead = np.where(t[near] < middle, reach, 0.75 * reach)
        lip_pull = lip_strength * np.exp(-outside / ahead)
        pulls = np.column_stack([jaw_pull, *([lip_pull] * 5)]).astype(np.float32)
        opened = np.asarray(targets, np.float32)
        if name in _VOWELS:
            # A quiet vowel opens less, a shouted one more; rounding does not depend on loudness.
            within = near[np.abs(t[near] - middle) <= half + 0.005]
            scale = 0.72 + 0.36 * float(np.clip(loud[within].mean(), 0, 1.4))
            opened = opened * np.array([scale, 1, 1, 1, scale, scale], np.float32)
            # Brows rise with pitch accents, from 2 semitones up, as with loud ones (Cavé et al. 1996).
            accent = max(3 * np.clip(scale - 0.95, 0, 1), np.clip((high[within].max() - 2) / 5, 0, 1))
            emphasis[near] = np.maximum(emphasis[near], accent * np.exp(-outside / 0.12))
        pull[near] += pulls * opened
        weight[near] += pulls
        if name in _SEAL:
            contacts["seal"][near] = np.maximum(contacts["seal"][near], _contact(t[near], start, end - 0.012))
        elif name in _TUCK:
            contacts["tuck"][near] = np.maximum(contacts["tuck"][near], _contact(t[near], start, end))
        elif name in _TONGUE_OUT:
            contacts["tongue"][near] = np.maximum(
                contacts["tongue"][near], _near(t[near], start, end, 0.06, 0.06)
            )
    tracks = np.column_stack([pull / weight, *contacts.values(), np.clip(emphasis, 0, 1)]).astype(np.float32)
    tracks[:, : len(_BLENDED)] *= _speaking(t, parts)[:, None]
    return np.clip(tracks, 0, 1)


def _speaking(t: F32, phones: Sequence[Phone]) -> F32:
    """1 within speech, easing to 0 in 0.15 s of silence, so that a pause closes the mouth within 200 ms."""
    track = np.zeros(len(t), np.float32)
    for name, start, end in phones:
        if name != "SIL":
            track = np.maximum(track, _near(t, start, end, 0.12, 0.15))
    return track


# Per style: jaw, lip shape, contact strength, smile, brow, liveliness of blinks and gaze.
_STYLE_TABLE = {
    "neutral": (1.00, 1.00, 1.00, 0.00, 0.00, 1.0),
    "crisp": (1.05, 1.22, 1.15, 0.00, 0.02, 1.0),
    "relaxed": (0.78, 0.80, 0.90, 0.04, 0.00, 0.8),
    "energetic": (1.28, 1.15, 1.05, 0.10, 0.08, 1.4),
    "soft": (0.65, 0.72, 0.85, 0.02, 0.04, 0.8),
    "cheerful": (1.05, 1.05, 1.00, 0.34, 0.10, 1.2),
    "serious": (0.90, 1.00, 1.05, 0.00, -0.22, 0.7),
    "tense": (0.82, 1.15, 1.20, 0.00, -0.12, 1.1),
}
assert tuple(_STYLE_TABLE) == STYLES
_STYLE = torch.tensor(list(_STYLE_TABLE.values()))
assert STYLE_SCALES == ("intensity", "jaw", "lips", "liveliness")
_AT = {name: index for index, name in enumerate(CHANNELS)}


def style_gains(style: Tensor) -> tuple[Tensor, ...]:
    """Jaw, lips, contact, smile, brow, liveliness, each (B, 1), of style vectors (B, S): weights over
    ``STYLES`` that sum to 1, then factor − 1 of each of ``STYLE_SCALES``. No scale weakens a contact: a soft
    speaker's /p/ closes too."""
    jaw, lips, contact, smile, brow, lively = (style[:, : len(STYLES)] @ _STYLE).split(1, dim=1)
    intensity, more_jaw, more_lips, more_life = (1 + style[:, len(STYLES) :]).split(1, dim=1)
    return (
        jaw * intensity * more_jaw,
        lips * intensity * more_lips,
        contact,
        smile * intensity,
        brow * intensity,
        lively * more_life,
    )


def speech_coefficients(tracks: Tensor, style: Tensor) -> Tensor:
    """Tracks (B, T, len(TRACKS)) under style vectors (B, S) -> coefficients (B, T, 52), in [0, 1].

    The lips meet when mouthClose equals jawOpen (measured on the default rig), so a seal is that equality and
    not a size; pressing and rolling make it readable.
    """
    jaw, spread, rounding, funnel, lower, upper, seal, tuck, tongue, emphasis = tracks.unbind(-1)
    jaw_gain, lip_gain, contact, smile, brow, lively = style_gains(style)
    out = torch.zeros(*tracks.shape[:2], len(CHANNELS))

    def put(name: str, value: Tensor) -> None:
        for side in ("Left", "Right") if name + "Left" in _AT else ("",):
            out[..., _AT[name + side]] += value

    met = 1 - PRESS
    press, tuck_press = ((x - met).clamp(min=0) / PRESS for x in (seal, tuck))
    seal, tuck = ((x / met).clamp(max=1) for x in (seal, tuck))
    free = 1 - seal  # what a closed mouth leaves of the lips' own shape
    loose = free * (1 - 0.8 * tuck)
    jaw_open = (jaw * jaw_gain * (1 - 0.45 * seal) * (1 - 0.35 * tuck)).clamp(0, 1)
    put("jawOpen", jaw_open)
    put("mouthClose", jaw_open * seal + 0.015 * press * contact)
    put("mouthFunnel", (funnel * lip_gain * loose).clamp(max=1))
    put("mouthPucker", (rounding * lip_gain * (1 - 0.35 * seal) * (1 - 0.6 * tuck)).clamp(max=1))
    put("mouthStretch", 0.55 * spread * lip_gain * (1 - 0.5 * seal))
    put("mouthSmile", 0.35 * spread * lip_gain * (1 - 0.4 * seal) + smile)
    put("mouthDimple", 0.25 * spread * lip_gain)
    put("mouthLowerDown", lower * lip_gain * loose)
    put("mouthUpperUp", upper * lip_gain * (1 - 0.9 * seal))
    put("mouthPress", (0.08 * seal + 0.30 * press) * contact)
    put("mouthRollLower", (0.04 * seal + 0.20 * press + 0.4 * tuck + 0.26 * tuck_press) * contact)
    put("mouthRollUpper", (0.02 * seal + 0.12 * press) * contact)
    put("mouthShrugLower", 0.08 * tuck * contact)
    put("tongueOut", 0.30 * tongue * free)
    put("jawForward", 0.15 * funnel * loose)
    put("cheekSquint", 0.45 * smile + 0.12 * emphasis)
    put("browInnerUp", 0.30 * emphasis * lively + brow.clamp(min=0))
    put("browOuterUp", 0.22 * emphasis * lively + 0.7 * brow.clamp(min=0))
    put("browDown", (-brow).clamp(min=0).expand_as(jaw))
    put("noseSneer", 0.06 * emphasis * lively)
    return out.clamp(0, 1)


# ---- what speech does not determine ----------------------------------------------------------------------

IDLE_REACH_FRAMES = 14  # a frame's idle motion depends on the noise of at most this many frames before it
_BLINK_THRESHOLD = 2.33  # the noise exceeds it in 1 % of frames: a blink every 3.3 s at 30 fps
_BLINK = torch.tensor([0.35, 0.95, 1.0, 0.7, 0.35, 0.1])


def idle_coefficients(noise: Tensor, style: Tensor) -> Tensor:
    """Blinks, gaze and brow drift as a fixed function of the diffusion noise.

    Args:
        noise: (B, IDLE_REACH_FRAMES + T, 52) standard normal; the last T frames are the segment's own.
        style: (B, S) style vectors.

    Returns:
        (B, T, 52), to be added to the speech's coefficients.
    """
    lively = style_gains(style)[5]
    frames = noise.shape[1] - IDLE_REACH_FRAMES
    out = torch.zeros(noise.shape[0], frames, len(CHANNELS))

    def filtered(channel: str, kernel: Tensor) -> Tensor:
        track = noise[:, None, :, _AT[channel]]
        track = torch.nn.functional.conv1d(track, kernel.flip(0)[None, None])
        return track[:, 0, -frames:]

    onsets = (noise[:, :, _AT["eyeBlinkLeft"]] > _BLINK_THRESHOLD).float()
    blink = torch.zeros_like(out[..., 0])
    for delay, height in enumerate(_BLINK):
        start = IDLE_REACH_FRAMES - delay
        blink = torch.maximum(blink, height * onsets[:, start : start + frames])
    for side in ("Left", "Right"):
        out[..., _AT["eyeBlink" + side]] = blink
        out[..., _AT["eyeSquint" + side]] = 0.12 * blink
    drift = torch.hann_window(IDLE_REACH_FRAMES + 1, periodic=False)
    drift = drift / drift.square().sum().sqrt()  # unit variance out
    across = 0.16 * lively * filtered("eyeLookInLeft", drift) * (1 - blink)
    along = 0.10 * lively * filtered("eyeLookUpLeft", drift) * (1 - blink)
    out[..., _AT["eyeLookInLeft"]] = out[..., _AT["eyeLookOutRight"]] = across.clamp(min=0)
    out[..., _AT["eyeLookOutLeft"]] = out[..., _AT["eyeLookInRight"]] = (-across).clamp(min=0)
    for side in ("Left", "Right"):
        out[..., _AT["eyeLookUp" + side]] = along.clamp(min=0)
        out[..., _AT["eyeLookDown" + side]] = (-along).clamp(min=0)
    brow = 0.09 * lively * filtered("browInnerUp", drift)
    out[..., _AT["browInnerUp"]] = brow.clamp(min=0)
    uneven = 0.3 * filtered("browOuterUpLeft", drift)  # no face moves both sides alike
    for side, sign in (("Left", 1), ("Right", -1)):
        own = (1 + sign * uneven).clamp(0, 2)
        out[..., _AT["browOuterUp" + side]] = 0.5 * own * brow.clamp(min=0)
        out[..., _AT["browDown" + side]] = 0.6 * own * (-brow).clamp(min=0)
        out[..., _AT["mouthSmile" + side]] = (0.02 * lively * own * filtered("mouthSmileLeft", drift)).clamp(
            min=0
        )
    return out
