"""``python -m benchmarks.outages``: what speakers notice when parts of a cluster die.

A Ray cluster of two nodes with a pool, two servers that ask it, a real nginx before them, and speakers in
real time who come back by themselves. One after the other, a replica is killed, a node is killed and
replaced, the pool grows and shrinks, and a server is killed. For each there stand

- for speakers whose server lives: frames that never came or came twice, and the longest silence between two
  blocks, beside the one just before the outage;
- for the others: how long from the last block of the old session to the first one of the new.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.cluster import joined, make_pool
from benchmarks.load import CHUNK_S, Refused, opened, sample, serving
from benchmarks.provenance import percentiles, provenance, write
from streamer.contract import wire
from tests.balancer import nginx
from tests.ray_cluster import RayCluster, ray_cluster

KNOCK_S = 0.1  # between two tries to come back
SETTLE_S = 5.0


@dataclass
class Block:
    """When a block came, of which session, its first frame and how many."""

    came: float
    session: str
    first: int
    frames: int


@dataclass
class Speaker:
    """One who speaks in real time for as long as it is let, and comes back when lost.

    Attributes:
        url: of its stream. blocks: all that came. lost: when connections were lost.
    """

    url: str
    blocks: list[Block] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)

    async def speak(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._session()
            except (OSError, EOFError, ConnectionClosed, InvalidHandshake, Refused):
                self.lost.append(time.monotonic())
                await asyncio.sleep(KNOCK_S)

    async def _session(self) -> None:
        pcm, rate = sample(0.0, 60.0)
        hello = wire.Hello(1, "converse", audio=wire.AudioFormat("s16", rate, 1))
        chunk = int(CHUNK_S * rate)
        async with opened(self.url, hello) as (socket, welcome):
            begin = time.monotonic()

            async def send() -> None:
                with contextlib.suppress(ConnectionClosed):
                    for number in itertools.count():
                        await asyncio.sleep(begin + (number + 1) * CHUNK_S - time.monotonic())
                        place = number * chunk % (len(pcm) - chunk)
                        await socket.send(wire.encode_audio(pcm[place : place + chunk], "s16"))

            sending = asyncio.create_task(send())
            try:
                async for message in socket:
                    if isinstance(message, bytes):
                        block = wire.decode_frames(message)
                        seen = Block(time.monotonic(), welcome.session, block.first_frame, len(block.values))
                        self.blocks.append(seen)
            finally:
                sending.cancel()
        raise EOFError  # closed: it wants to go on


def silence_ms(speaker: Speaker, since: float, until: float) -> float:
    """The longest time between two blocks."""
    times = [block.came for block in speaker.blocks if since <= block.came <= until]
    return 1000 * max((b - a for a, b in itertools.pairwise([since, *times, until])), default=0.0)


def wrong_frames(speaker: Speaker, since: float, until: float) -> int:
    """Frames that did not follow each other within a session."""
    seen = [block for block in speaker.blocks if since <= block.came <= until]
    return sum(
        abs(b.first - a.first - a.frames) for a, b in itertools.pairwise(seen) if a.session == b.session
    )


def row(what: str, speakers: Sequence[Speaker], at: float, seconds: float) -> dict[str, Any]:
    """What they noticed of an outage at an instant, in the seconds after it."""
    until = at + seconds
    moved = [one for one in speakers if any(at <= lost <= until for lost in one.lost)]
    stayed = [one for one in speakers if one not in moved]
    back_s = []
    for one in moved:
        before = max(block.came for block in one.blocks if block.came <= at + KNOCK_S)
        session = next(block.session for block in one.blocks if block.came == before)
        after = [block.came for block in one.blocks if block.came > at and block.session != session]
        back_s.append(min(after, default=float("inf")) - before)
    return {
        "outage": what,
        "stayed": len(stayed),
        "wrong_frames": sum(wrong_frames(one, at - SETTLE_S, until) for one in stayed),
        "silence_before_ms": round(
            max((silence_ms(one, at - SETTLE_S, at) for one in stayed), default=0.0), 1
        ),
        "silence_ms": round(max((silence_ms(one, at, until) for one in stayed), default=0.0), 1),
        "moved": len(moved),
        "back_s": percentiles(back_s) | {"most": round(max(back_s), 2)} if back_s else None,
    }


async def measure(options: argparse.Namespace, cluster: RayCluster, folder: Path) -> list[dict[str, Any]]:
    """All outages, one after the other."""
    arguments = ["--engine", "ray://auto", "--max-sessions", str(options.streams)]
    arguments += ["--late-windows", "each"]
    arguments += ["--bundle", str(options.bundle)] if options.bundle else []

    async def resized() -> None:
        for replicas in (2 * options.replicas, 1, options.replicas):
            await make_pool(argparse.Namespace(**vars(options) | {"replicas": replicas}))

    def ordered(line: str) -> Callable[[], Awaitable[object]]:
        return lambda: asyncio.to_thread(cluster.order, line)

    async with serving(arguments, apart=True) as one, serving(arguments, apart=True) as two:

        async def killed() -> None:
            os.kill(one.process.pid, signal.SIGKILL)

        pages = [server.url.replace("ws", "http", 1).removesuffix("v1/streams/") for server in (one, two)]
        outages: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("a replica is killed", ordered("kill replica")),
            ("a node is killed", ordered("kill node")),
            ("a node comes", ordered("add node")),
            (f"the pool grows to {2 * options.replicas}, shrinks to 1, and is what it was", resized),
            ("a server is killed", killed),
        ]
        found = []
        with nginx(folder, pages) as front:
            speakers = [Speaker(f"{front}s{number}") for number in range(options.streams)]
            tasks = []
            for speaker in speakers:
                await asyncio.sleep(random.Random(speaker.url).random() / 15)
                tasks.append(asyncio.create_task(speaker.speak()))
            for what, happens in tqdm(outages, desc="outages", unit="outage", disable=None):
                await asyncio.sleep(SETTLE_S + 1)
                at = time.monotonic()
                await happens()
                await asyncio.sleep(options.seconds)
                found.append(row(what, speakers, at, time.monotonic() - at))
                tqdm.write(str(found[-1]), file=sys.stderr)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=6, help="speakers (%(default)s)")
    parser.add_argument("--replicas", type=int, default=2, help="of the pool (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="after each outage (%(default)s)")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)

    async def whole() -> list[dict[str, Any]]:
        with ray_cluster() as cluster, joined(cluster), tempfile.TemporaryDirectory() as folder:
            await make_pool(options)
            return await measure(options, cluster, Path(folder))

    found = asyncio.run(whole())
    config = {"streams": options.streams, "replicas": options.replicas, "seconds": options.seconds}
    write(options.json, {"rows": found, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
