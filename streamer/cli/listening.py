"""What every listening command has: where it listens, who gets in, what is logged, in how many processes."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.cli import logs
from streamer.cli.config import option
from streamer.contract.errors import FaceError
from streamer.server import loop
from streamer.server.app import page_of
from streamer.server.doors import doors
from streamer.server.front import Front, open_port
from streamer.server.settings import Settings


@dataclass(frozen=True)
class ListeningOptions:
    """Options of ``diffspeaker serve`` and ``diffspeaker relay``."""

    host: str = option("127.0.0.1", "the address to listen on; other machines need --token or --insecure")
    port: int = option(8600, "the port to listen on; 0 takes any free one", minimum=0, maximum=65535)
    bundle: Path | None = option(None, "the model's folder; the one that ships where none is given")
    token: str | None = option(None, "a secret that every client must send")
    tokens: Path | None = option(None, "a TOML file of secrets for roles and streams; see SECURITY.md")
    signing_key: Path | None = option(
        None, "the file of the key of short-lived tokens; `diffspeaker token` makes them"
    )
    certificate: Path | None = option(None, "a PEM file: speak TLS; SIGHUP reads a renewed one")
    private_key: Path | None = option(None, "the certificate's key, where its own file does not hold it")
    insecure: bool = option(False, "let other machines connect without a token")
    allow_origin: str | None = option(
        None, "web pages from elsewhere that may connect without a token: addresses, or *", metavar="ORIGIN,…"
    )
    max_per_address: int | None = option(
        None, "how many connections one address may have; without it, any number", minimum=1
    )
    connects_per_minute: int | None = option(
        None, "how often one address may connect; without it, any number", minimum=1
    )
    bytes_per_s: int | None = option(
        None, "how much one address may send; what is more is read later", minimum=16_000
    )
    processes: int = option(
        1,
        "server processes behind the port, for more watchers or speakers than one can hold",
        minimum=1,
        maximum=64,
    )
    log_level: str = option(
        "warning", "how much is logged to stderr", choices=("debug", "info", "warning", "error")
    )
    log_format: str = option(
        "text", "how: a line per event for people, or a JSON object per event", choices=logs.FORMATS
    )

    def settings(self) -> Settings:
        """The server's settings, as far as they are here; also begins to log.

        Raises:
            FaceError: ``bad_config``, a file cannot be used, or strangers would get in unasked.
        """
        gates = doors(
            self.token,
            self.tokens,
            self.signing_key,
            # Who lets strangers in has said so; pages are no different then.
            ("*",) if self.insecure else _addresses(self.allow_origin),
        )
        if not (_is_loopback(self.host) or gates.asks or self.insecure):
            raise FaceError(
                "bad_config",
                f"On {self.host} anybody who can reach this machine could listen in.",
                "Set --token, --tokens or --signing-key, or say --insecure.",
            )
        logs.configure(self.log_level, self.log_format)
        return Settings(
            host=self.host,
            port=self.port,
            doors=gates,
            certificate=self.certificate,
            private_key=self.private_key,
            max_per_address=self.max_per_address,
            connects_per_minute=self.connects_per_minute,
            bytes_per_s=self.bytes_per_s,
        )


def announce(page: str, facts: str) -> None:
    """Says where the server is found."""
    print(f"DiffSpeaker Live is at {page}  ({facts}; Ctrl-C stops it)", flush=True)


def places_of(speakers: int) -> str:
    """How many may speak, in words."""
    return f"{speakers} speaker{'s' if speakers != 1 else ''} at one time"


def run_processes(
    words: Sequence[str], options: ListeningOptions, facts: Callable[[int], str], *, takes_turns: bool
) -> int:
    """Runs a command as several processes until a signal stops it; returns its exit code.

    Args:
        words: the command and its arguments. options: what they say.
        facts: said of the server, of how many may speak.
        takes_turns: whether any process may serve a stream.

    Raises:
        FaceError: as ``options.settings`` and ``open_port``.
    """
    settings = options.settings()
    port = open_port(settings)
    front = Front(
        port,
        lambda port, link: [sys.executable, "-m", "streamer.cli.member", str(port), str(link), *words],
        options.processes,
        takes_turns=takes_turns,
        patience_s=settings.hello_timeout_s,
    )
    page = page_of(settings.host, port.getsockname()[1], is_secure=False)

    def on_ready(places: int) -> None:
        announce(page, f"{facts(places)}, in {options.processes} processes")

    return loop.run(lambda stop: front.serve_until(stop, on_ready))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _addresses(listed: str | None) -> tuple[str, ...]:
    return tuple(address.strip() for address in (listed or "").split(",") if address.strip())
