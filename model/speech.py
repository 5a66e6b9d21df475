"""The corpus as training reads it: one strip of audio with its articulator tracks, and random windows of it.

A corpus is a folder of Ogg/Opus files with JSON lines (``audio, voice, phones, duration_s``). ``build_strip``
decodes it once into one memory-mapped folder; utterances lie one after another with a short silence between
them, so that a window may hold the end of one and the beginning of the next, as live speech does. Voices are
held out whole. ``Windows`` draws batches; only the audio is augmented, never the motion.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from scipy.ndimage import median_filter
from torch import Tensor
from tqdm import tqdm

from model import articulation
from model.articulation import (
    IDLE_REACH_FRAMES,
    PRESS,
    TRACK_RATE_HZ,
    TRACKS,
    gestures,
    idle_coefficients,
    speech_coefficients,
)
from model.contacts import KINDS
from model.shape import CHANNELS, GRID, STYLE_SCALES, STYLES, TOKEN_SAMPLES

PHONES = (
    *("SIL", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH"),
    *("IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW"),
    *("V", "W", "Y", "Z", "ZH"),
)
GAP_S = 0.3
HELD_OUT = ("bm_daniel", "af_kore", "rms", "drascula")  # any utterance that names one of these is validation
_SAMPLES_PER_TRACK = GRID.sample_rate_hz // TRACK_RATE_HZ


def is_held_out(voice: str) -> bool:
    """Whether an utterance of this voice is kept for validation."""
    return any(name in voice for name in HELD_OUT)


def loudness(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Root mean square of 40 ms at 100 Hz, 1 at the utterance's 90th percentile: (ceil(n/160),)."""
    power = np.convolve(audio.astype(np.float64) ** 2, np.ones(640) / 640, mode="same")[::_SAMPLES_PER_TRACK]
    rms = np.sqrt(np.maximum(power, 0))
    return (rms / max(np.percentile(rms, 90), 1e-4)).astype(np.float32)


