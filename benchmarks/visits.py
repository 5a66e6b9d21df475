"""Speakers who come and go, for ``benchmarks.soak``: each visit is checked to the sample, and timed.

A visit is a stream of its own with a speaker in real time and a watcher, and lasts from 15 to 60 seconds.
Some visits are interrupted once, some change their style. Of each epoch every frame must come once and in
order, to both; at the end the server must have heard as many samples as were sent, and have made as many
frames as they are long. What differs is the drift between the audio's clock and the frames'.

``python -m benchmarks.visits URL SPEAKERS BEGIN SECONDS EVERY`` prints a line of JSON every so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soxr
import uvloop
from websockets.asyncio.client import ClientConnection

from benchmarks.load import CHUNK_S, opened, sample
from benchmarks.provenance import percentiles
from streamer.contract import wire

RATE_HZ, FPS = 16_000, 30
_SHORTEST_S, _LONGEST_S, _PAUSE_S = 15.0, 60.0, 0.5


@dataclass
class Account:
    """What a speaker or a watcher received, checked as it comes.

    Attributes:
        next_frame: by epoch, the number that must come next. lost: frames that did not come in their turn.
    """

    next_frame: dict[int, int] = field(default_factory=dict)
    lost: int = 0

    def add(self, block: wire.Frames) -> None:
        """Takes a block; one that is not the next one is counted as lost, by as many frames as it is off."""
        due = self.next_frame.get(block.epoch)
        if due is not None or block.epoch == 0:
            self.lost += abs(block.first_frame - (due or 0))
        self.next_frame[block.epoch] = block.first_frame + len(block.values)


def drift_samples(sent: int, ended: wire.Ended) -> int:
    """How far the server's clocks are from the audio: samples that it did not hear, or frames' worth of them.

    Args:
        sent: samples of the last epoch, at the model's rate. ended: what the server said of it.
    """
    heard = round(ended.audio_s * RATE_HZ)
    frames = -(-sent * FPS // RATE_HZ)  # frame i is there as soon as a sample of it is
    return abs(heard - sent) + abs(ended.frames - frames) * RATE_HZ // FPS


@dataclass
class Tally:
    """Of all visits, and of the time since the last report."""

    visits: int = 0
    interrupts: int = 0
    frames: int = 0
    lost: int = 0
    drift: int = 0
    open: int = 0
    latency_ms: list[float] = field(default_factory=list)

    def report(self) -> str:
        """The tally as a line of JSON; the latencies begin anew."""
        timed = percentiles(self.latency_ms) if self.latency_ms else None
        self.latency_ms = []
        names = ("visits", "interrupts", "frames", "lost", "drift", "open")
        return json.dumps({name: getattr(self, name) for name in names} | {"latency_ms": timed})


class Visit:
    """One stream, from its opening to its end.

    Args:
        url: of the stream. seconds: how long is spoken. dice: for what happens in it. tally: where it counts.
    """

    def __init__(self, url: str, seconds: float, dice: random.Random, tally: Tally) -> None:
        self._url, self._dice, self._tally = url, dice, tally
        self._chunks = int(seconds / CHUNK_S)
        self._own, self._watched = Account(), Account()
        self._sent = 0  # samples of the present epoch
        self._begin = 0.0  # when the first sample of the present epoch existed
        self._epoch = 0
        self._lookahead_s = 0.0

    async def run(self) -> None:
        """Speaks, watches, and counts."""
        hello = wire.Hello(
            1, "converse", audio=wire.AudioFormat("s16", RATE_HZ, 1), seed=self._dice.getrandbits(31)
        )
        async with opened(self._url, hello) as (socket, welcome):
            self._lookahead_s = welcome.lookahead_ms / 1000
            self._tally.open += 1
            try:
                async with (
                    opened(self._url, wire.Hello(1, "watch")) as (watching, _),
                    asyncio.TaskGroup() as tasks,
                ):
                    tasks.create_task(self._speak(socket))
                    tasks.create_task(self._watch(watching))
                    ended = await self._listen(socket)
            finally:
                self._tally.open -= 1
        self._tally.visits += 1
        self._tally.lost += self._own.lost + self._watched.lost
        self._tally.lost += abs(self._own.next_frame.get(self._epoch, 0) - ended.frames)
        self._tally.lost += abs(self._watched.next_frame.get(self._epoch, 0) - ended.frames)
        self._tally.drift += drift_samples(self._sent, ended)

    async def _speak(self, socket: ClientConnection) -> None:
        pcm = speech()
        size = int(CHUNK_S * RATE_HZ)
        interrupted = self._dice.randrange(self._chunks) if self._dice.random() < 0.3 else -1
        restyled = self._dice.randrange(self._chunks) if self._dice.random() < 0.3 else -1
        start = self._begin = time.monotonic()
        offset = self._dice.randrange(len(pcm) - size)
        for number in range(self._chunks):
            await asyncio.sleep(start + (number + 1) * CHUNK_S - time.monotonic())
            if number == interrupted:
                await socket.send(wire.encode_message(wire.Interrupt()))
                self._tally.interrupts += 1
                self._epoch, self._sent, self._begin = 1, 0, start + number * CHUNK_S
            if number == restyled:
                await socket.send(wire.encode_message(wire.SetStyle({"neutral": 1.0})))
            place = (offset + number * size) % (len(pcm) - size)
            await socket.send(wire.encode_audio(pcm[place : place + size], "s16"))
            self._sent += size
        await socket.send(wire.encode_message(wire.End()))

    async def _listen(self, socket: ClientConnection) -> wire.Ended:
        ended: wire.Ended | None = None
        async for event in _events(socket):
            if isinstance(event, wire.Frames):
                self._own.add(event)
                self._time(event)
            elif isinstance(event, wire.Ended):
                ended = event
        assert ended is not None, "the server closed without an end"
        return ended

    async def _watch(self, socket: ClientConnection) -> None:
        async for event in _events(socket):
            if isinstance(event, wire.Frames):
                if not self._watched.next_frame:
                    self._watched.next_frame[event.epoch] = event.first_frame
                self._watched.add(event)

    def _time(self, block: wire.Frames) -> None:
        now = time.monotonic()
        self._tally.frames += len(block.values)
        if block.epoch == self._epoch and not block.flags & wire.FLAG_EASED:
            for number in range(block.first_frame, block.first_frame + len(block.values)):
                exists = self._begin + number / FPS + self._lookahead_s
                self._tally.latency_ms.append(1000 * (now - exists))


_speech: list[npt.NDArray[np.int16]] = []


def speech() -> npt.NDArray[np.int16]:
    """The sample at the model's rate, read once."""
    if not _speech:
        pcm, rate = sample(0, 20.0)
        _speech.append(soxr.resample(pcm, rate, RATE_HZ).astype(np.int16))
    return _speech[0]


