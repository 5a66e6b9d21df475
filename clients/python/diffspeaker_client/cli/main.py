"""``diffspeaker-client``: finds the command, runs it, and turns what went wrong into a line and an exit code.

A command is a module ``diffspeaker_client.cli.<name>_command`` with ``run(argv) -> int``, imported when it is
called. A ``FaceError`` becomes ``diffspeaker-client: what is wrong. what to do.`` on stderr and the code's
exit number, as with ``diffspeaker``; a server that cannot be reached is 1. Ctrl-C is 130 and a reader that
went away (``| head``) is 141, both silent. Anything else is a bug of ours: its traceback is shown, and the
number is 70.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from diffspeaker_client.reconnect import Unreachable
from streamer.contract.errors import CODES, FaceError

COMMANDS = {
    "bridge": "send a stream to VTuber programs and Unreal: vmc, livelink, ifacialmocap",
    "publish": "speak on a stream: a sound file, or this machine's microphone",
    "watch": "print a stream's frames, or write them as a table",
}

HELP = f"""usage: diffspeaker-client COMMAND [OPTIONS]

A client of a DiffSpeaker Live server: speech goes up, a moving face comes down.

commands:
{chr(10).join(f"  {name:<9} {line}" for name, line in COMMANDS.items())}

options:
  -h, --help   show this help; `diffspeaker-client COMMAND --help` shows a command's own
  --version    show the version

first steps, beside a running `diffspeaker serve`:
  diffspeaker-client publish microphone --stream me
  diffspeaker-client bridge vmc --stream me --to 127.0.0.1:39539
"""

_INTERRUPTED, _PIPE_CLOSED = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except (FaceError, Unreachable) as error:
        print(f"diffspeaker-client: {error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # which may be what the error is about
            _let_go_of_stdout()
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _let_go_of_stdout()
        return _PIPE_CLOSED
    except Exception:
        traceback.print_exc()
        print("diffspeaker-client: this is a bug: please report it with the lines above.", file=sys.stderr)
        return CODES["internal"].exit


def _let_go_of_stdout() -> None:
    """Python flushes stdout once more at exit: gives it somewhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else CODES["bad_config"].exit
    if argv[0] == "--version":
        print(f"diffspeaker-client {_version()}")
        return 0
    if argv[0] not in COMMANDS:
        raise FaceError(
            "bad_config",
            f"There is no command {argv[0]!r}: use one of {', '.join(COMMANDS)}.",
            "See `diffspeaker-client --help`.",
        )
    command = importlib.import_module(f"diffspeaker_client.cli.{argv[0]}_command")
    try:
        return int(command.run(argv[1:]))
    except SystemExit as stop:  # argparse, after printing a command's --help
        return stop.code if isinstance(stop.code, int) else 0


def _version() -> str:
    try:
        return version("diffspeaker-live")
    except PackageNotFoundError:
        return "0+checkout"
