"""What the load benchmarks share: a server as its own process, paced speakers, and watchers.

All traffic stays on loopback. The load generator is a process of its own (``python -m benchmarks.capacity``
and ``benchmarks.fanout`` start themselves again with ``--generate``), so that its work never waits behind
the benchmark's. Times are of the machine's monotonic clock, which all processes share.

A frame's *latency* here begins when all the audio that it may hear exists, its lookahead included, as a
microphone would have it, and ends when the frame arrives at the client. It holds the wait for the rest of
its hop and of its chunk, the queue, the denoising and the sockets. With the lookahead added it is the
end-to-end latency.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from streamer.contract import wire

SPEECH = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"
CHUNK_S = 0.02
_ADDRESS = re.compile(r"http://([\w.]+):(\d+)/\S*\s+\((?:(\d+) speaker|a relay)")
_COMPUTE = re.compile(r"compute_ms=([\d.]+)")


@dataclass
class Server:
    """A running ``diffspeaker serve``.

    Attributes:
        url: of its streams, without a name. process: to read its processor time. places: for speakers.
        compute_ms: of each window, where it logs at the level ``debug``.
    """

    url: str
    process: psutil.Process
    places: int
    compute_ms: list[float] = field(default_factory=list)

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def megabytes(self) -> float:
        """Resident memory."""
        return float(self.process.memory_info().rss) / 1e6


class Refused(SystemExit):
    """The server refused a stream; most benchmarks cannot go on."""


@contextlib.asynccontextmanager
async def serving(
    arguments: Sequence[str], log_level: str = "warning", *, command: str = "serve", apart: bool = False
) -> AsyncIterator[Server]:
    """A server on a free port, stopped at the end; ``SystemExit`` with its words where it does not start.

    Args:
        arguments: of the command. log_level: of its log. command: or ``relay``, which has no places.
        apart: whether Ctrl-C reaches only who started it.
    """
    words = ["-m", "streamer.cli.main", command, "--port", "0", "--log-level", log_level]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=apart,
    )
    assert child.stdout and child.stderr
    said: list[str] = []
    server: Server | None = None

    async def read_log(stream: asyncio.StreamReader) -> None:
        async for line in stream:
            text = line.decode()
            if server and (found := _COMPUTE.search(text)):
                server.compute_ms.append(float(found[1]))
            elif not server:
                said.append(text)

    try:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read_log(child.stderr))
            line = (await child.stdout.readline()).decode()
            found = _ADDRESS.search(line)
            if not found:
                await reading
                raise SystemExit("".join(said) or "The server did not start.")
            url = f"ws://{found[1]}:{found[2]}/v1/streams/"
            server = Server(url, psutil.Process(child.pid), int(found[3] or 0))
            yield server
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                child.send_signal(signal.SIGINT)
            await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@contextlib.asynccontextmanager
async def opened(url: str, hello: wire.Hello) -> AsyncIterator[tuple[ClientConnection, wire.Welcome]]:
    """A bare connection, which costs a load generator less than the client does."""
    async with connect(
        url, subprotocols=[Subprotocol(wire.SUBPROTOCOL)], compression=None, max_size=None, ping_interval=None
    ) as socket:
        await socket.send(wire.encode_message(hello))
        answer = wire.decode_server_message(await socket.recv())
        if not isinstance(answer, wire.Welcome):
            raise Refused(f"The server refused a stream: {answer}")
        yield socket, answer


def sample(start_s: float, seconds: float) -> tuple[npt.NDArray[np.int16], int]:
    """So much of the sample from there on, repeated, and its rate."""
    speech, rate = soundfile.read(SPEECH, dtype="int16")
    first, total = int(start_s * rate), int(seconds * rate)
    return np.resize(np.roll(speech, -first), total), rate


@dataclass
class Heard:
    """What one speaker got back.

    Attributes:
        frame: each frame's number. latency_s: its latency. frames: how many the server says there were.
    """

    frame: list[int] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    frames: int = -1

    @property
    def is_whole(self) -> bool:
        """Whether every frame came, once and in order."""
        return self.frame == list(range(self.frames))


async def speak(url: str, begin: float, offset_s: float, seconds: float) -> Heard:
    """Speaks at real-time pace from the instant ``begin`` on, and listens until the stream has ended."""
    pcm, rate = sample(offset_s, seconds)
    hello = wire.Hello(1, "converse", audio=wire.AudioFormat("s16", rate, 1))
    chunk = int(CHUNK_S * rate)
    heard = Heard()
    async with opened(url, hello) as (socket, welcome), asyncio.TaskGroup() as tasks:

        async def send() -> None:
            for index in range(len(pcm) // chunk):
                # A microphone hands over a chunk when its last sample exists.
                await asyncio.sleep(begin + (index + 1) * CHUNK_S - time.monotonic())
                await socket.send(wire.encode_audio(pcm[index * chunk : (index + 1) * chunk], "s16"))
            await socket.send(wire.encode_message(wire.End()))

        tasks.create_task(send())
        async for message in socket:
            if isinstance(message, bytes):
                now = time.monotonic()
                block = wire.decode_frames(message)
                for number in range(block.first_frame, block.first_frame + len(block.values)):
                    exists = begin + number / welcome.frame_rate_hz + welcome.lookahead_ms / 1000
                    heard.frame.append(number)
                    heard.latency_s.append(now - exists)
            elif isinstance(event := wire.decode_server_message(message), wire.Ended):
                heard.frames = event.frames
    return heard


async def generator(*arguments: str) -> bytes:
    """Runs a load generator as a process of its own and returns what it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout
    try:
        printed = await child.stdout.read()
        code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if code:
        raise SystemExit(f"The load generator ended with {code}.")
    return printed
