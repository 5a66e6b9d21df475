"""``diffspeaker relay``: watches another server's streams once each, and serves many."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from streamer.cli.config import option, parse
from streamer.cli.listening import ListeningOptions, announce, run_processes
from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.server import loop
from streamer.server.app import relaying
from streamer.server.channel import Channel
from streamer.server.settings import Settings

DESCRIPTION = """Passes on the streams of another server, or of another relay, to those who watch here.

  diffspeaker relay --upstream ws://studio:8600 --upstream-token "$STUDIO" --host 0.0.0.0 --token for-watchers

Needs no model and little else: the upstream sends each stream once, however many watch. Ctrl-C stops it."""


@dataclass(frozen=True)
class RelayOptions(ListeningOptions):
    """The options of ``diffspeaker relay``."""

    upstream: str | None = option(
        None, "the server whose streams are passed on: ws:// or wss://", metavar="URL"
    )
    upstream_token: str | None = option(None, "its token for watching, where it asks for one")


def run(argv: list[str], channel: Channel | None = None) -> int:
    """Runs the command until a signal stops it; returns its exit code.

    Args:
        argv: its words. channel: of the front whose process this is, None where it is its own.
    """
    options = parse(RelayOptions, argv, "diffspeaker relay", DESCRIPTION)
    upstream = options.upstream or ""
    if not upstream.startswith(("ws://", "wss://")):
        raise FaceError(
            "bad_config",
            "It must be said whose streams are relayed."
            if not upstream
            else f"{upstream} is no server's address.",
            "Name it with --upstream ws://HOST:PORT, or wss:// where it speaks TLS.",
        )
    if options.processes > 1 and channel is None:
        Bundle.load(options.bundle)  # or each process says what is wrong with it
        facts = f"a relay of {upstream}"
        return run_processes(["relay", *argv], options, lambda _: facts, takes_turns=True)
    settings = replace(options.settings(), channel=channel)
    bundle = Bundle.load(options.bundle)
    loop.run(
        lambda stop: _relay_until(stop, settings, bundle, upstream, options.upstream_token),
        heeds_once=channel is not None,
    )
    return 0


async def _relay_until(
    stop: asyncio.Event, settings: Settings, bundle: Bundle, upstream: str, token: str | None
) -> None:
    async with relaying(settings, bundle, upstream, token) as address:
        if settings.channel is None:
            announce(address.page, f"a relay of {upstream}")
        else:
            settings.channel.tell_ready(1)
        await stop.wait()
