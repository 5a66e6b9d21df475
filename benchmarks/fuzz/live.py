"""A server to be hostile to, the pair beside it to whom nothing may happen, and sockets that obey no rule.

``attacked`` starts the server and, when the attack is over, waits until everybody has left and compares:
every frame of the pair came and is what the same audio gives offline, nothing is held that was not held
before, and the server logged no error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from diffspeaker_client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks.provenance import ROOT
from streamer.contract.manifest import read_manifest, sha256, write_manifest
from streamer.core.options import SessionOptions
from streamer.engine import offline
from streamer.engine.bundle import Bundle
from tests import fakes
from tests.serving import MONO, everything, motion

_CHUNK_S = 0.05
_AVATAR_BYTES = 2 << 20
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed goes back to the system, and is not kept
_MASK = b"\x01\x02\x03\x04"


@dataclass(frozen=True)
class Holding:
    """What a server holds: streams, connections with a place, asyncio tasks, file descriptors, memory.

    ``peak_mb`` is the most memory it ever had, ``errors`` what it logged, ``doing`` where its tasks wait.
    """

    streams: float
    connections: int
    tasks: int
    descriptors: int
    rss_mb: float
    peak_mb: float
    errors: list[str]
    doing: list[str]

    @property
    def is_idle(self) -> bool:
        """Whether nobody has a place."""
        return not self.streams and not self.connections


class Attacked:
    """A server that is attacked.

    Attributes:
        port: where it listens, on loopback.
        before, after: what it held; ``after`` when everybody has left.
        frames: of the pair, each of which came to both.
    """

    def __init__(self, child: asyncio.subprocess.Process, port: int, settles_s: float) -> None:
        self.port = port
        self._settles_s = settles_s
        self.before: Holding
        self.after: Holding
        self.frames = 0
        self._child = child

    def url(self, name: str) -> str:
        """A stream's address."""
        return f"ws://127.0.0.1:{self.port}/v1/streams/{name}"

    async def holding(self) -> Holding:
        """What the server holds now; raises where it is dead or does not answer."""
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write(b"\n")
        line = await asyncio.wait_for(self._child.stdout.readline(), 20)
        if not line:
            raise AssertionError(f"the server has ended with {await self._child.wait()}")
        return Holding(**json.loads(line))

    async def settled(self) -> Holding:
        """What it holds when all strangers have left; what it holds in the end if they do not."""
        for _ in range(int(self._settles_s / 0.1)):
            now = await self.holding()
            if now.is_idle and now.tasks <= self.before.tasks and now.descriptors <= self.before.descriptors:
                break
            await asyncio.sleep(0.1)
        return now

    @property
    def figures(self) -> dict[str, Any]:
        """What it held before and after, for a report."""
        names = ("streams", "connections", "tasks", "descriptors", "rss_mb", "peak_mb")
        return {
            "healthy_frames": self.frames,
            "before": {name: getattr(self.before, name) for name in names},
            "after": {name: getattr(self.after, name) for name in names},
        }


@contextlib.asynccontextmanager
async def attacked(
    folder: Path,
    *,
    rss_mb: float = 32.0,
    descriptors: int = 4096,
    settles_s: float = 40.0,
    plants: tuple[str, ...] = (),
    **settings: Any,
) -> AsyncIterator[Attacked]:
    """A server to attack inside the context; leaving it raises ``AssertionError`` for whatever it did wrong.

    Args:
        folder: for its bundle. rss_mb: by how much its memory may have grown.
        descriptors: how many files and sockets it may have open.
        plants: ``module:function`` to call in it first, which breaks something.
        settles_s: how long it may take until it holds no more than before.
        settings: the server's, short ones where none are given: nobody wants to wait.
    """
    bundle = fakes.write_bundle(folder / "bundle")
    _fatten(bundle)
    chosen = {"hello_timeout_s": 1.0, "resume_s": 0.2, "close_timeout_s": 1.0, **settings}
    words = ("-m", "benchmarks.fuzz.server", str(bundle), json.dumps(chosen), str(descriptors), *plants)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        cwd=ROOT,
        env=os.environ | _ALLOCATOR,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin and child.stdout
    try:
        server = Attacked(child, int(await asyncio.wait_for(child.stdout.readline(), 30)), settles_s)
        async with _pair(server, bundle, "warm"):  # what is made once, is made now
            pass
        server.before = await server.holding()
        server.before = await server.settled()
        async with _pair(server, bundle, "healthy"):
            yield server
        server.after = await server.settled()
        _compare(server, rss_mb)
        child.stdin.close()
        assert await asyncio.wait_for(child.wait(), 30) == 0, "the server did not stop well"
    except (OSError, ConnectionClosed) as error:  # of the pair, or of who attacks
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 1)
        end = "lives" if child.returncode is None else f"has ended with {child.returncode}"
        raise AssertionError(f"a connection was lost, and the server {end}: {error}") from error
    finally:
        for rude in list(_open):  # of attackers who were broken off
            rude.vanish()
        if child.returncode is None:
            child.kill()
            await child.wait()


