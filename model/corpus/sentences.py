"""What is read aloud: the example sentences of WordNet, shuffled, and dealt to the engines like cards.

Every engine has its own fifth of them whichever engines take part, so that no sentence is spoken by two, not
even when another engine is added to a folder later. One that has read all of its own begins again, with other
voices.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
_PARTS = ("noun", "verb", "adj", "adv")
_QUOTED = re.compile(r'"([^"]+)"')
_PLAIN = re.compile(r"[A-Za-z',; -]+[.?!]?")  # no full stops but at the end: Mr., St., i.e.
_SPELT_OR_SIGNED = re.compile(r"[A-Z]{2}|--")  # NATO, -- Thomas Carlyle
_WORDS = (5, 18)


class NoSentences(Exception):
    """The folder is not WordNet's; the message says what to do."""


@cache
def read_sentences(wordnet: Path, seed: int) -> tuple[str, ...]:
    """WordNet's examples of 5 to 18 plain words, each once, in an order that the seed decides.

    ``wordnet`` holds data.noun, data.verb, data.adj and data.adv, where each line ends in ``| gloss`` with
    the examples in quotation marks. Raises NoSentences.
    """
    found: set[str] = set()
    for part in _PARTS:
        try:
            lines = (wordnet / f"data.{part}").read_text(encoding="latin-1").splitlines()
        except OSError as missing:
            raise NoSentences(
                f"{wordnet} holds no data.{part}: name WordNet's folder with --wordnet"
            ) from missing
        for line in lines:
            if not line.startswith("  "):  # the licence
                found.update(map(_as_sentence, _QUOTED.findall(line.partition("|")[2])))
    found.discard("")
    if not found:
        raise NoSentences(f"{wordnet} holds no example sentences: name WordNet's folder with --wordnet")
    order = sorted(found)
    random.Random(seed).shuffle(order)
    return tuple(order)


def _as_sentence(example: str) -> str:
    """Capital and full stop where they are missing; empty where it would not be read as it is written."""
    text = example.strip(" ;")
    fits = _WORDS[0] <= len(text.split()) <= _WORDS[1]
    if not fits or not _PLAIN.fullmatch(text) or _SPELT_OR_SIGNED.search(text):
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def dealt(sentences: Sequence[str], place: int, places: int, number: int) -> str:
    """The sentence of an engine's utterance ``number`` (from 0), where it sits at ``place`` of ``places``."""
    own = sentences[place::places]
    return own[number % len(own)]
