"""``diffspeaker token``: makes a short-lived token, for a browser or for somebody who should not keep one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from streamer.cli.config import option, parse
from streamer.contract.errors import FaceError
from streamer.server.doors import read_key, sign

DESCRIPTION = """Prints a signed token that opens a stream until it expires. The server needs the same key:

  openssl rand -base64 48 > signing.key
  diffspeaker serve --host 0.0.0.0 --signing-key signing.key
  diffspeaker token --signing-key signing.key --role watch --streams anna --minutes 60"""


@dataclass(frozen=True)
class TokenOptions:
    """The options of ``diffspeaker token``."""

    signing_key: Path | None = option(None, "the file of the key that the server was started with")
    role: str = option("watch", "what it opens; publish is converse too", choices=("publish", "watch", "any"))
    streams: str = option("*", "for which streams: a name, or a pattern such as bot-*")
    minutes: float = option(60.0, "how long it is good for", minimum=0.01)
    subject: str = option("", "whom it is for, as the server's log will call them")


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = parse(TokenOptions, argv, "diffspeaker token", DESCRIPTION)
    if options.signing_key is None:
        raise FaceError("bad_config", "Give the key with --signing-key.", "See `diffspeaker token --help`.")
    key = read_key(options.signing_key)
    print(sign(key, options.role, options.streams, 60 * options.minutes, time.time(), options.subject))
    return 0
