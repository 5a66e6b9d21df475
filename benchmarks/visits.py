"""Speakers who come and go, for ``benchmarks.soak``: every frame is checked to the sample, and timed.

Each speaker has a place, and a watcher. A third of the places are *steady*: one speaker from the beginning to
the end, in one epoch, whose clocks have all that time to drift apart. The others stay from 15 to 60 seconds,
interrupt themselves, change their style, and leave, one in four without a word; somebody else takes the place
a little later. Sound comes at 16, 44.1 and 48 kHz in turn. ``benchmarks.clocks`` says what is checked.

``python -m benchmarks.visits URL SPEAKERS SECONDS EVERY`` prints a line of JSON every so many seconds, and
one when the last speaker has left. It stops early when its standard input is closed, so that it does not
outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import soxr
import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from benchmarks.clocks import Counted, Listener, Spoken
from benchmarks.load import CHUNK_S, Refused, opened, sample
from benchmarks.provenance import percentiles
from streamer.contract import wire

RATES_HZ = (16_000, 44_100, 48_000)
_SHORTEST_S, _LONGEST_S = 15.0, 60.0
_PAUSE_S = (0.5, 3.0)  # until somebody else takes a place
_EACH_S = 20.0  # between two interrupts, and between two changes of style, of one speaker
_TENTH = 5  # chunks; speakers stop at whole tenths of a second

Pcm = npt.NDArray[np.int16]


@dataclass
class Tally(Counted):
    """Of all visits; the last two are of the time since the last report.

    Attributes:
        visits: speakers who came. ended: who left. open: connections now.
        failed: connections that were refused or broke, and why the last one did.
        latency_ms: of each frame at its speaker. chunk_late_ms: the most that a chunk left late, which is
            this process's own hurry.
    """

    visits: int = 0
    ended: int = 0
    interrupts: int = 0
    styles: int = 0
    open: int = 0
    failed: int = 0
    why: str = ""
    latency_ms: list[float] = field(default_factory=list)
    chunk_late_ms: float = 0.0

    def fail(self, error: BaseException) -> None:
        """A connection was refused, or broke."""
        self.failed += 1
        self.why = str(error)[:200] or type(error).__name__

    def report(self, listeners: set[Listener]) -> str:
        """The tally as a line of JSON, with the longest lag; what is of the time since begins anew."""
        lags = [one.lag_samples for one in listeners if one.lag_samples is not None]
        for one in listeners:
            one.lag_samples = None
        timed = percentiles(self.latency_ms) if self.latency_ms else None
        line = asdict(self) | {"latency_ms": timed, "lag_samples": round(max(lags)) if lags else None}
        self.latency_ms, self.chunk_late_ms = [], 0.0
        return json.dumps(line)


class Crowd:
    """Everybody who speaks and watches.

    Args:
        url: of the server's streams. speakers: places to fill.
    """

    def __init__(self, url: str, speakers: int) -> None:
        self._url = url
        self._speakers = speakers
        self._stop = asyncio.Event()
        self._tally = Tally()
        self._listeners: set[Listener] = set()
        self._sounds = [(sound(rate), rate) for rate in RATES_HZ]

    async def run(self, seconds: float, every_s: float) -> None:
        """Speaks so long, or until standard input is closed, and reports."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        closed = asyncio.create_task(reader.read())
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for place in range(self._speakers):
                tasks.create_task(self._fill(place))
            while not closed.done() and (left_s := until - time.monotonic()) > 0:
                await asyncio.wait({closed}, timeout=min(every_s, left_s))
                print(self._tally.report(self._listeners), flush=True)
            self._stop.set()
        closed.cancel()
        print(self._tally.report(self._listeners), flush=True)

    # ---- a place, and the speakers who fill it ----

    async def _fill(self, place: int) -> None:
        dice = random.Random(place)
        visit = 0
        while not self._stop.is_set():
            pcm, rate = self._sounds[(place // 3 + visit) % len(RATES_HZ)]
            stays_s = float("inf") if place % 3 == 0 else dice.uniform(_SHORTEST_S, _LONGEST_S)
            try:
                await self._visit(f"{self._url}soak-{place}-{visit}", pcm, rate, stays_s, dice)
            except* (Refused, OSError, ConnectionClosed) as errors:
                self._tally.fail(errors.exceptions[0])
            visit += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(dice.uniform(*_PAUSE_S)):
                    await self._stop.wait()

    async def _visit(self, url: str, pcm: Pcm, rate: int, stays_s: float, dice: random.Random) -> None:
        """One speaker and its watcher, from the hello until the stream has ended."""
        spoken = Spoken(rate)
        hello = wire.Hello(1, "converse", audio=wire.AudioFormat("s16", rate, 1), seed=dice.getrandbits(31))
        async with opened(url, hello) as (socket, welcome), asyncio.TaskGroup() as tasks:
            self._tally.visits += 1
            await asyncio.sleep(dice.uniform(0, welcome.hop_ms / 1000))  # everybody at their own place of it
            spoken.begin_epoch(time.monotonic())
            tasks.create_task(self._speak(socket, welcome, spoken, pcm, stays_s, dice))
            tasks.create_task(self._watch(url, spoken))
            await self._listen(socket, welcome, spoken)
        self._tally.ended += 1

    async def _speak(
        self,
        socket: ClientConnection,
        welcome: wire.Welcome,
        spoken: Spoken,
        pcm: Pcm,
        stays_s: float,
        dice: random.Random,
    ) -> None:
        begin, chunk = spoken.begins_s[0], round(CHUNK_S * spoken.rate_hz)
        is_steady = stays_s == float("inf")
        interrupt_s = stays_s if is_steady else dice.expovariate(1 / _EACH_S)
        style_s = dice.expovariate(1 / _EACH_S)
        offset = dice.randrange(len(pcm) // chunk)
        said = index = 0  # chunks of the epoch, and of all
        while said % _TENTH or not (self._stop.is_set() or index * CHUNK_S > stays_s):
            # A microphone hands over a chunk when its last sample exists.
            exists = begin + (index + 1) * CHUNK_S
            await asyncio.sleep(exists - time.monotonic())
            late_ms = 1000 * (time.monotonic() - exists)
            self._tally.chunk_late_ms = max(self._tally.chunk_late_ms, round(late_ms, 1))
            place = (offset + index) % (len(pcm) // chunk) * chunk
            spoken.samples[-1] += chunk
            await socket.send(wire.encode_audio(pcm[place : place + chunk], "s16"))
            said, index = said + 1, index + 1
            if index * CHUNK_S > interrupt_s:
                interrupt_s += dice.expovariate(1 / _EACH_S)
                spoken.begin_epoch(begin + index * CHUNK_S)
                said = 0
                self._tally.interrupts += 1
                await socket.send(wire.encode_message(wire.Interrupt()))
            if index * CHUNK_S > style_s:
                style_s += dice.expovariate(1 / _EACH_S)
                self._tally.styles += 1
                await socket.send(wire.encode_message(wire.SetStyle(style(welcome, dice))))
        spoken.is_over = True
        if not is_steady and dice.random() < 0.25:
            await socket.close()  # as a page that is closed; its watcher sees the stream end
        else:
            await socket.send(wire.encode_message(wire.End()))

    # ---- listening ----

    async def _watch(self, url: str, spoken: Spoken) -> None:
        try:
            async with opened(url, wire.Hello(1, "watch")) as (socket, welcome):
                await self._listen(socket, welcome, spoken)
        except (Refused, OSError, ConnectionClosed) as error:
            self._tally.fail(error)

    async def _listen(self, socket: ClientConnection, welcome: wire.Welcome, spoken: Spoken) -> None:
        listener = Listener(welcome, spoken, self._tally)
        self._listeners.add(listener)
        self._tally.open += 1
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    block = wire.decode_frames(message)
                    listener.frames(block)
                    if welcome.role == "converse" and not block.flags & wire.FLAG_EASED:
                        self._time(block, welcome, spoken)
                    continue
                match wire.decode_server_message(message):
                    case wire.Interrupted() as event:
                        listener.interrupted(event)
                    case wire.Ended() as event:
                        listener.ended(event)
        finally:
            self._listeners.discard(listener)
            self._tally.open -= 1

    def _time(self, block: wire.Frames, welcome: wire.Welcome, spoken: Spoken) -> None:
        if spoken.is_over:
            return  # the tail's frames need not wait for anything
        late_s = time.monotonic() - spoken.begins_s[block.epoch] - welcome.lookahead_ms / 1000
        for number in range(block.first_frame, block.first_frame + len(block.values)):
            self._tally.latency_ms.append(1000 * (late_s - number / welcome.frame_rate_hz))


def sound(rate_hz: int) -> Pcm:
    """The sample at a rate, whole chunks of it, int16 (n,)."""
    pcm, rate = sample(0.0, 4.8)
    heard = soxr.resample(pcm.astype(np.float32), rate, rate_hz)
    chunk = round(CHUNK_S * rate_hz)
    whole: Pcm = np.clip(np.rint(heard[: len(heard) // chunk * chunk]), -32768, 32767).astype(np.int16)
    return whole


def style(welcome: wire.Welcome, dice: random.Random) -> dict[str, float]:
    """Some style, with some scales."""
    chosen = {dice.choice(welcome.styles): 1.0} if welcome.styles else {}
    return chosen | {name: round(dice.uniform(0.7, 1.3), 2) for name in welcome.style_scales}


if __name__ == "__main__":
    _url, _speakers, _seconds, _every = sys.argv[1:]
    uvloop.run(Crowd(_url, int(_speakers)).run(float(_seconds), float(_every)))
