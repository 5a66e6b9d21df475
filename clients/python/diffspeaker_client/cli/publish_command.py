"""``diffspeaker-client publish FILE|microphone``: speaks on a stream."""

from __future__ import annotations

import asyncio
from pathlib import Path

from diffspeaker_client.cli.options import Parser, add_stream_options, style_of, token_of, url_of
from diffspeaker_client.microphone import Microphone
from diffspeaker_client.publish import Publisher, Speech
from diffspeaker_client.sound_file import SoundFile
from diffspeaker_client.status import Status
from streamer.contract.errors import FaceError

MICROPHONE = "microphone"

DESCRIPTION = """Speaks on a stream: a sound file in real time, or this machine's microphone until Ctrl-C.

  diffspeaker-client publish speech.wav --stream me
  diffspeaker-client publish microphone --stream me --server ws://192.168.1.5:8600

Watch the face at http://HOST:PORT/?watch=NAME, or send it on with `diffspeaker-client bridge`."""


def _parser() -> Parser:
    parser = Parser("diffspeaker-client publish", DESCRIPTION)
    parser.add_argument(
        "source", metavar="FILE|microphone", help="a wav, flac, ogg or mp3 file, or the word microphone"
    )
    add_stream_options(parser)
    parser.add_argument("--device", metavar="NAME", help="which microphone: part of its name, or its number")
    parser.add_argument(
        "--style", metavar="STYLE", help="the manner of speaking: NAME, or NAME=0.5,NAME2=0.5 for a mixture"
    )
    parser.add_argument(
        "--lookahead-ms", metavar="MS", type=float, help="how much of the future the face may hear"
    )
    return parser


def run(argv: list[str]) -> int:
    """Runs the command until its source ends; returns its exit code."""
    options = _parser().parse_args(argv)
    if options.device is not None and options.source != MICROPHONE:
        raise FaceError("bad_config", "The option --device belongs to the microphone.", "Leave it out.")
    speech = Speech(
        url=url_of(options.server, options.stream),
        token=token_of(options.token),
        style=style_of(options.style),
        lookahead_ms=options.lookahead_ms,
        once=options.once,
    )
    status = Status()
    try:
        asyncio.run(_publish(options.source, options.device, speech, status))
    finally:
        status.close()
    return 0


async def _publish(source: str, device: str | None, speech: Speech, status: Status) -> None:
    opened = Microphone(device) if source == MICROPHONE else SoundFile(Path(source))
    with opened as heard:
        await Publisher(speech, heard, status).run()