def _fatten(bundle: Path) -> None:
    """A face of the size that faces have."""
    manifest = read_manifest(bundle)
    (bundle / "avatar.glb").write_bytes(bytes(_AVATAR_BYTES))
    files = manifest.files | {"avatar.glb": sha256(bundle / "avatar.glb")}
    write_manifest(msgspec.structs.replace(manifest, files=files), bundle)


def _compare(server: Attacked, rss_mb: float) -> None:
    before, after = server.before, server.after
    assert not after.errors, f"the server logged {after.errors}"
    assert after.is_idle, f"it still holds {after}"
    assert after.tasks <= before.tasks, f"{after.tasks} tasks, {before.tasks} before: {after.doing}"
    assert after.descriptors <= before.descriptors, f"{after} has more descriptors than {before}"
    grown = after.rss_mb - before.rss_mb
    assert grown <= rss_mb, f"its memory grew by {grown:.0f} MB"


@contextlib.asynccontextmanager
async def _pair(server: Attacked, bundle: Path, name: str) -> AsyncIterator[None]:
    """A speaker in real time and a watcher beside it, whose frames are compared with the offline ones.

    The speaker begins half a second ahead: it then counts as a file, whose windows are never joined.
    """
    pool, said = fakes.speech(20), [fakes.speech(20)[: int(0.5 * 16_000)]]
    over = asyncio.Event()
    async with (
        connect(server.url(name), "converse", audio=MONO) as speaker,
        connect(server.url(name)) as watcher,
        _task_group() as tasks,
    ):
        hearing = [tasks.create_task(everything(face)) for face in (speaker, watcher)]
        await speaker.send_audio(said[0])

        async def speak() -> None:
            step = int(_CHUNK_S * 16_000)
            while not over.is_set():
                start = len(said) * step % (len(pool) - step)
                said.append(pool[start : start + step])
                await speaker.send_audio(said[-1])
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), _CHUNK_S)
            await speaker.end()

        tasks.create_task(speak())
        try:
            yield
        finally:
            over.set()
    loaded = Bundle.load(bundle)
    blocks = offline.animate(
        said, loaded.manifest, fakes.FakeBackend(loaded.manifest), SessionOptions.choose(loaded.manifest)
    )
    wanted = np.concatenate([block.values for block in blocks])
    for events in hearing:
        np.testing.assert_array_equal(motion(events.result()), wanted)
    server.frames = len(wanted)


@contextlib.asynccontextmanager
async def _task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises what its body raised, not a group of one."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


# ---- sockets that obey no rule ---------------------------------------------------------------------------


_open: set[Rude] = set()


@dataclass(eq=False)
class Rude:
    """A TCP connection on which anything can be sent.

    Attributes:
        got: what the server said, text and HTTP heads, cut. is_listening: whether it is read at all.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    got: list[bytes] = field(default_factory=list)

    @classmethod
    async def open(cls, port: int) -> Rude:
        """A connection on which nothing was said."""
        rude = cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))
        _open.add(rude)
        return rude

    async def send(self, content: bytes) -> None:
        """Sends bytes; a peer that is gone, and a half that was closed, are no mistake."""
        with contextlib.suppress(OSError, RuntimeError):
            self.writer.write(content)
            await self.writer.drain()

    async def answer(self) -> bytes:
        """The head of the answer to an HTTP request; empty where the server closed instead."""
        try:
            return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        except (OSError, asyncio.IncompleteReadError):
            return b""

    async def message(self) -> tuple[int, bytes] | None:
        """The next WebSocket frame, (opcode, payload); None where there is none."""
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError):
            return None

    async def until_closed(self) -> None:
        """Reads until the server has closed."""
        with contextlib.suppress(OSError):
            while await self.reader.read(1 << 16):
                pass

    def half_close(self) -> None:
        """Says that nothing more is said."""
        with contextlib.suppress(OSError):
            self.writer.write_eof()

    def vanish(self) -> None:
        """Is gone from one moment to the next: a reset, and no closing."""
        raw = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        _open.discard(self)

    async def close(self) -> None:
        """Closes TCP and nothing above it."""
        self.writer.close()
        _open.discard(self)
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def request(name: str, *headers: str, protocol: str | None = "diffspeaker.v1") -> bytes:
    """A WebSocket's opening request."""
    lines = [
        f"GET /v1/streams/{name} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *([] if protocol is None else [f"Sec-WebSocket-Protocol: {protocol}"]),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    is_last: bool = True,
    reserved: int = 0,
    is_masked: bool = True,
    claims: int | None = None,
) -> bytes:
    """A WebSocket frame, right or wrong; ``claims`` is another length than its payload's."""
    size = len(payload) if claims is None else claims
    head = bytes([is_last << 7 | reserved << 4 | opcode])
    mask = is_masked << 7
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    if not is_masked:
        return head + payload
    key = np.resize(np.frombuffer(_MASK, np.uint8), len(payload))
    return head + _MASK + (np.frombuffer(payload, np.uint8) ^ key).tobytes()


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
