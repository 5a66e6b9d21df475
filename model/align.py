"""Forced alignment: which phone is spoken when, by PocketSphinx, whose acoustic model comes inside its wheel.

``Aligner.align`` takes words with their phones; each word becomes a pseudo-word of the dictionary, so that
PocketSphinx can choose nothing but the times and the pauses between words. ``Aligner.align_text`` takes plain
words and lets PocketSphinx's own dictionary say how they may sound. Both give phones that follow one another
without a gap from 0 to the end of the audio, silences as ``SIL``.

Four habits of PocketSphinx are provided for. A 25 ms analysis frame is stamped with its start, so boundaries
come about 8 ms early: they are moved. It wants a silence around the speech, and refuses a digital one: 200 ms
of faint noise go before and after. Its second pass aligns phones inside the words of the first, and fails
where a word became too short: the same phones are then grouped into other pseudo-words and tried again. And
what it learns of the noise in one pass it keeps for the next: it is made to forget, so that no result depends
on what was aligned before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Phone = tuple[str, float, float]  # ARPABET or SIL, start_s, end_s
Word = tuple[str, Sequence[str]]  # a name of any kind, ARPABET phones without stress

RATE_HZ = 16_000
SILENCE = "SIL"
SHORTEST_SILENCE_S = 0.02
_FRAME_S = 0.01
_LATE_S = 0.008  # from a frame's start to where its evidence lies
_PAD_SAMPLES = RATE_HZ // 5
_GROUPS_OF_WORDS = (1, 2, 3, 4)
_GROUPS_OF_PHONES = (6, 9, 5, 12, 4, 7, 15)


class Aligner:
    """A PocketSphinx decoder that only aligns. Not for several threads at once."""

    def __init__(self) -> None:
        """Raises ModuleNotFoundError, saying what to install."""
        try:
            from pocketsphinx import Decoder
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                "PocketSphinx is not installed: pip install pocketsphinx==5.1.1"
            ) from missing
        self._decoder = Decoder(lm=None, loglevel="FATAL", beam=1e-60, wbeam=1e-40, pbeam=1e-60)

    def learn(self, pronunciations: Mapping[str, str]) -> None:
        """Adds words that the dictionary lacks, each with its phones as in "K EH R AH T"."""
        for word, phones in pronunciations.items():
            if self._decoder.lookup_word(word) is None:
                self._decoder.add_word(word, phones, False)

    def align(self, audio: F32, words: Sequence[Word]) -> list[Phone] | None:
        """Times of exactly these phones; pauses are looked for between words alone.

        ``audio`` is float32 (n,) in [-1, 1] at 16 kHz. None where no grouping of the phones can be aligned.
        Raises ValueError for a phone that is not ARPABET.
        """
        wanted = [phone for _, phones in words for phone in phones]
        if not wanted:
            return None
        raw = _padded(audio)
        for group in _groupings(words):
            found = self._two_passes(raw, [self._pseudo_word(phones) for phones in group])
            if found is not None and [phone for phone, _, _ in found if phone != SILENCE] == wanted:
                return fill_silences(_shifted(found, len(audio) / RATE_HZ), len(audio) / RATE_HZ)
        return None

    def align_text(self, audio: F32, text: str) -> tuple[list[Phone] | None, str]:
        """Times of the phones of plain words, as PocketSphinx's dictionary pronounces them.

        Where it knows several pronunciations of a word, the audio decides. Returns (phones, "") or
        (None, why not). ``audio`` as for ``align``.
        """
        words = spoken_words(text)
        if not words:
            return None, "there are no words in it"
        unknown = sorted({word for word in words if self._decoder.lookup_word(word) is None})
        if unknown:
            return None, f"the dictionary does not know {', '.join(unknown)}"
        found = self._two_passes(_padded(audio), words)
        if found is not None:
            return fill_silences(_shifted(found, len(audio) / RATE_HZ), len(audio) / RATE_HZ), ""
        first = [(word, str(self._decoder.lookup_word(word)).split()) for word in words]
        phones = self.align(audio, first)
        return phones, "" if phones is not None else "the words do not fit the audio"

    def _pseudo_word(self, phones: Sequence[str]) -> str:
        """The dictionary's name of a word that sounds like this."""
        name = "zq" + "-".join(phones).lower()
        if self._decoder.lookup_word(name) is None:
            try:
                self._decoder.add_word(name, " ".join(phones), False)
            except RuntimeError as refused:
                raise ValueError(f"{' '.join(phones)} is not all ARPABET") from refused
        return name

    def _two_passes(self, raw: bytes, names: Sequence[str]) -> list[Phone] | None:
        """Words, then the phones in them, in the time of the padded audio; None where either pass fails."""
        decoder = self._decoder
        try:
            decoder.set_align_text(" ".join(names))
            self._decode(raw)
            if decoder.hyp() is None:
                return None
            decoder.set_alignment()
            self._decode(raw)
            alignment = decoder.get_alignment()
        except RuntimeError:  # what a failed search raises
            return None
        if alignment is None:
            return None
        return [
            (
                SILENCE if phone.name.startswith("+") else phone.name,  # +NSN+ and +SPN+ are noises
                phone.start * _FRAME_S,
                (phone.start + phone.duration) * _FRAME_S,
            )
            for word in alignment
            for phone in word
        ]

    def _decode(self, raw: bytes) -> None:
        self._decoder.reinit_feat()  # the noise estimate of the pass before would move boundaries
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(raw, full_utt=True)
        finally:
            self._decoder.end_utt()


