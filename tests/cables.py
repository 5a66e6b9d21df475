"""A cable that tests can pull."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Cable:
    """A way to a port of this machine.

    Attributes:
        port: where it is entered.
    """

    port: int
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)

    def url(self, name: str = "anna") -> str:
        """A stream's address at the far end."""
        return f"ws://127.0.0.1:{self.port}/v1/streams/{name}"

    def pull(self) -> None:
        """Breaks off all connections, without a word to either end; new ones are let through."""
        for end in self._ends:
            end.transport.abort()


@contextlib.asynccontextmanager
async def cable(to_port: int) -> AsyncIterator[Cable]:
    """A cable to a port of 127.0.0.1."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.transport.abort() if reader.exception() else writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        laid._ends |= ends
        try:
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        finally:
            laid._ends -= ends
            for end in ends:  # whatever ended it, a test's own end included
                end.transport.abort()

    async with await asyncio.start_server(enter, "127.0.0.1", 0) as server:
        laid = Cable(server.sockets[0].getsockname()[1])
        try:
            yield laid
        finally:
            laid.pull()
