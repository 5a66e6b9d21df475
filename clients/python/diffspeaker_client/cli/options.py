"""What the commands' options have in common: a parser that raises, and the options that name a stream."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlsplit

from streamer.contract.errors import FaceError

SERVER = "ws://127.0.0.1:8600"
TOKEN_VARIABLE = "DIFFSPEAKER_TOKEN"

_STREAMS = "/v1/streams/"
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss", "": "ws"}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class Parser(argparse.ArgumentParser):
    """A command's parser: a mistake is a ``FaceError`` with ``bad_config``, one line as all others."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raises what argparse found."""
        raise FaceError("bad_config", f"{message[:1].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """``--stream``, ``--server``, ``--token`` and ``--once``."""
    parser.add_argument("--stream", metavar="NAME", required=True, help="the stream's name on the server")
    parser.add_argument(
        "--server", metavar="URL", default=SERVER, help=f"the server's address (default {SERVER})"
    )
    parser.add_argument(
        "--token",
        metavar="SECRET",
        help=f"the server's token, where it wants one (${TOKEN_VARIABLE} is read too, and seen by fewer)",
    )
    parser.add_argument(
        "--once", action="store_true", help="end with the first connection, instead of trying again"
    )


def url_of(server: str, stream: str) -> str:
    """The address of a stream.

    Args:
        server: ``ws://HOST:PORT``, the ``http://HOST:PORT/`` that ``diffspeaker serve`` prints, or HOST:PORT.
        stream: 1 to 64 letters, digits, ``.``, ``_`` or ``-``.

    Raises:
        FaceError: ``bad_config`` or ``bad_stream_name``.
    """
    try:
        parts = urlsplit(server if "://" in server else f"ws://{server}")
        scheme, place, _ = _SCHEMES[parts.scheme], parts.hostname, parts.port
    except (KeyError, ValueError):
        scheme, place, parts = "", None, None
    if parts is None or not place or parts.query or parts.fragment:
        raise FaceError(
            "bad_config", f"{server!r} is no address of a server.", f"Use --server {SERVER}, for example."
        )
    if not _NAME.match(stream):
        raise FaceError("bad_stream_name", f"{stream!r} cannot be a stream's name.")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{_STREAMS}{stream}"


def token_of(given: str | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The token that was given, or the environment's."""
    return given or (os.environ if environ is None else environ).get(TOKEN_VARIABLE) or None


def style_of(listed: str | None) -> dict[str, float] | None:
    """The weights in ``cheerful`` or ``soft=0.5,jaw=1.3``; None of None.

    Raises:
        FaceError: ``bad_config``.
    """
    if listed is None:
        return None
    style: dict[str, float] = {}
    for part in listed.split(","):
        name, separator, number = part.strip().partition("=")
        try:
            style[name] = float(number) if separator else 1.0
        except ValueError:
            name = ""
        if not name or not 0 <= style[name] < float("inf"):
            raise FaceError(
                "bad_config", f"The option --style cannot be {listed!r}.", "Use NAME or NAME=0.5,NAME2=0.5."
            )
    return style