def spoken_words(text: str) -> list[str]:
    """The words of a text as dictionaries spell them: "It's 'fine'-tuned!" gives it's, fine, tuned."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def _groupings(words: Sequence[Word]) -> Iterator[list[list[str]]]:
    """The same phones cut into pseudo-words in ever other ways, the words' own first."""
    own = [list(phones) for _, phones in words if phones]
    flat = [phone for phones in own for phone in phones]
    for count in _GROUPS_OF_WORDS:
        yield [sum(own[at : at + count], []) for at in range(0, len(own), count)]
    for count in _GROUPS_OF_PHONES:
        yield [flat[at : at + count] for at in range(0, len(flat), count)]


def _padded(audio: F32) -> bytes:
    """16-bit samples with faint noise under them and 200 ms of it on either side."""
    random = np.random.default_rng(0)
    noisy = np.pad(np.asarray(audio, np.float32), _PAD_SAMPLES)
    noisy = noisy + random.standard_normal(len(noisy), dtype=np.float32) * 3e-4
    return (np.clip(noisy, -1, 1) * 32767).astype("<i2").tobytes()


def _shifted(phones: Sequence[Phone], length_s: float) -> list[Phone]:
    """The padding taken off again and boundaries moved to where they are heard; the silences are left out."""
    shift = _LATE_S - _PAD_SAMPLES / RATE_HZ
    moved = [(p, max(start + shift, 0.0), min(end + shift, length_s)) for p, start, end in phones]
    return [(p, start, end) for p, start, end in moved if p != SILENCE and end > start]


def fill_silences(phones: Sequence[Phone], length_s: float) -> list[Phone]:
    """Phones that follow one another from 0 to the end, at 0.1 ms: SIL in every gap worth the name.

    A gap of up to 20 ms is given to the phone before it, or to the first one. Overlaps are cut.
    """
    filled: list[Phone] = []
    at = 0.0
    for phone, start, end in phones:
        if phone == SILENCE or end <= at:
            continue
        start = max(start, at)
        if start - at > SHORTEST_SILENCE_S:
            filled.append((SILENCE, at, start))
        elif filled:
            filled[-1] = (filled[-1][0], filled[-1][1], start)
        else:
            start = 0.0
        filled.append((phone, start, end))
        at = end
    if length_s - at > SHORTEST_SILENCE_S or not filled:
        filled.append((SILENCE, at, length_s))
    else:
        filled[-1] = (filled[-1][0], filled[-1][1], length_s)
    return [(phone, round(start, 4), round(end, 4)) for phone, start, end in filled]
