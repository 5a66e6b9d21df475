"""Bugs, for the fuzzer to find: readers with one each, and functions that put one into a server's process.

That each is found is tested; nothing else uses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


# ---- in a server: each is called in its process before it starts ----

_kept: list[object] = []


def _with_each_connection(also: Callable[[], object]) -> None:
    from streamer.server import app

    converse = app.converse

    async def converse_and_keep(socket: Any, hub: Any) -> None:
        _kept.append(also())
        await converse(socket, hub)

    app.converse = converse_and_keep


def keeps_a_task() -> None:
    """Each connection leaves a task behind."""
    _with_each_connection(lambda: asyncio.ensure_future(asyncio.Event().wait()))


def keeps_a_file() -> None:
    """Each connection leaves a file open."""
    _with_each_connection(lambda: os.open(os.devnull, os.O_RDONLY))


def keeps_memory() -> None:
    """Each connection leaves a megabyte."""
    _with_each_connection(lambda: b"x" * (1 << 20))


def keeps_a_place() -> None:
    """A connection that was lost is counted for ever."""
    from streamer.server.limits import Limits

    held = Limits.held

    @contextlib.contextmanager
    def held_for_ever(self: Limits, address: str, guest: Any) -> Iterator[None]:
        self._addresses[address] += 1
        with held(self, address, guest):
            yield

    Limits.held = held_for_ever  # type: ignore[method-assign]


def has_no_name_for_an_error() -> None:
    """An interrupt raises what nobody expects."""
    from streamer.server.stream import Stream

    async def interrupt(self: Stream) -> None:
        raise ValueError("what?")

    Stream.interrupt = interrupt  # type: ignore[method-assign]


def changes_a_frame() -> None:
    """A stream's frames are a little others while somebody else speaks."""
    from streamer.server.broadcast import Broadcast

    alive: weakref.WeakSet[Broadcast] = weakref.WeakSet()
    join, publish = Broadcast.join, Broadcast.publish

    def join_and_count(self: Broadcast, subscriber: Any) -> None:
        alive.add(self)
        join(self, subscriber)

    async def publish_badly(self: Broadcast, block: Any) -> None:
        if len(alive) > 2:  # this one, and one that is over, perhaps
            block.values[:] += 0.001
        await publish(self, block)

    Broadcast.join, Broadcast.publish = join_and_count, publish_badly  # type: ignore[method-assign]


def dies() -> None:
    """The process ends with the first interrupt."""
    from streamer.server.stream import Stream

    async def interrupt(self: Stream) -> None:
        os._exit(3)

    Stream.interrupt = interrupt  # type: ignore[method-assign]
