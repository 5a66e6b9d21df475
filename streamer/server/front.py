"""Several server processes behind one port: a connection goes to the process that its path names.

::

    accept → peek at the first line → choose a process → the open socket itself is handed to it

Nothing is copied: once a process says that it has the socket, the front lets go and has no part in what is
said. State: the port, and the processes (``streamer.server.member``). Rules:

1. A stream's speaker and watchers meet because its name is hashed, as a balancer does that stands before
   several machines. Where each process serves everybody (relays), they take turns.
2. The page's files are served by each in turn. Health and metrics are asked of all and answered together:
   alive and ready is the server while one process is; each metric is told with its ``process``.
3. Who comes for a process that is not there waits for it, and is told 503 where that takes too long. A
   process that ends before it was ready ends them all, with its exit code.
4. To stop is to take no more connections, to tell every process (SIGTERM), and to wait for them. A process
   whose front is gone stops by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import zlib
from collections.abc import Callable, Sequence
from http import HTTPStatus

from streamer.contract.errors import FaceError
from streamer.server.http import answer
from streamer.server.member import Member
from streamer.server.metrics import CONTENT_TYPE, together
from streamer.server.settings import Settings
from streamer.server.sockets import unusable
from streamer.server.strangers import Strangers, most

log = logging.getLogger(__name__)

_STREAMS = b"/v1/streams/"
_OF_ALL = (b"/healthz", b"/readyz", b"/metrics")
_LONGEST_LINE = 8192
_BACKLOG = 1024
_STARTING = b"The process of this stream is starting. Try again in a moment.\n"
_PAUSE_S = 0.02  # where the system has no descriptor left


class Front:
    """The port, and the processes behind it.

    Args:
        port: listening, as ``open_port`` makes it. command: starts a process; it is given two more words, the
            descriptors of the port and of its channel.
        processes: how many. takes_turns: whether any of them may serve a stream.
        patience_s: how long a connection may take to say what it wants, and wait for a process.
    """

    def __init__(
        self,
        port: socket.socket,
        command: Callable[[int, int], Sequence[str]],
        processes: int,
        *,
        takes_turns: bool,
        patience_s: float,
    ) -> None:
        self._port = port
        self._members = [Member(number, port, command) for number in range(processes)]
        self._turns = itertools.cycle(self._members)
        self._takes_turns = takes_turns
        self._patience_s = patience_s
        self._strangers = Strangers(most())

    async def serve_until(self, stop: asyncio.Event, on_ready: Callable[[int], None]) -> int:
        """Serves until ``stop`` is set; returns the exit code.

        Args:
            stop: ends it. on_ready: told once how many may speak at one time, when clients may come.
        """
        async with asyncio.TaskGroup() as tasks:
            living = [tasks.create_task(member.live()) for member in self._members]
            stopped = tasks.create_task(stop.wait())
            ready = tasks.create_task(self._ready())
            await asyncio.wait([*living, stopped, ready], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                on_ready(ready.result())
                accepting = tasks.create_task(self._accept(tasks))
                await asyncio.wait([*living, stopped], return_when=asyncio.FIRST_COMPLETED)
                accepting.cancel()
            failed = next((task.result() for task in living if task.done()), 0)
            self._port.close()
            for member in self._members:
                member.stop()
            for task in (stopped, ready):
                task.cancel()
        return failed or max(task.result() for task in living)

    async def _ready(self) -> int:
        return sum([await member.ready() for member in self._members])

    async def _accept(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                link, _ = await loop.sock_accept(self._port)
            except OSError as error:
                log.warning("nothing accepted", extra={"reason": error.strerror})
                await asyncio.sleep(_PAUSE_S)
                continue
            tasks.create_task(self._bring(link))

    async def _bring(self, link: socket.socket) -> None:
        """Hands a connection over, or answers it."""
        link.setblocking(False)
        task = asyncio.current_task()
        assert task is not None

        def cut_off() -> None:
            task.cancel()

        self._strangers.enter(link, cut_off)
        try:
            async with asyncio.timeout(self._patience_s):
                path = _path(await _first_line(link))
            self._strangers.leave(link)
            if path in _OF_ALL:
                await self._answer(link, *await self._of_all(path))
            elif not await self._member(path).take(link, self._patience_s):
                await self._answer(link, HTTPStatus.SERVICE_UNAVAILABLE, _STARTING, "text/plain")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it is gone, or took too long
        except Exception:  # a mistake of ours costs one connection, not everybody's
            log.exception("connection failed")
        finally:
            self._strangers.leave(link)
            link.close()

    def _member(self, path: bytes) -> Member:
        if path.startswith(_STREAMS) and not self._takes_turns:
            return self._members[zlib.crc32(path.removeprefix(_STREAMS)) % len(self._members)]
        return next(self._turns)

    async def _of_all(self, path: bytes) -> tuple[int, bytes, str]:
        """What all answer together: the status, the body and its type."""
        told = await asyncio.gather(*(member.ask(path) for member in self._members))
        status = min(code for code, _ in told)
        if path == b"/metrics":
            return status, together([text for _, text in told]), CONTENT_TYPE
        return status, next(text for code, text in told if code == status), "text/plain"

    async def _answer(self, link: socket.socket, status: int, body: bytes, kind: str) -> None:
        reader, writer = await asyncio.open_connection(sock=link, limit=_LONGEST_LINE)
        try:
            async with asyncio.timeout(self._patience_s):
                await reader.readuntil(b"\r\n\r\n")  # or what it says unread would break off what it is told
                writer.write(answer(HTTPStatus(status), body, kind).serialize())
                await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()


def open_port(settings: Settings) -> socket.socket:
    """The listening port of a front.

    Raises:
        FaceError: ``port_in_use`` or ``bad_config``; sockets cannot be handed over on this system, or TLS
            hides what a front must read.
    """
    if not hasattr(socket, "send_fds"):
        raise FaceError("bad_config", "This system cannot hand over sockets.", "Leave --processes out.")
    if settings.certificate is not None:
        raise FaceError(
            "bad_config",
            "What is encrypted cannot be brought to the process that it is for.",
            "With --processes let a proxy speak TLS (deploy/nginx.conf), or leave --certificate out.",
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        port = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise unusable(settings, error) from None
    port.setblocking(False)
    return port


async def _first_line(link: socket.socket) -> bytes:
    """The first line of what waits in a socket, which stays there; ``OSError`` where none comes."""
    seen = b""
    while b"\n" not in seen:
        if len(seen) >= _LONGEST_LINE:
            raise OSError("its first line does not end")
        # Readable only with more than was seen, or one that sends a byte and waits would keep us awake.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(seen) + 1)
        await _readable(link)
        longer = link.recv(_LONGEST_LINE, socket.MSG_PEEK)
        if len(longer) <= len(seen):
            raise OSError("it ended before it said what it wants")
        seen = longer
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return seen.partition(b"\n")[0]


async def _readable(link: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    loop.add_reader(link, wake)
    try:
        await waiter
    finally:
        loop.remove_reader(link)


def _path(line: bytes) -> bytes:
    words = line.split()
    return words[1].partition(b"?")[0] if len(words) == 3 else b""
