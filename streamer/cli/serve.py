"""``diffspeaker serve``: the server, from its options to the address that a browser opens."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from streamer.cli.config import option, parse
from streamer.cli.listening import ListeningOptions, announce, places_of, run_processes
from streamer.contract.errors import FaceError
from streamer.core.options import parse_style
from streamer.engine.backend import Backend, OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.capacity import measured_capacity
from streamer.engine.inference_thread import InferenceThread
from streamer.engine.providers import CPU, named_providers
from streamer.server import loop
from streamer.server.app import Address, serve_until
from streamer.server.channel import Channel
from streamer.server.microphone import STREAM_NAME, Microphone

log = logging.getLogger(__name__)

# Of a pool: calls under way at a time, and how long windows wait to share one.
_CALLS, _GATHER_S = 8, 0.003

DESCRIPTION = """Starts the server and prints the address of its page: open it in a browser.

  diffspeaker serve
  diffspeaker serve --microphone
  diffspeaker serve --host 0.0.0.0 --token correct-horse-battery

Programs speak to ws://HOST:PORT/v1/streams/NAME; the protocol is in streamer/contract/PROTOCOL.md.
Ctrl-C stops the server."""


@dataclass(frozen=True)
class ServeOptions(ListeningOptions):
    """The options of ``diffspeaker serve``."""

    microphone: bool = option(False, f"animate this machine's microphone as the stream '{STREAM_NAME}'")
    microphone_device: str | None = option(
        None, "which microphone: part of its name, or its number", metavar="NAME"
    )
    lookahead_ms: float | None = option(
        None, "how much of the future the face may hear, in milliseconds; it lags as much", metavar="MS"
    )
    hop_ms: float | None = option(None, "how often frames are sent, in milliseconds", metavar="MS")
    style: str | None = option(
        None, "the manner of speaking; a name, or NAME=0.5,NAME2=0.5 for a mixture", metavar="STYLE"
    )
    seed: int = option(0, "chooses among the many faces that fit; the same seed repeats", minimum=0)
    max_sessions: int | None = option(
        None,
        "how many may speak at one time; by default what this machine holds, measured at start",
        minimum=1,
    )
    resume_s: float = option(
        10.0, "how long a stream waits for a speaker whose connection was lost, in seconds", minimum=0
    )
    engine: str | None = option(
        None,
        "denoise in a Ray cluster that has a pool (`diffspeaker pool`): ray://HOST:10001, or ray://auto",
        metavar="URL",
    )
    provider: str | None = option(
        None,
        "what computes, best first: tensorrt, cuda, coreml, directml, cpu; by default what is found",
        metavar="NAME,…",
    )
    variant: str | None = option(
        None, "how it computes: fp32, fp16, int8; by default each provider's best", metavar="NAME"
    )
    threads: int = option(1, "threads of each worker; `diffspeaker tune` measures", minimum=1)
    workers: int | None = option(
        None,
        "batches under way at a time, a core each; by default up to 4, 1 on a GPU, 8 with --engine",
        minimum=1,
        maximum=64,
    )
    max_batch: int = option(8, "the most windows that are denoised together", minimum=1, maximum=256)
    late_windows: str = option(
        "join",
        "a live speaker's windows that wait behind each other: denoise them as one, or each",
        choices=("join", "each"),
    )
    trace_to: str | None = option(
        None,
        "an OpenTelemetry collector (OTLP over HTTP) for a trace of every window: http://127.0.0.1:4318",
        metavar="URL",
    )


def run(argv: list[str], channel: Channel | None = None) -> int:
    """Runs the command until a signal stops it; returns its exit code.

    Args:
        argv: its words. channel: of the front whose process this is, None where it is its own.
    """
    options = parse(ServeOptions, argv, "diffspeaker serve", DESCRIPTION)
    if options.processes > 1 and options.microphone:
        raise FaceError(
            "bad_config", "A microphone is heard by one process.", "Leave --processes or --microphone out."
        )
    if options.processes > 1 and channel is None:
        Bundle.load(options.bundle)  # or each process says what is wrong with it
        return run_processes(["serve", *argv], options, places_of, takes_turns=False)
    settings = replace(
        options.settings(),
        channel=channel,
        resume_s=options.resume_s,
        trace_to=options.trace_to,
        lookahead_ms=options.lookahead_ms,
        hop_ms=options.hop_ms,
        style=None if options.style is None else parse_style(options.style),
        seed=options.seed,
        join_late_windows=options.late_windows == "join",
    )
    microphone = Microphone(options.microphone_device) if options.microphone else None

    def on_ready(address: Address) -> None:
        if channel is not None:
            channel.tell_ready(settings.max_sessions)
            return
        query = f"?watch={STREAM_NAME}" if microphone else ""
        announce(address.page + query, places_of(settings.max_sessions))

    bundle = Bundle.load(options.bundle)
    backends = _backends(bundle, options)
    settings = replace(settings, max_sessions=options.max_sessions or _measure(backends, bundle, options))
    far = options.engine is not None
    with InferenceThread(
        backends, options.max_batch, fill_wait_s=_GATHER_S if far else 0.0, spreads=not far
    ) as thread:
        loop.run(
            lambda stop: serve_until(
                stop, settings, bundle, thread, microphone=microphone, on_ready=on_ready
            ),
            heeds_once=channel is not None,
        )
    return 0


def _backends(bundle: Bundle, options: ServeOptions) -> Sequence[Backend]:
    """What computes, warm, for each worker."""
    if options.engine is not None:
        from streamer.engine.pool.gateway import PoolBackend

        return [PoolBackend(options.engine, bundle)] * (options.workers or _CALLS)
    providers = None if options.provider is None else named_providers(options.provider)
    backends = [OnnxBackend(bundle, providers, options.threads, options.variant)]
    usual = min(4, (os.cpu_count() or 1) // options.processes) if backends[0].provider == CPU else 1
    while len(backends) < (options.workers or usual):
        backends.append(OnnxBackend(bundle, providers, options.threads, options.variant))
    for backend in backends:
        backend.warm_up(options.max_batch)
    return backends


def _measure(backends: Sequence[Backend], bundle: Bundle, options: ServeOptions) -> int:
    """How many speakers these workers hold."""
    timing = bundle.manifest.timing
    grid = timing.grid()
    frames = timing.hop.default_frames if options.hop_ms is None else grid.hop_frames(options.hop_ms)
    found = measured_capacity(backends, bundle, options.max_batch, grid.hop_ms(frames))
    log.info("capacity measured", extra={"speakers": found, "workers": len(backends)})
    return found
