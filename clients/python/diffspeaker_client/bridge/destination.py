"""Where datagrams go: one UDP receiver, which may not be there.

UDP says nothing of arrival, but a machine that has nobody on a port says so (ICMP "port unreachable"), and
the system hands that to the *next* send. State: a connected socket that never waits, and whether its receiver
was last heard to be missing. Rules:

1. A host that is not known is an error before anything is sent.
2. A missing receiver, or a network that is down, is told once; sending goes on, because the program may be
   started later. A second without complaint ends the outage, so that the next one is told again.
3. A send that only reports an old refusal is made again at once. A full socket loses the datagram: the next
   face is worth more than a late one.
"""

from __future__ import annotations

import contextlib
import socket

from streamer.contract.errors import FaceError

_QUIET_S = 1.0


def parse_target(text: str, default_port: int) -> tuple[str, int]:
    """The host and port in ``HOST``, ``HOST:PORT``, ``:PORT`` or ``[IPv6]:PORT``.

    Raises:
        FaceError: ``bad_config``.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        is_wrong = not bracket or (bool(rest) and not rest.startswith(":"))
    else:
        if text.count(":") == 1:
            host, _, port = text.partition(":")
        is_wrong = not text
    if is_wrong or (port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)):
        raise FaceError(
            "bad_config", f"{text!r} is no address of a receiver.", "Use HOST:PORT, such as 127.0.0.1:39539."
        )
    return host or "127.0.0.1", int(port or default_port)


class Destination:
    """A receiver of datagrams.

    Args:
        host: its name or address. port: its port.

    Attributes:
        name: HOST:PORT, for people. sent: datagrams that went out.

    Raises:
        FaceError: ``bad_config``, the host is not known.
    """

    def __init__(self, host: str, port: int) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.sent = 0
        try:
            # Receivers listen on IPv4, some on it alone: of a name that has both, that one.
            known = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = min(known, key=lambda entry: entry[0] != socket.AF_INET)
            self._socket = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise FaceError(
                "bad_config",
                f"The host {host!r} is not known: {reason}.",
                "Give the receiver's address with --to.",
            ) from None
        self._socket.setblocking(False)
        self._trouble_s: float | None = None
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise FaceError(
                "bad_config", f"Nothing can be sent to {self.name}: {error.strerror}.", "Check --to."
            ) from None

    def send(self, datagram: bytes, now_s: float) -> str | None:
        """Sends one datagram; returns a sentence where there is something new to tell.

        Args:
            now_s: the caller's monotonic clock.
        """
        trouble = self._try(datagram)
        if trouble is None:
            if self._trouble_s is not None and now_s - self._trouble_s > _QUIET_S:
                self._trouble_s = None
            return None
        is_new, self._trouble_s = self._trouble_s is None, now_s
        return trouble if is_new else None

    def _try(self, datagram: bytes) -> str | None:
        trouble: str | None = None
        for _ in range(2):
            try:
                self._socket.send(datagram)
            except (ConnectionRefusedError, ConnectionResetError):
                trouble = (
                    f"Nobody listens at {self.name} (UDP): start the program and switch its receiver on, or "
                    "check the port. Sending goes on."
                )
            except BlockingIOError:
                return trouble
            except OSError as error:
                return f"{self.name} cannot be reached: {error.strerror}. Sending goes on."
            else:
                self.sent += 1
                return trouble
        return trouble

    def close(self) -> None:
        """Closes the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()
