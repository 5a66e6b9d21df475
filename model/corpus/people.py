"""People's recordings as utterances: Whisper hears the words, PocketSphinx finds their phones.

Nobody wrote down what was said, so words are believed only where Whisper is sure of them, and times only
where the sound agrees: no phone is longer than actors draw one out, and what is called silence is not loud.
What is left out is left out with its reason, as with any engine. Which recording comes when is decided by the
seed, so that any beginning is a fair sample of them all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from model.align import RATE_HZ, SILENCE, Aligner, Phone
from model.corpus.phones import why_doubtful
from model.corpus.recordings import F32, Recording
from model.corpus.utterance import Rejected, Speech, Unspeakable, Utterance, encode, to_corpus_audio

Word = tuple[str, float]  # as it was heard, and how probable it is
Transcribe = Callable[[F32], Sequence[Word]]

_LENGTH_S = (0.5, 28.0)  # Whisper hears 30 s at once
_SURE, _SURE_AT_WORST = 0.6, 0.05  # of the words of a recording: their mean, and the least
_LONGEST_PHONE_S = 0.75  # actors draw out what synthesisers do not
_LOUD, _LOUD_SHARE = 0.3, 0.15  # of the 90th percentile, and how much of the silences may be louder
_EDGE_S = 0.15


class People:
    """Recordings of people.

    Args:
        recordings: all there are. transcribe: float32 (n,) at 16 kHz to its words.
    """

    def __init__(self, recordings: Sequence[Recording], transcribe: Transcribe) -> None:
        self._recordings = recordings
        self._transcribe = transcribe

    def utterance(self, engine: str, aligner: Aligner, seed: int, number: int) -> Utterance | Rejected:
        """The recording of this number, from 1, in the order of this seed."""
        order = random.Random(seed).sample(range(len(self._recordings)), len(self._recordings))
        recording = self._recordings[order[number - 1]]
        place = f"{recording.voice}/{recording.name}"
        try:
            audio = to_corpus_audio(Speech(*recording.decode(), ()))
        except Unspeakable as reason:
            return Rejected(place, recording.voice, str(reason))
        audio = trimmed(audio)
        if not _LENGTH_S[0] <= len(audio) / RATE_HZ <= _LENGTH_S[1]:
            return Rejected(place, recording.voice, f"it lasts {len(audio) / RATE_HZ:.1f} s")
        words = self._transcribe(audio)
        text = "".join(word for word, _ in words).strip()
        phones, reason = None, why_unsure(words)
        if not reason:
            phones, reason = aligner.align_text(audio, text)
        if phones:
            reason = why_doubtful(phones, longest_s=_LONGEST_PHONE_S) or why_loud(audio, phones)
        if not phones or reason:
            return Rejected(text or place, recording.voice, reason)
        line = {
            "engine": engine,
            "voice": recording.voice,
            "speed": 1,
            "text": text,
            "recording": recording.name,
            "duration_s": round(len(audio) / RATE_HZ, 4),
            "phones": [[phone, round(start, 4), round(end, 4)] for phone, start, end in phones],
        }
        return Utterance(line, encode(audio))


def why_unsure(words: Sequence[Word]) -> str:
    """Why what was heard is not believed, or an empty string."""
    if not words:
        return "no words were heard"
    if any(letter.isdigit() for word, _ in words for letter in word):
        return "a number may be said in several ways"
    probable = [probability for _, probability in words]
    if np.mean(probable) < _SURE or min(probable) < _SURE_AT_WORST:
        return "its words are not heard for sure"
    return ""


def why_loud(audio: F32, phones: Sequence[Phone]) -> str:
    """Why the silences are not believed, or an empty string; ``audio`` float32 (n,) at 16 kHz."""
    level = envelope(audio, 0.025)
    bounds = [
        (round(start * RATE_HZ), round(end * RATE_HZ)) for name, start, end in phones if name == SILENCE
    ]
    silent = np.concatenate([np.zeros(1), *(level[start:end] for start, end in bounds)])
    loud = float(np.mean(silent > _LOUD * np.percentile(level, 90)))
    return f"{loud:.0%} of its silences are loud" if loud > _LOUD_SHARE else ""


def trimmed(audio: F32) -> F32:
    """Without what is quiet at the ends, but for a little; a peak of 0.7 is taken for granted."""
    level = envelope(audio, 0.05)
    sounding = np.flatnonzero(level > max(0.01, 0.03 * float(level.max(initial=0))))
    if not len(sounding):
        return audio[:0]
    edge = round(_EDGE_S * RATE_HZ)
    return audio[max(0, sounding[0] - edge) : sounding[-1] + edge]


def envelope(audio: F32, window_s: float) -> F32:
    """Root mean square of a sliding window, float32 (n,)."""
    size = round(window_s * RATE_HZ)
    power = np.convolve(audio.astype(np.float64) ** 2, np.ones(size) / size, "same")
    return np.sqrt(np.maximum(power, 0)).astype(np.float32)


def whisper(folder: Path) -> Transcribe:
    """Whisper in a folder as CTranslate2 keeps it, on one thread."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)

    def transcribe(audio: F32) -> list[Word]:
        segments, _ = model.transcribe(
            audio, language="en", beam_size=2, temperature=0.0, word_timestamps=True
        )
        return [(word.word, word.probability) for segment in segments for word in segment.words or ()]

    return transcribe
