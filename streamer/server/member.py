"""One process behind a front: started, started again, and given the sockets that are for it.

``streamer.server.channel`` is its own end. State: the process, the channel over which sockets go, and those
that it has not taken yet. Rules:

1. A process that ends is started again, unless it was told to stop or was never ready.
2. A socket that was on its way to a process that ended goes to the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus

log = logging.getLogger(__name__)

_ANSWER_S = 5.0
_MOST_ANSWER_BYTES = 4 << 20
_TOLD_TOO_S = 0.2  # whoever tells all of them to stop, as systemd does, may tell the front last
_PAUSE_S = 0.02  # where a channel is full


class Member:
    """One process, again and again.

    Args:
        number: of it. port: passed on for its address. command: starts it.
    """

    def __init__(
        self, number: int, port: socket.socket, command: Callable[[int, int], Sequence[str]]
    ) -> None:
        self._number = number
        self._port = port
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._on_the_way: deque[asyncio.Future[bool]] = deque()
        self._is_ready = asyncio.Event()
        self._is_stopping = False
        self._places = 0

    async def ready(self) -> int:
        """Waits until it takes connections; how many may speak there."""
        await self._is_ready.wait()
        return self._places

    async def live(self) -> int:
        """Keeps it running until it is stopped, or ends before it was ready; its exit code."""
        while True:
            code, was_ready = await self._live_once()
            if was_ready and not self._is_stopping:
                await asyncio.sleep(_TOLD_TOO_S)
            if self._is_stopping or not was_ready:
                return abs(code) or int(not self._is_stopping)
            log.error("process ended, started again", extra={"number": self._number, "code": code})

    async def _live_once(self) -> tuple[int, bool]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(self._port.fileno(), theirs.fileno()),
                pass_fds=(self._port.fileno(), theirs.fileno()),
                start_new_session=True,  # Ctrl-C is for the front, which tells them
            )
            try:
                if self._is_stopping:
                    self.stop()
                theirs.close()
                ours.setblocking(False)
                if places := await _heard(ours):
                    self._places, self._channel = int(places), ours
                    self._is_ready.set()
                while taken := await _heard(ours):
                    for _ in taken:
                        _resolve(self._on_the_way.popleft(), True)
                self._channel = None
                self._is_ready.clear()
                while self._on_the_way:
                    _resolve(self._on_the_way.popleft(), False)
                code = await self._process.wait()
            finally:
                if self._process.returncode is None:
                    self._process.kill()
        return code, bool(places)

    def stop(self) -> None:
        """Tells it to stop."""
        self._is_stopping = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def take(self, link: socket.socket, patience_s: float) -> bool:
        """Hands it a socket, as soon as it is ready; false where it never was.

        Args:
            link: an open socket. patience_s: how long that may take.
        """
        is_on_its_way = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not is_on_its_way:
                    await self._is_ready.wait()
                    assert self._channel is not None
                    try:
                        socket.send_fds(self._channel, [b"."], [link.fileno()])
                    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                        await asyncio.sleep(_PAUSE_S)
                        continue
                    self._on_the_way.append(taken := asyncio.get_running_loop().create_future())
                    is_on_its_way = True  # it may take the socket at any time: nobody else may use it now
                    is_on_its_way = await taken
        return is_on_its_way

    async def ask(self, path: bytes) -> tuple[int, bytes]:
        """Its own answer to a request for a path: the status, and the body; 503 where there is none."""
        ours, theirs = socket.socketpair()
        try:
            async with asyncio.timeout(_ANSWER_S):
                with theirs:
                    if not await self.take(theirs, _ANSWER_S):
                        raise TimeoutError
                reader, writer = await asyncio.open_connection(sock=ours)
                try:
                    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: front\r\n\r\n")
                    head, _, body = (await _all(reader)).partition(b"\r\n\r\n")
                finally:
                    writer.close()
            return int(head.split()[1]), body
        except (OSError, TimeoutError, IndexError, ValueError):
            ours.close()
            return HTTPStatus.SERVICE_UNAVAILABLE, b""


async def _heard(channel: socket.socket) -> bytes:
    """What a process says next; nothing once it has ended."""
    with contextlib.suppress(ConnectionResetError):  # it ended and left sockets untaken
        return await asyncio.get_running_loop().sock_recv(channel, 64)
    return b""


def _resolve(taken: asyncio.Future[bool], result: bool) -> None:
    if not taken.done():  # whoever waited may have given up
        taken.set_result(result)


async def _all(reader: asyncio.StreamReader) -> bytes:
    parts, size = [], 0
    while part := await reader.read(1 << 16):
        parts.append(part)
        size += len(part)
        if size > _MOST_ANSWER_BYTES:
            raise ValueError("the answer does not end")
    return b"".join(parts)
