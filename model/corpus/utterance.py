"""One utterance, from a sentence to bytes and a line: everything that is the same for all engines.

An engine draws a voice and a speed, and speaks. The audio becomes 16 kHz with its peak at 0.7. An engine that
knows its times exactly is believed; for one that does not, PocketSphinx finds the times of the engine's
phones, and the engine's own times serve as a second witness (``phones.why_doubtful``). The outcome is a
function of (seed, engine, number, sentence) alone, whichever process makes it and whatever it made before (of
eSpeak NG, whose wave goes on where the last one ended, to the millisecond).
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from model.align import RATE_HZ, Aligner, Phone, fill_silences
from model.corpus.phones import why_doubtful

F32 = npt.NDArray[np.float32]
_PEAK = 0.7


class Unspeakable(Exception):
    """An engine could not speak this sentence; the message says why. Another sentence may go well."""


@dataclass(frozen=True)
class Speech:
    """What an engine said: audio float32 (n,) at ``rate_hz``, and each word's phones with its times."""

    audio: F32
    rate_hz: int
    words: Sequence[Sequence[Phone]]

    def phones(self) -> list[Phone]:
        """The phones of all words, in the engine's times."""
        return [phone for word in self.words for phone in word]


class Engine(Protocol):
    """A speech synthesiser that says when it speaks each phone."""

    exact: bool  # its times are those of its audio; otherwise they are near them

    def draw(self, random: random.Random) -> tuple[str, float]:
        """A voice, described so that ``speak`` can make it again, and a speed (1 as the voice likes it)."""

    def speak(self, text: str, voice: str, speed: float) -> Speech:
        """Raises Unspeakable."""


@dataclass(frozen=True)
class Utterance:
    """A sentence spoken and timed: its line but for the audio's name, and the audio as Ogg/Opus."""

    line: dict[str, object]
    ogg: bytes


@dataclass(frozen=True)
class Rejected:
    """A sentence that was not kept, and why."""

    text: str
    voice: str
    reason: str


def make_utterance(
    name: str, engine: Engine, aligner: Aligner | None, text: str, seed: int, number: int
) -> Utterance | Rejected:
    """Draws a voice, speaks, times, checks and encodes; ``aligner`` may be None for an exact engine."""
    voice, speed = engine.draw(random.Random(f"{seed} {name} {number}"))
    try:
        speech = engine.speak(text, voice, speed)
        audio = to_corpus_audio(speech)
    except Unspeakable as reason:
        return Rejected(text, voice, str(reason))
    by_engine = speech.phones()
    if engine.exact:
        phones = fill_silences(by_engine, len(audio) / RATE_HZ)
        doubt = why_doubtful(phones)
    else:
        assert aligner is not None
        words = [(str(n), [phone for phone, _, _ in word]) for n, word in enumerate(speech.words)]
        found = aligner.align(audio, words)
        phones = found or []
        doubt = why_doubtful(phones, by_engine) if found else "no alignment was found"
    if doubt:
        return Rejected(text, voice, doubt)
    ogg = encode(audio)
    line = {
        "engine": name,
        "voice": voice,
        "speed": speed,
        "text": text,
        "duration_s": round(len(audio) / RATE_HZ, 4),
        "phones": [[phone, round(start, 4), round(end, 4)] for phone, start, end in phones],
    }
    return Utterance(line, ogg)


def to_corpus_audio(speech: Speech) -> F32:
    """16 kHz, peak at 0.7; raises Unspeakable for silence or for what is not sound."""
    audio = np.asarray(speech.audio, np.float32)
    if speech.rate_hz != RATE_HZ and len(audio):
        audio = soxr.resample(audio, speech.rate_hz, RATE_HZ)
    peak = float(np.abs(audio).max(initial=0.0))
    if not np.isfinite(peak) or peak < 1e-3:
        raise Unspeakable("the engine gave no sound")
    return (audio * (_PEAK / peak)).astype(np.float32)


def encode(audio: F32) -> bytes:
    """Ogg/Opus at 16 kHz; it decodes to as many samples, none of them late."""
    file = io.BytesIO()
    soundfile.write(file, audio, RATE_HZ, format="OGG", subtype="OPUS")
    return file.getvalue()
