"""What engines call the sounds of English, turned into ARPABET without stress; and which times are doubtful.

Three alphabets come in. Flite and Festival speak ARPABET with allophones (``ax``, ``dx``), which are looked
up one by one. eSpeak NG speaks IPA, and Kokoro and hibari an alphabet of one character per sound made from it
(misaki: ``A`` is the vowel of "day"); one table reads both. In the second kind a stress mark is a token with
a length of its own. An IPA letter that the table does not name is left out, and its time with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from model.align import SILENCE, Phone

Token = tuple[str, float, float]  # an engine's symbol, start_s, end_s

_ALLOPHONES = {
    **{"ax": "AH", "axr": "ER", "dx": "T", "nx": "N", "hv": "HH", "wh": "W", "ix": "IH"},
    **{"el": "AH L", "em": "AH M", "en": "AH N"},
}
_PAUSES = ("pau", "h#", "brth", "sil", "ssil")

# The longest match wins. Diphthongs of every accent fall on the nearest one that ARPABET has.
_IPA = {
    **{"aɪə": "AY AH", "aɪɚ": "AY ER", "aɪ": "AY", "əɪ": "AY", "oɪ": "OY", "ɔɪ": "OY"},
    **{"eɪ": "EY", "ei": "EY", "ɛə": "EH AH", "eə": "EH AH", "iə": "IY AH", "ɪə": "IH AH", "ʊə": "UH AH"},
    **{"aʊ": "AW", "æʊ": "AW", "ʌʉ": "AW", "oʊ": "OW", "əʊ": "OW", "əu": "OW", "ʌʊ": "OW"},
    **{"oə": "AO", "ɔə": "AO", "ɑə": "AA", "aa": "AA", "tʃ": "CH", "dʒ": "JH"},
    **{"ɜɹ": "ER", "ʌɹ": "ER", "ɜ": "ER", "ɚ": "ER", "ɝ": "ER"},
    **{"ɑ": "AA", "ɒ": "AA", "a": "AE", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ᵊ": "AH", "ɔ": "AO"},
    **{"ɛ": "EH", "e": "EH", "ɪ": "IH", "ᵻ": "IH", "i": "IY", "ʊ": "UH", "u": "UW", "ʉ": "UW", "o": "OW"},
    **{"A": "EY", "I": "AY", "O": "OW", "Q": "OW", "W": "AW", "Y": "OY", "ʤ": "JH", "ʧ": "CH", "T": "T"},
    **{"b": "B", "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "g": "G", "h": "HH", "j": "Y", "k": "K", "x": "K"},
    **{"l": "L", "ɫ": "L", "ɬ": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P", "ɹ": "R", "r": "R", "s": "S"},
    **{"ʃ": "SH", "t": "T", "ɾ": "T", "ʔ": "T", "θ": "TH", "v": "V", "w": "W", "ʍ": "W", "z": "Z", "ʒ": "ZH"},
}
_LONGEST = max(map(len, _IPA))
_STRESS = "ˈˌ"
_MODIFIERS = "ː:̩̪ʲʰ"  # they belong to the sound before them
_VOWEL_LETTERS = "ɑɒaæʌəɐᵊɔɛeɜɚɝɪᵻiʊuʉoAIOQWY"

MEDIAN_DEVIATION_S = 0.030
LARGEST_DEVIATION_S = 0.250
LONGEST_PHONE_S = 0.450


def from_allophones(tokens: Sequence[Token]) -> list[Phone]:
    """Flite's and Festival's segments as ARPABET; pauses are left out."""
    phones: list[Phone] = []
    for name, start, end in tokens:
        if name not in _PAUSES:
            phones += _shared(_ALLOPHONES.get(name, name.upper()).split(), start, end)
    return phones


def from_ipa(token: Token) -> list[Phone]:
    """A symbol of eSpeak NG, which may hold several sounds, as ARPABET; they share its time by letters."""
    text, start, end = token
    letters = _shared([letter for letter in text if letter not in _STRESS + _MODIFIERS], start, end)
    phones: list[Phone] = []
    at = 0
    while at < len(letters):
        names, length = _longest_match("".join(letter for letter, _, _ in letters[at : at + _LONGEST]))
        phones += _shared(names, letters[at][1], letters[at + length - 1][2])
        at += length
    return phones


def from_characters(tokens: Sequence[Token]) -> list[Phone]:
    """The characters of one word of Kokoro's or hibari's as ARPABET; a vowel and its r become one sound."""
    tokens = _without_marks(tokens)
    phones: list[Phone] = []
    at = 0
    while at < len(tokens):
        text, start, end = tokens[at]
        following = [letter for letter, _, _ in tokens[at + 1 : at + 3]]
        before_vowel = len(following) == 2 and following[1] in _VOWEL_LETTERS
        if following[:1] == ["ɹ"] and (text == "ɜ" or (text == "ə" and not before_vowel)):
            at += 1
            text, end = "ɚ", tokens[at][2]
        phones += from_ipa((text, start, end))
        at += 1
    return phones


def _longest_match(ahead: str) -> tuple[list[str], int]:
    """The phones of the next sound and how many letters it takes; an unknown letter is no phone."""
    for length in range(len(ahead), 0, -1):
        if names := _IPA.get(ahead[:length]):
            return names.split(), length
    return [], 1


def _without_marks(tokens: Sequence[Token]) -> list[Token]:
    """Marks give their time away: stress half to each neighbour in the word, length all to the one before."""
    kept: list[Token] = []
    starts_early: float | None = None
    for letter, start, end in tokens:
        if letter in _STRESS + _MODIFIERS:
            starts_early = (start + end) / 2 if letter in _STRESS else end
            if kept:
                kept[-1] = (kept[-1][0], kept[-1][1], starts_early)
        else:
            kept.append((letter, start if starts_early is None else starts_early, end))
            starts_early = None
    return kept


def _shared(names: Sequence[str], start: float, end: float) -> list[Phone]:
    """The sounds one after another in equal parts of the time."""
    part = (end - start) / max(len(names), 1)
    return [(name, start + n * part, start + (n + 1) * part) for n, name in enumerate(names)]


def why_doubtful(
    phones: Sequence[Phone], by_engine: Sequence[Phone] | None = None, longest_s: float = LONGEST_PHONE_S
) -> str:
    """Why an utterance's times are not believed, or an empty string.

    ``phones`` are the times to be kept; ``by_engine`` those of the same phones by the engine itself, where it
    has only an opinion. Two independent witnesses that agree are believed. No phone may last longer than
    ``longest_s``.
    """
    spoken = [phone for phone in phones if phone[0] != SILENCE]
    if not spoken:
        return "nothing was said"
    name, start, end = max(spoken, key=lambda phone: phone[2] - phone[1])
    if end - start > longest_s:
        return f"{name} lasts {(end - start) * 1000:.0f} ms"
    if by_engine is None:
        return ""
    if [name for name, _, _ in spoken] != [name for name, _, _ in by_engine]:
        return "the engine spoke other phones"
    apart = [abs(ours[1] - theirs[1]) for ours, theirs in zip(spoken, by_engine, strict=True)]
    if median(apart) > MEDIAN_DEVIATION_S:
        return f"the median boundary is {median(apart) * 1000:.0f} ms from the engine's"
    if max(apart) > LARGEST_DEVIATION_S:
        return f"a boundary is {max(apart) * 1000:.0f} ms from the engine's"
    return ""
