"""``diffspeaker relay``: watches another server's streams once each, and serves many."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streamer.cli.config import option, parse
from streamer.cli.listening import ListeningOptions
from streamer.contract.errors import FaceError
from streamer.engine.bundle import Bundle
from streamer.server import loop
from streamer.server.app import relaying
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


def run(argv: list[str]) -> int:
    """Runs the command until a signal stops it; returns its exit code."""
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
    settings = options.settings()
    bundle = Bundle.load(options.bundle)
    loop.run(lambda stop: _relay_until(stop, settings, bundle, upstream, options.upstream_token))
    return 0


async def _relay_until(
    stop: asyncio.Event, settings: Settings, bundle: Bundle, upstream: str, token: str | None
) -> None:
    async with relaying(settings, bundle, upstream, token) as address:
        print(f"DiffSpeaker Live is at {address.page}  (a relay of {upstream}; Ctrl-C stops it)", flush=True)
        await stop.wait()
