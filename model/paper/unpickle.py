"""Pickles of numbers, read without running them.

VOCASET is published as pickles, some of them written by Python 2. A pickle is a program: whoever opens one
with ``pickle.load`` lets its author call any function. Here every name that a pickle asks for is looked up
in a short table of what arrays, plain numbers and dictionaries need; anything else ends the reading. Texts
and byte strings of Python 2 are read as Latin-1, which is what NumPy expects of its own old arrays.
Training side only: nothing that serves ever reads a pickle.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np


def _latin_bytes(text: str, encoding: str = "latin1") -> bytes:
    """What ``_codecs.encode`` does in pickles of protocol 2, and no other codec than the one they use."""
    if encoding not in ("latin1", "latin-1"):
        raise _Forbidden(f"the encoding {encoding}")
    return text.encode("latin1")


def _numpy_parts() -> dict[tuple[str, str], Callable[..., Any]]:
    """What a pickled array names, as NumPy itself pickles one, under NumPy's old and new module names."""
    reconstruct = cast(Callable[..., Any], np.zeros(1).__reduce__()[0])
    scalar = cast(Callable[..., Any], np.float64(0).__reduce__()[0])
    from_buffer = cast(Callable[..., Any], np.zeros(1).__reduce_ex__(5)[0])
    parts: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }
    for package in ("numpy.core", "numpy._core"):
        parts[(f"{package}.multiarray", "_reconstruct")] = reconstruct
        parts[(f"{package}.multiarray", "scalar")] = scalar
        parts[(f"{package}.numeric", "_frombuffer")] = from_buffer
    return parts


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    **_numpy_parts(),
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin_bytes,
}


class _Forbidden(Exception):
    """The pickle asks for this name."""


class _NumbersOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[(module, name)]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None


def read_pickle(path: Path) -> Any:
    """The numbers, texts, lists, dictionaries and arrays that ``path`` holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file asks for anything else, or is not a pickle.
    """
    with path.open("rb") as stream:
        try:
            return _NumbersOnly(stream, encoding="latin1").load()
        except _Forbidden as error:
            raise ValueError(
                f"{path} holds more than numbers ({error}), so it was not opened; take the published file."
            ) from None
        except Exception as error:  # a damaged pickle may fail in any way whatever
            raise ValueError(f"{path} is damaged or no pickle ({type(error).__name__}: {error}).") from None
