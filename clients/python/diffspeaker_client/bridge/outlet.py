"""Where a bridge's faces leave: to one receiver, or to whoever asked.

``Direct`` sends to the address it was given. ``Phone`` listens, as the iFacialMocap app on a phone does, and
sends to the programs that greeted it. Neither waits.
"""

from __future__ import annotations

import errno
import socket
from typing import Protocol

import numpy as np
import numpy.typing as npt

from diffspeaker_client.bridge.destination import Destination
from diffspeaker_client.bridge.encoder import Encoder, Instant
from diffspeaker_client.bridge.ifacialmocap import IFacialMocap, version_asked
from streamer.contract.errors import FaceError

F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_MOST_RECEIVERS = 8
_GREETING_BYTES = 2048


class Outlet(Protocol):
    """Takes faces.

    Attributes:
        title: of the protocol.
    """

    title: str

    @property
    def name(self) -> str:
        """Whom it sends to, for people."""
        ...

    @property
    def sent(self) -> int:
        """Datagrams that went out."""
        ...

    def send(self, coefficients: F32, driven: Flags, instant: Instant) -> str | None:
        """Sends one face (see ``Encoder``); returns a sentence where there is something new to tell."""
        ...

    def close(self) -> None:
        """Closes the socket."""
        ...


class Direct:
    """One receiver.

    Args:
        encoder: its protocol. destination: its address.
    """

    def __init__(self, encoder: Encoder, destination: Destination) -> None:
        self.title = encoder.title
        self._encoder, self._destination = encoder, destination

    @property
    def name(self) -> str:
        """HOST:PORT."""
        return self._destination.name

    @property
    def sent(self) -> int:
        """Datagrams that went out."""
        return self._destination.sent

    def send(self, coefficients: F32, driven: Flags, instant: Instant) -> str | None:
        """See ``Outlet``."""
        datagram = self._encoder.encode(coefficients, driven, instant)
        return self._destination.send(datagram, instant.elapsed_s)

    def close(self) -> None:
        """Closes the socket."""
        self._destination.close()


class Phone:
    """Everybody who greets us as they would greet the iFacialMocap app.

    Answers go to the port that the app's page names, whatever port the greeting came from, in the version
    that the greeting asked for. Each greeting of a host replaces its last one; of more than eight hosts the
    first goes.

    Args:
        host, port: where to listen; port 0 takes any free one.
        reply_port: where the programs receive.

    Raises:
        FaceError: ``port_in_use`` or ``bad_config``.
    """

    title = IFacialMocap.title

    def __init__(self, host: str, port: int, reply_port: int) -> None:
        self._sent = 0
        self._reply_port = reply_port
        self._versions: dict[str, int] = {}
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]

    @property
    def name(self) -> str:
        """Who greeted, or where it is waited for them."""
        return ", ".join(self._versions) or f"whoever greets port {self.port}"

    @property
    def sent(self) -> int:
        """Datagrams that went out."""
        return self._sent

    def send(self, coefficients: F32, driven: Flags, instant: Instant) -> str | None:
        """See ``Outlet``."""
        news = self._hear()
        texts: dict[int, bytes] = {}
        for host, version in self._versions.items():
            if version not in texts:
                texts[version] = IFacialMocap(version).encode(coefficients, driven, instant)
            try:
                self._socket.sendto(texts[version], (host, self._reply_port))
                self._sent += 1
            except OSError:
                continue  # a full socket, a network that is down: the next face is worth more
        return news

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _hear(self) -> str | None:
        news: list[str] = []
        while True:
            try:
                datagram, address = self._socket.recvfrom(_GREETING_BYTES)
            except ConnectionResetError:
                continue  # Windows: somebody we sent to is gone
            except OSError:
                return " ".join(news) or None
            version = version_asked(datagram)
            if version is None:
                continue
            host = address[0]
            if host not in self._versions:
                news.append(f"{host} has greeted: it is sent faces at port {self._reply_port}.")
            self._versions.pop(host, None)
            self._versions[host] = version
            if len(self._versions) > _MOST_RECEIVERS:
                del self._versions[next(iter(self._versions))]


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise FaceError(
                "port_in_use",
                f"The UDP port {port} of {host} is in use: a program that receives on this machine has it.",
                "Leave out --listen and send to it with --to, or choose another port.",
            ) from None
        raise FaceError(
            "bad_config", f"Nothing can listen at {host}:{port}: {error.strerror}.", "Check --listen."
        ) from None
    listening.setblocking(False)
    return listening
