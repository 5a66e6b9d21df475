"""``diffspeaker``: finds the command, runs it, and turns whatever went wrong into one line and an exit code.

A command is a module ``streamer.cli.<name>`` with ``run(argv) -> int``. It is imported only when it is
called, so that ``--help`` and ``--version`` answer at once and ``info`` works where a dependency of ``serve``
does not. A ``FaceError`` becomes ``diffspeaker: what is wrong. what to do.`` on stderr and the code's exit
number. Ctrl-C is 130 and a reader that went away (``| head``) is 141, both silent. Anything else is a bug of
ours: its traceback is shown, and the exit number is 70.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from streamer.contract.errors import CODES, FaceError

if TYPE_CHECKING:
    from streamer.server.channel import Channel

COMMANDS = {
    "serve": "run the server: speech comes in over a socket or a microphone, a moving face goes out",
    "pool": "put the model on the machines of a Ray cluster, for servers to ask",
    "relay": "pass on another server's streams to those who watch",
    "animate": "turn speech files into animation files, films and pictures",
    "token": "make a short-lived token for a browser or a guest",
    "tune": "measure this machine, and write what serve should be started with",
    "info": "show the model bundle, its origin and the processors it can run on",
    "doctor": "check what a server needs on this machine, and say what to mend",
}

HELP = f"""usage: diffspeaker COMMAND [OPTIONS]

Live speech in, a moving 3D face out.

commands:
{chr(10).join(f"  {name:<9} {line}" for name, line in COMMANDS.items())}

options:
  -h, --help   show this help; `diffspeaker COMMAND --help` shows a command's own
  --version    show the version

first steps:
  diffspeaker serve                        then open the address that it prints
  diffspeaker animate speech.wav -o face.csv
"""

_INTERRUPTED, _PIPE_CLOSED = 130, 141


def main(argv: Sequence[str] | None = None, channel: Channel | None = None) -> int:
    """Runs one command; returns the process's exit code. ``channel``: see ``streamer.cli.member``."""
    code = _run(argv, channel)
    if any(thread.name.startswith("inference ") for thread in threading.enumerate()):
        # It hangs inside the model and cannot be ended; the interpreter must not be taken down under it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(argv: Sequence[str] | None, channel: Channel | None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(argv, channel)
        sys.stdout.flush()
        return code
    except FaceError as error:
        print(f"diffspeaker: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except Exception:
        traceback.print_exc()
        entry = CODES["internal"]
        print("diffspeaker: this is a bug: please report it with the lines above.", file=sys.stderr)
        return entry.exit


def _dispatch(argv: list[str], channel: Channel | None) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else CODES["bad_config"].exit
    if argv[0] == "--version":
        print(f"diffspeaker {_version()}")
        return 0
    if argv[0] not in COMMANDS:
        raise FaceError("bad_config", f"There is no command {argv[0]!r}: use one of {', '.join(COMMANDS)}.")
    command = importlib.import_module(f"streamer.cli.{argv[0]}")
    try:
        return int(command.run(argv[1:]) if channel is None else command.run(argv[1:], channel))
    except SystemExit as stop:  # argparse, after printing a command's --help
        return stop.code if isinstance(stop.code, int) else 0


def _version() -> str:
    try:
        return version("diffspeaker-live")
    except PackageNotFoundError:
        return "0+checkout"


if __name__ == "__main__":
    sys.exit(main())
