"""What a server is told when it starts, and the bounds that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streamer.server.channel import Channel
from streamer.server.doors import Doors


@dataclass(frozen=True)
class Settings:
    """What a server is told when it starts.

    Attributes:
        host: the address to listen on. port: 0 lets the system choose.
        doors: who gets in.
        certificate, private_key: PEM files of TLS; None is none.
        lookahead_ms, hop_ms, style, seed: of streams whose hello leaves them out; None is the bundle's.
        max_sessions: speakers at one time; one with a shorter hop than usual counts as more.
        max_per_address: connections of one address at one time. connects_per_minute: new ones of an address.
        bytes_per_s: what an address may send. None is no limit.
        join_late_windows: whether windows of a live speaker that wait behind each other are denoised as one.
        hello_timeout_s: how long a new connection may take to say hello.
        resume_s: how long a stream waits for a speaker whose connection was lost.
        read_ahead_s: audio held for a speaker who sends faster than the model denoises; beyond it the socket
            is not read. It is read ahead at all so that an ``interrupt`` behind a long utterance is heard.
        watcher_messages, watcher_bytes: a watcher's outbox, some seconds of frames.
        speaker_messages, speaker_bytes: a speaker's own, minutes, so that a script may send a whole file
            before it reads.
        stall_timeout_s: how long one message may take to be sent before the connection counts as dead.
        close_timeout_s: how long a closing handshake may take.
        drain_timeout_s: how long a stopping server animates what it has received.
        stats_interval_s: how often each client is told its stats.
        trace_to: the address of an OpenTelemetry collector for traces of windows; None is none.
        channel: of the front that hands over connections; None opens the port itself.
        look_interval_s: how often the inference threads are looked after; a batch hangs after 20 looks.
    """

    host: str = "127.0.0.1"
    port: int = 8600
    doors: Doors = Doors()
    certificate: Path | None = None
    private_key: Path | None = None
    lookahead_ms: float | None = None
    hop_ms: float | None = None
    style: Mapping[str, float] | None = None
    seed: int | None = None
    max_sessions: int = 16
    max_per_address: int | None = None
    connects_per_minute: int | None = None
    bytes_per_s: int | None = None
    join_late_windows: bool = True
    channel: Channel | None = None

    hello_timeout_s: float = 10.0
    resume_s: float = 10.0
    read_ahead_s: float = 30.0
    watcher_messages: int = 256
    watcher_bytes: int = 8 << 20
    speaker_messages: int = 4096
    speaker_bytes: int = 32 << 20
    stall_timeout_s: float = 60.0
    close_timeout_s: float = 5.0
    drain_timeout_s: float = 10.0
    stats_interval_s: float = 1.0
    trace_to: str | None = None
    look_interval_s: float = 0.25