async def _events(socket: ClientConnection) -> AsyncIterator[wire.Frames | wire.ServerMessage]:
    async for message in socket:
        yield (
            wire.decode_frames(message) if isinstance(message, bytes) else wire.decode_server_message(message)
        )


async def visit_for(url: str, speakers: int, begin: float, seconds: float, every_s: float) -> None:
    """Keeps so many speakers coming and going until the time is over, and reports."""
    tally, over = Tally(), begin + seconds

    async def come_and_go(number: int) -> None:
        dice = random.Random(number)
        await asyncio.sleep(begin + dice.uniform(0, 2) - time.monotonic())
        for count in range(sys.maxsize):
            left = over - time.monotonic()
            if left < 2:
                return
            lasts = min(left, dice.uniform(_SHORTEST_S, _LONGEST_S))
            await Visit(f"{url}soak-{number}-{count}", lasts, dice, tally).run()
            await asyncio.sleep(_PAUSE_S * dice.random())

    async def report() -> None:
        while True:
            await asyncio.sleep(every_s)
            print(tally.report(), flush=True)

    async with asyncio.TaskGroup() as tasks:
        reporting = tasks.create_task(report())
        await asyncio.gather(*(come_and_go(number) for number in range(speakers)))
        reporting.cancel()
    print(tally.report(), flush=True)


if __name__ == "__main__":
    _url, _speakers, *_numbers = sys.argv[1:]
    uvloop.run(visit_for(_url, int(_speakers), *map(float, _numbers)))
