"""A process's end of its front: connections come as sockets that somebody else has accepted.

``streamer.server.member`` starts the process with two descriptors: the port, which here is only asked for its
number, and the channel. Each byte on the channel brings a socket, of which nothing was read. Rules:

1. The process says once that it is ready, and for how many speakers; no socket comes before.
2. A byte goes back for each socket that was taken; until then the front keeps it, and gives it to the next
   process should this one end.
3. The end of the channel is the end of the front: the process stops, as by SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Callable


class Channel:
    """What the front started this process with.

    Args:
        port: the descriptor of the listening port. link: of the channel.
    """

    def __init__(self, port: int, link: int) -> None:
        self.port = socket.socket(fileno=port)
        self.unreachable = unreachable()
        self._link = socket.socket(fileno=link)
        self._link.setblocking(False)

    def tell_ready(self, places: int) -> None:
        """Connections may come; so many may speak here."""
        self._tell(b"%d" % places)

    def follow(self, adopt: Callable[[socket.socket], None]) -> None:
        """Hands every socket that comes to ``adopt``, from now on. Call it in the event loop."""
        loop = asyncio.get_running_loop()

        def take() -> None:
            try:
                told, found, _, _ = socket.recv_fds(self._link, 1, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                told, found = b"", []
            if not told:
                loop.remove_reader(self._link)
                os.kill(os.getpid(), signal.SIGTERM)
            for number in found:
                adopt(socket.socket(fileno=number))
                self._tell(b".")

        loop.add_reader(self._link, take)

    def _tell(self, what: bytes) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it listens to nobody, or is gone
            self._link.send(what)


def unreachable() -> socket.socket:
    """A listening socket that nobody can connect to: a server must listen somewhere to be open."""
    with tempfile.TemporaryDirectory() as folder:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"{folder}/nobody")
        listening.listen()
    return listening
