"""Readers with a bug each, for the fuzzer to find: that it does is tested. Nothing else uses them."""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path

from benchmarks.fuzz.targets import Target
from streamer.contract.errors import FaceError


def exception(given: bytes) -> None:
    """Forgets a case that no dice find: who follows the branches does."""
    if len(given) < 4:
        raise FaceError("bad_message", "It is too short.")
    if given[0] == 0xF0 and given[1] == 0x9F and given[2] == 0x99 and given[3] == 0x82:
        raise KeyError("a smile")


def crash(given: bytes) -> None:
    """Faults as a C library does."""
    if given[:1] == b"c":
        ctypes.string_at(0)


def hang(given: bytes) -> None:
    """Never ends."""
    while given[:1] == b"h":
        pass


def memory(given: bytes) -> None:
    """Believes what it is told about a size."""
    if given[:1] == b"m":
        bytearray(1 << 30)


class Other(Exception):
    """An error without a name of ours."""


def other(given: bytes) -> None:
    """Answers with an error that is none of ours."""
    raise Other("what?")


def _target(name: str) -> Target:
    def prepare(folder: Path):  # type: ignore[no-untyped-def]
        return getattr(importlib.import_module(__name__), name)  # anew, where the fuzzer watches it

    return Target("nothing", prepare, lambda _: [b"seed"], (b"c", b"h", b"m"))


EXCEPTION, CRASH, HANG, MEMORY, OTHER = map(_target, ("exception", "crash", "hang", "memory", "other"))
