"""``diffspeaker-client bridge vmc|livelink|ifacialmocap``: a stream's face in programs that exist already."""

from __future__ import annotations

import asyncio
import socket
from argparse import Namespace

from diffspeaker_client.adjust import parse_gains, parse_only
from diffspeaker_client.bridge import ifacialmocap, livelink
from diffspeaker_client.bridge.destination import Destination, parse_target
from diffspeaker_client.bridge.encoder import Encoder
from diffspeaker_client.bridge.expressions import VRM0
from diffspeaker_client.bridge.outlet import Direct, Outlet, Phone
from diffspeaker_client.bridge.run import Bridge, Plan
from diffspeaker_client.cli.options import Parser, add_stream_options, token_of, url_of
from diffspeaker_client.status import Status
from streamer.contract.errors import FaceError

_VMC_PORT = 39539  # as in ``bridge.vmc``, which is imported only when it is used: it needs python-osc
PORTS = {"vmc": _VMC_PORT, "livelink": livelink.PORT, "ifacialmocap": ifacialmocap.PORT}

DESCRIPTION = """Sends a stream's face to programs that speak another protocol, each frame when it is due.

  diffspeaker-client bridge vmc --stream me                        VSeeFace, VNyan, Warudo
  diffspeaker-client bridge livelink --stream me --to 192.168.1.5  Unreal's Live Link
  diffspeaker-client bridge ifacialmocap --stream me               programs that hear the iFacialMocap app

It waits for the server and for somebody to speak, and lets the face rest when nobody does. Ctrl-C ends it."""


def _parser() -> Parser:
    parser = Parser("diffspeaker-client bridge", DESCRIPTION)
    parser.add_argument("protocol", choices=tuple(PORTS), help="what the receiving program understands")
    add_stream_options(parser)
    ports = ", ".join(f"{port} for {name}" for name, port in PORTS.items())
    parser.add_argument(
        "--to", metavar="HOST:PORT", help=f"the receiver (default 127.0.0.1, port {ports})", default=None
    )
    parser.add_argument(
        "--fps", metavar="N", help="faces per second, 1 to 240 (default: the stream's frame rate)"
    )
    parser.add_argument(
        "--only",
        metavar="NAME,…",
        help="what is sent: mouth, eyes, brows, cheeks, or ARKit names; a camera may drive the rest",
    )
    parser.add_argument(
        "--gain",
        metavar="NAME=FACTOR",
        action="append",
        default=[],
        help="makes a region, an ARKit name or (vmc) a VRM name stronger or weaker; may be given again",
    )
    parser.add_argument("--mirror", action="store_true", help="swap left and right")
    vmc = parser.add_argument_group("vmc")
    vmc.add_argument(
        "--names",
        choices=("vrm0", "arkit", "both"),
        help="vrm0: A I U E O and blinks (default); arkit: the 52, for avatars with 'perfect sync'; both",
    )
    live = parser.add_argument_group("livelink")
    live.add_argument(
        "--subject", metavar="NAME", help="the name in Unreal's Live Link list (default: the stream's)"
    )
    phone = parser.add_argument_group("ifacialmocap")
    phone.add_argument(
        "--listen",
        metavar="HOST:PORT",
        nargs="?",
        const="",
        help="be the phone: wait for programs on other machines to greet this one (default 0.0.0.0:49983)",
    )
    phone.add_argument(
        "--reply-port",
        metavar="PORT",
        help=f"with --listen, where those programs receive (default {ifacialmocap.PORT})",
    )
    phone.add_argument(
        "--text-version", choices=("1", "2"), help="with --to, of the text: name-7 or name&7 (default 2)"
    )
    return parser


def run(argv: list[str]) -> int:
    """Runs the command until Ctrl-C; returns its exit code."""
    options = _parser().parse_args(argv)
    _check_fit(options)
    also = VRM0 if options.protocol == "vmc" and options.names != "arkit" else ()
    gains = parse_gains(options.gain, also)
    plan = Plan(
        url=url_of(options.server, options.stream),
        token=token_of(options.token),
        fps=None if options.fps is None else _whole("--fps", options.fps, 1, 240),
        only=parse_only(options.only),
        gains={name: gain for name, gain in gains.items() if name not in VRM0},
        mirror=options.mirror,
        once=options.once,
    )
    outlet = _outlet(options, {name: gain for name, gain in gains.items() if name in VRM0})
    status = Status()
    try:
        asyncio.run(Bridge(plan, outlet, status).run())
    finally:
        status.close()
    return 0


def _check_fit(options: Namespace) -> None:
    """An option of another protocol is a mistake, not something to ignore."""
    homes = {
        "names": "vmc",
        "subject": "livelink",
        "listen": "ifacialmocap",
        "reply_port": "ifacialmocap",
        "text_version": "ifacialmocap",
    }
    for name, home in homes.items():
        if getattr(options, name) is not None and options.protocol != home:
            raise FaceError(
                "bad_config", f"The option --{name.replace('_', '-')} belongs to {home}.", "Leave it out."
            )
    if options.listen is not None and (options.to or options.text_version):
        raise FaceError(
            "bad_config",
            "With --listen the programs say where they are.",
            "Leave out --to and --text-version.",
        )
    if options.reply_port is not None and options.listen is None:
        raise FaceError("bad_config", "The option --reply-port belongs to --listen.", "Use --to HOST:PORT.")


def _outlet(options: Namespace, vrm0_gains: dict[str, float]) -> Outlet:
    if options.listen is not None:
        host, port = parse_target(options.listen or "0.0.0.0", ifacialmocap.PORT)
        reply = options.reply_port or str(ifacialmocap.PORT)
        return Phone(host, port, _whole("--reply-port", reply, 1, 65_535))
    port = PORTS[options.protocol]
    target = parse_target(options.to or f":{port}", port)
    return Direct(_encoder(options, vrm0_gains), Destination(*target))


def _encoder(options: Namespace, vrm0_gains: dict[str, float]) -> Encoder:
    if options.protocol == "livelink":
        subject = options.stream if options.subject is None else options.subject
        return livelink.LiveLink(subject, machine=socket.gethostname())
    if options.protocol == "ifacialmocap":
        return ifacialmocap.IFacialMocap(int(options.text_version or 2))
    try:
        from diffspeaker_client.bridge.vmc import Vmc
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "pythonosc":
            raise
        raise FaceError(
            "bad_config", "VMC needs the package python-osc.", 'Run: pip install "diffspeaker-live[vmc]"'
        ) from None
    return Vmc(options.names or "vrm0", vrm0_gains)


def _whole(option: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise FaceError(
            "bad_config",
            f"The option {option} must be a whole number of {least} to {most}, not {text!r}.",
            "See `diffspeaker-client bridge --help`.",
        )
    return int(text)
