"""``diffspeaker-client watch``: a stream's frames, for people or as a table."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TextIO

from diffspeaker_client.cli.options import Parser, add_stream_options, token_of, url_of
from diffspeaker_client.status import Status
from diffspeaker_client.watch import Glance, Table, Watcher
from streamer.contract.errors import FaceError

DESCRIPTION = """Watches a stream: a line for each message of frames, or every frame as a row of a table.

  diffspeaker-client watch --stream me
  diffspeaker-client watch --stream me --once -o face.csv
  diffspeaker-client watch --stream me -o - | head"""


def _parser() -> Parser:
    parser = Parser("diffspeaker-client watch", DESCRIPTION)
    add_stream_options(parser)
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE.csv",
        help="write every frame as a row of comma-separated values; - is standard output",
    )
    return parser


def run(argv: list[str]) -> int:
    """Runs the command until Ctrl-C; returns its exit code."""
    options = _parser().parse_args(argv)
    url, token = url_of(options.server, options.stream), token_of(options.token)
    status = Status()
    try:
        with contextlib.ExitStack() as leaving:
            sink = Glance(sys.stdout) if options.out is None else Table(_open(options.out, leaving))
            asyncio.run(Watcher(url, token, sink, status, once=options.once).run())
    finally:
        status.close()
    return 0


def _open(path: str, leaving: contextlib.ExitStack) -> TextIO:
    if path == "-":
        return sys.stdout
    try:
        stream = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115
    except OSError as error:
        raise FaceError("bad_output", f"{path} cannot be written: {error.strerror}.") from None

    def close(_: object, failure: BaseException | None, __: object) -> None:
        try:
            stream.close()
        except OSError as error:  # of a full disk, once more: what was said of it before stands
            if failure is None:
                raise FaceError("bad_output", f"{path} cannot be written: {error.strerror}.") from None

    leaving.push(close)
    return stream
