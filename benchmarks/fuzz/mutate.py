"""Mutation of JSON as JSON: what a fuzzer of bytes hardly ever does is to keep a document valid.

Of the inputs that hold an object, most have a field changed, dropped, doubled or moved, or get an odd value;
the others are left to the fuzzer's own mutations of bytes.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e-320, 1e308, -1e308, 255, 256, 65_536),
    *(2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *("", " ", "a", "\0", "\x7f", "é", "\U0001f642", "..", "/", "null", "NaN", "x" * 65, "1" * 300),
    *([], {}, [[]], [None], {"": None}, {"type": "hello"}),
)
_BYTES_SHARE = 0.3


def json_mutator(of_bytes: Callable[[bytes, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    """A mutator for the fuzzer: (input, longest, seed) to another input.

    Args:
        of_bytes: the fuzzer's own mutation.
    """

    def mutate(given: bytes, longest: int, seed: int) -> bytes:
        dice = random.Random(seed)
        start = given.find(b"{")
        if start < 0 or dice.random() < _BYTES_SHARE:
            return of_bytes(given, longest)
        try:
            document = json.loads(given[start:])
        except (ValueError, RecursionError):
            return of_bytes(given, longest)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            _change(document, dice)
        text = json.dumps(document, ensure_ascii=dice.random() < 0.5, separators=(",", ":"))
        made = given[:start] + text.encode(errors="surrogatepass")
        return made if len(made) <= longest else of_bytes(given, longest)

    return mutate


def _change(document: Any, dice: random.Random) -> None:
    """One change somewhere in an object."""
    places = list(_places(document))
    if not places:
        return
    holder, key = dice.choice(places)
    match dice.randrange(6):
        case 0:
            del holder[key]
        case 1:
            other, name = dice.choice(places)
            holder[key] = copy.deepcopy(other[name])  # which may hold this very place
        case 2:
            deep: Any = holder[key]
            for _ in range(dice.choice((1, 2, 40))):
                deep = [deep] if dice.random() < 0.5 else {"a": deep}
            holder[key] = deep
        case 3 if isinstance(holder, dict):
            holder[dice.choice(places)[1] if dice.random() < 0.5 else "colour"] = copy.deepcopy(
                dice.choice(_ODD)
            )
        case 4 if type(holder[key]) in (int, float):
            holder[key] = holder[key] * dice.choice((-1, 2, 10, 1000)) + dice.choice((-1, 0, 1))
        case _:
            holder[key] = copy.deepcopy(dice.choice(_ODD))


def _places(document: Any) -> Any:
    """Every (holder, key) of a document, its inside included."""
    if isinstance(document, dict):
        inside = list(document.items())
    elif isinstance(document, list):
        inside = list(enumerate(document))
    else:
        return
    for key, value in inside:
        yield document, key
        yield from _places(value)
