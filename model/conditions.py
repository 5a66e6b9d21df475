"""What may lie between a mouth and the server: the conditions under which the model is measured.

Every recording is first brought to a peak of a quarter of full scale, so that 12 dB more fit without
clipping: that is *clean*. Nothing here moves the sound in time. Chance is seeded by the recording's name.

- *noise*: pink noise (equal power per octave from 50 Hz up), 10 dB under the speech.
- *telephone*: 300 to 3400 Hz, 48 dB per octave beyond, zero phase.
- *loud*, *quiet*: 12 dB more and 12 dB less.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt

F32 = npt.NDArray[np.float32]

RATE_HZ = 16_000
PEAK = 0.25
NOISE_BELOW_DB = 10.0
GAIN_DB = 12.0
_SPEAKING_DB = -30.0  # frames nearer than this to the loudest are speech


def clean(audio: F32, name: str = "") -> F32:
    """The recording with its peak at a quarter of full scale; silence stays silence."""
    return np.asarray(audio * (PEAK / max(float(np.abs(audio).max(initial=0)), 1e-9)), np.float32)


def noise(audio: F32, name: str) -> F32:
    """Pink noise 10 dB under the mean power of the speech, pauses not counted."""
    level = clean(audio)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    hz = np.fft.rfftfreq(len(level), 1 / RATE_HZ)
    spectrum = np.fft.rfft(random.standard_normal(len(level))) / np.sqrt(np.maximum(hz, 50)) * (hz >= 50)
    pink = np.fft.irfft(spectrum, len(level))
    wanted = speech_power(level) * 10 ** (-NOISE_BELOW_DB / 10)
    return np.asarray(level + pink * np.sqrt(wanted / np.mean(pink**2)), np.float32)


def telephone(audio: F32, name: str = "") -> F32:
    """The band of a telephone."""
    band = butter(4, (300, 3400), "bandpass", fs=RATE_HZ, output="sos")
    return np.asarray(sosfiltfilt(band, clean(audio).astype(np.float64)), np.float32)


def loud(audio: F32, name: str = "") -> F32:
    """12 dB more: the peak reaches full scale."""
    return np.asarray(clean(audio) * 10 ** (GAIN_DB / 20), np.float32)


def quiet(audio: F32, name: str = "") -> F32:
    """12 dB less."""
    return np.asarray(clean(audio) * 10 ** (-GAIN_DB / 20), np.float32)


CONDITIONS: dict[str, Callable[[F32, str], F32]] = {
    "clean": clean,
    "noise": noise,
    "telephone": telephone,
    "loud": loud,
    "quiet": quiet,
}


def speech_power(audio: F32) -> float:
    """Mean power of the 20 ms stretches that lie within 30 dB of the loudest one."""
    size = RATE_HZ // 50
    whole = audio[: max(len(audio) // size, 1) * size].astype(np.float64)
    power = np.square(whole).reshape(-1, min(size, len(whole))).mean(1)
    return float(power[power >= power.max() * 10 ** (_SPEAKING_DB / 10)].mean())