def pitch(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Semitones above the utterance's median pitch at 100 Hz, 0 where there is no voice: (ceil(n/160),).

    The peak of the normalised autocorrelation of 40 ms between 60 and 400 Hz, where shorter periods are
    preferred a little, as every multiple of a period fits as well (Boersma 1993); smoothed by a median of 5.
    """
    size, low, high = 640, GRID.sample_rate_hz // 400, GRID.sample_rate_hz // 60
    padded = np.pad(audio, (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::_SAMPLES_PER_TRACK]
    frames = frames[: -(-len(audio) // _SAMPLES_PER_TRACK)]
    window = np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(np.stack([window, *(frames * window)]), 2 * size)))
    lags = np.fft.irfft(power)[:, :high]
    own, alike = lags[0] / lags[0, 0], lags[1:] / np.maximum(lags[1:, :1], 1e-9)
    alike = alike[:, low:] / own[low:] - 0.15 * np.linspace(0, 1, high - low)
    hz = GRID.sample_rate_hz / (low + alike.argmax(axis=1))
    voiced = (alike.max(axis=1) > 0.6) & (lags[1:, 0] > 1e-3 * lags[1:, 0].max(initial=1e-9))
    if not voiced.any():
        return np.zeros(len(frames), np.float32)
    semitones = np.where(voiced, 12 * np.log2(hz / np.median(hz[voiced])), 0)
    semitones = np.where(np.abs(semitones) < 10, semitones, 0)  # an octave off is a mistake
    return np.asarray(median_filter(semitones, 5), np.float32)


def read_corpus(folder: Path) -> list[dict[str, object]]:
    """Every utterance of the folder's ``*.jsonl``; raises FileNotFoundError where there is none."""
    lines = [line for part in sorted(folder.glob("*.jsonl")) for line in part.read_text().splitlines()]
    if not lines:
        raise FileNotFoundError(f"{folder} holds no *.jsonl: it is not a speech corpus")
    return [json.loads(line) for line in lines]


@dataclass
class Strip:
    """Audio int16 (n,), tracks float16 (n/160, len(TRACKS)), phones int8 (n/160,) as places in ``PHONES``,
    and each utterance's [start, stop) sample."""

    audio: npt.NDArray[np.int16]
    tracks: npt.NDArray[np.float16]
    phones: npt.NDArray[np.int8]
    utterances: list[dict[str, object]]
    spans: npt.NDArray[np.int64]

    @property
    def hours(self) -> float:
        """Length of the strip in hours."""
        return len(self.audio) / GRID.sample_rate_hz / 3600


def _is_cached(files: dict[str, Path], utterances: list[dict[str, object]]) -> bool:
    """Whether the files hold these very utterances: a corpus grows, and another one has other lengths."""
    if not all(file.exists() for file in files.values()):
        return False
    audio, tracks, spans = (np.load(files[part], mmap_mode="r") for part in ("audio", "tracks", "spans"))
    if len(spans) != len(utterances) or len(audio) != len(tracks) * _SAMPLES_PER_TRACK:
        return False
    told_s = np.array([float(str(utterance["duration_s"])) for utterance in utterances])
    cached_s = (spans[:, 1] - spans[:, 0]) / GRID.sample_rate_hz
    return bool(np.abs(cached_s - told_s).max(initial=0) < 0.005)


def build_strip(corpus: Path, cache: Path, held_out: bool) -> Strip:
    """Decodes the training (or held-out) voices of a corpus; the second call reads the cache."""
    name = cache / ("held_out" if held_out else "train")
    utterances = [u for u in read_corpus(corpus) if is_held_out(str(u["voice"])) == held_out]
    # The tracks carry the rules' digest in their name: a changed rule makes new ones, never stale ones.
    rules = hashlib.sha256(Path(articulation.__file__).read_bytes()).hexdigest()[:8]
    parts = {"audio": "audio", "tracks": f"tracks-{rules}", "phones": "phones", "spans": "spans"}
    files = {part: name.with_suffix(f".{stem}.npy") for part, stem in parts.items()}
    if not _is_cached(files, utterances):
        cache.mkdir(parents=True, exist_ok=True)
        gap = int(GAP_S * TRACK_RATE_HZ)
        audios, tracks, names, spans, at = [], [], [], [], 0
        for utterance in tqdm(utterances, desc="decoding speech", unit="utterance", disable=None):
            pcm, rate = soundfile.read(corpus / str(utterance["audio"]), dtype="float32")
            if rate != GRID.sample_rate_hz or pcm.ndim != 1:
                raise ValueError(f"{utterance['audio']} is not 16 kHz mono")
            phones = [(str(p), float(s), float(e)) for p, s, e in utterance["phones"]]  # type: ignore[attr-defined]
            track = gestures(phones, len(pcm) / rate, loudness(pcm), pitch(pcm))
            length = len(track) + gap
            audios.append(np.zeros(length * _SAMPLES_PER_TRACK, np.int16))
            audios[-1][: len(pcm)] = np.clip(np.rint(pcm * 32767), -32768, 32767)
            tracks.append(np.zeros((length, len(TRACKS)), np.float16))
            tracks[-1][: len(track)] = track
            names.append(np.zeros(length, np.int8))
            for phone, start, end in phones:
                names[-1][round(start * TRACK_RATE_HZ) : round(end * TRACK_RATE_HZ)] = PHONES.index(phone)
            spans.append((at, at + len(pcm)))
            at += length * _SAMPLES_PER_TRACK
        np.save(files["audio"], np.concatenate(audios))
        np.save(files["tracks"], np.concatenate(tracks))
        np.save(files["phones"], np.concatenate(names))
        np.save(files["spans"], np.array(spans, np.int64))
    loaded = {part: np.load(file) for part, file in files.items()}
    return Strip(loaded["audio"], loaded["tracks"], loaded["phones"], utterances, loaded["spans"])


def frame_tracks(strip: Strip, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The tracks at each frame of the windows that end at these samples: float32 (B, T, len(TRACKS))."""
    frames = np.arange(GRID.segment_frames - 1, -1, -1) * (GRID.sample_rate_hz / GRID.frame_rate_hz)
    place = (ends[:, None] - GRID.tail_samples - frames[None]) / _SAMPLES_PER_TRACK
    left = np.clip(np.floor(place).astype(np.int64), 0, len(strip.tracks) - 2)
    share = (place - left)[..., None].astype(np.float32)
    tracks = strip.tracks
    return np.asarray(tracks[left] * (1 - share) + tracks[left + 1] * share, np.float32)


@dataclass
class Batch:
    """Windows with their answer; ``noise`` is the diffusion noise that the idle motion was made from."""

    audio: Tensor  # (B, window_samples)
    motion: Tensor  # (B, T, 52)
    noise: Tensor  # (B, T, 52)
    style: Tensor  # (B, S)
    phones: Tensor  # (B, L) int64, the phone at each ear token
    contacts: Tensor  # (B, T, 2), how far each of contacts.KINDS is made, or contacts.UNKNOWN

    def to(self, device: torch.device) -> Batch:
        """The same windows on another device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def contacts(tracks: Tensor) -> Tensor:
    """Tracks (..., len(TRACKS)) as how far each of ``KINDS`` is made, (..., 2): 1 once lips just meet."""
    return (tracks[..., [TRACKS.index(kind) for kind in KINDS]] / (1 - PRESS)).clamp(max=1)


class Windows:
    """Draws random windows of a strip. Seeded, so a run can be repeated."""

    def __init__(self, strip: Strip, seed: int) -> None:
        self.strip = strip
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Starts the sequence of draws that belongs to this seed."""
        self.random = np.random.default_rng(seed)
        self.torch_random = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> Batch:
        """``count`` augmented windows; one in sixteen holds no speech at all, and rests."""
        reverb = 4000  # samples before the window, so that an echo has something to come from
        low, high = GRID.window_samples + reverb, len(self.strip.audio) - GRID.sample_rate_hz
        ends = self.random.integers(low, high, count)
        span = np.arange(-(GRID.window_samples + reverb), 0)
        audio = torch.from_numpy(self.strip.audio[ends[:, None] + span].astype(np.float32) / 32768)
        tracks = torch.from_numpy(frame_tracks(self.strip, ends))
        mute = torch.from_numpy(self.random.random(count) < 1 / 16)
        audio[mute] = 0
        tracks[mute] = 0
        tokens = np.arange(GRID.window_samples // TOKEN_SAMPLES) * TOKEN_SAMPLES - GRID.window_samples
        places = np.clip((ends[:, None] + tokens) // _SAMPLES_PER_TRACK, 0, len(self.strip.phones) - 1)
        phones = torch.from_numpy(self.strip.phones[places].astype(np.int64))
        phones[mute] = 0
        style = self._styles(count)
        noise = torch.randn(
            count, IDLE_REACH_FRAMES + GRID.segment_frames, len(CHANNELS), generator=self.torch_random
        )
        motion = (speech_coefficients(tracks, style) + idle_coefficients(noise, style)).clamp(0, 1)
        babble = self._babble(count, span)
        audio = augment(audio, babble, self.random)[:, reverb:]
        return Batch(audio, motion, noise[:, IDLE_REACH_FRAMES:], style, phones, contacts(tracks))

    def _styles(self, count: int) -> Tensor:
        """Style vectors (count, S): mostly one style, sometimes a mixture of two, sometimes scaled."""
        names = np.eye(len(STYLES), dtype=np.float32)
        one, other = (names[self.random.integers(len(STYLES), size=count)] for _ in range(2))
        one = np.where(self.random.random((count, 1)) < 0.25, names[:1], one)  # the default more than others
        share = self.random.random((count, 1)) * (self.random.random((count, 1)) < 0.3)
        size = (count, len(STYLE_SCALES))
        scales = self.random.uniform(-0.6, 0.6, size) * (self.random.random(size) < 0.2)
        return torch.from_numpy(np.hstack([one * (1 - share) + other * share, scales]).astype(np.float32))

    def _babble(self, count: int, span: npt.NDArray[np.int64]) -> Tensor:
        """Three other talkers at once, played backwards so that no word of theirs is a lesson."""
        total = np.zeros((count, len(span)), np.float32)
        for _ in range(3):
            ends = self.random.integers(len(span), len(self.strip.audio), count)
            total += self.strip.audio[ends[:, None] + span][:, ::-1].astype(np.float32) / 32768
        return torch.from_numpy(total)


def augment(audio: Tensor, babble: Tensor, random: np.random.Generator) -> Tensor:
    """What microphones and rooms do: reverb, tilt and band limits, noise, level. (B, n) -> (B, n).

    The direct sound stays at t = 0, so the motion stays right.
    """
    count, samples = audio.shape

    def chance(share: float) -> Tensor:
        return torch.from_numpy((random.random((count, 1)) < share).astype(np.float32))

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(random.uniform(low, high, (count, 1)).astype(np.float32))

    def normal(length: int) -> Tensor:
        return torch.from_numpy(random.standard_normal((count, length), dtype=np.float32))

    size = 1 << (samples + 4000 - 1).bit_length()
    hz = torch.fft.rfftfreq(size, 1 / GRID.sample_rate_hz)[None]
    # Room: a direct pulse, then noise that decays by 60 dB in 0.15 to 0.6 s, 3 to 20 dB below it.
    t = torch.arange(4000) / GRID.sample_rate_hz
    tail = normal(4000) * torch.exp(-6.9 * t[None] / uniform(0.15, 0.6)) * (t > 0.004)
    tail = tail / tail.square().sum(1, keepdim=True).sqrt() * 10 ** (uniform(-20, -3) / 20) * chance(0.35)
    tail[:, 0] += 1
    response = torch.fft.rfft(tail, size)
    # Microphone: a tilt of up to 4 dB per octave around 1 kHz, and now and then a telephone's band.
    octaves = torch.log2(hz.clamp(min=60) / 1000)
    gain_db = uniform(-4, 4) * chance(0.5) * octaves
    low, high = uniform(80, 350), uniform(3000, 7000)
    outside = torch.relu(torch.log2(low / hz.clamp(min=20))) + torch.relu(torch.log2(hz.clamp(min=20) / high))
    gain_db = gain_db - 24 * outside * chance(0.25)
    wet = torch.fft.irfft(torch.fft.rfft(audio, size) * response * 10 ** (gain_db / 20), size)[:, :samples]
    level = wet.square().mean(1, keepdim=True).sqrt().clamp(min=0.02)
    # Noise of any colour, sometimes a hum, sometimes other talkers, 0 to 35 dB below the speech.
    colour = torch.fft.irfft(
        torch.fft.rfft(normal(samples), size) * (hz.clamp(min=40) / 1000) ** uniform(-1.2, 0.3), size
    )
    colour = colour[:, :samples]
    hum = torch.sin(2 * torch.pi * uniform(45, 400) * torch.arange(samples)[None] / GRID.sample_rate_hz)
    noise = _unit(colour) + 0.7 * hum * chance(0.15)
    noise = torch.where(chance(0.12) > 0, 0.6 * _unit(babble), noise)
    wet = wet + noise * level * 10 ** (-uniform(0, 35) / 20) * chance(0.75)
    wet = wet * 10 ** (uniform(-18, 6) / 20)
    floor = normal(samples) * 10 ** (uniform(-90, -60) / 20)
    return (wet + floor).clamp(-1, 1)


def _unit(x: Tensor) -> Tensor:
    return x / x.square().mean(1, keepdim=True).sqrt().clamp(min=1e-5)
