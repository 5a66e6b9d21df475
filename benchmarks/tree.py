"""``python -m benchmarks.tree``: one speaker, thousands of watchers behind relays.

A server, relays that stack or stand side by side, and one load generator, each a process of its own. A
block's *lag* runs from its leaving the crossfader (the server's emit time) to its arrival at a watcher.
What a hop adds is the 95th percentile of the watchers behind a relay minus that of those before it.

Most watchers are *sinks*: real connections that are welcomed and kept, whose bytes are taken in bulk, a
while after they have come, because a generator that woke for each message would be what is measured. A
sample of them, spread evenly over the order of coming, notes the instant of every block. Lost frames are
counted by the relays themselves, and as gaps in what the sample got; a sink that got fewer bytes than
blocks were sent counts as well.

*Bare* is the floor under all of this: one core that writes a block to each of many sockets and does nothing
else.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import uvloop
from tqdm import tqdm
from websockets.frames import Frame, Opcode

from benchmarks.fanout import raise_file_limit
from benchmarks.load import Server, generator, serving, speak
from benchmarks.provenance import percentiles, provenance, write
from streamer.contract import wire

SETTLE_S, SPOKEN_S = 3.0, 900.0
BARE_ROUNDS, BARE_SOCKETS, BLOCK_BYTES = 30, 4000, 320
AT_ONCE = 64  # watchers that connect side by side, at each place
DRAINED_EVERY_S, TICK_S = 2.0, 0.02
DIRECT = 40  # watchers of the server itself, the measure of every hop
_LENGTHS = {126: struct.Struct(">H"), 127: struct.Struct(">Q")}


@dataclass
class Watcher(asyncio.Protocol):
    """One connection; a sampled one is the protocol of its transport, and notes when bytes came.

    Attributes:
        link: its socket. bytes: received. came: what a sampled one got, and when.
    """

    link: socket.socket
    bytes: int = 0
    came: list[tuple[float, bytes]] = field(default_factory=list)

    def data_received(self, data: bytes) -> None:  # noqa: D102 - asyncio's
        self.came.append((time.monotonic(), data))
        self.bytes += len(data)

    def drain(self) -> None:
        """Takes what has come."""
        with contextlib.suppress(BlockingIOError):
            while taken := self.link.recv(1 << 16):
                self.bytes += len(taken)
                if len(taken) < 1 << 16:
                    break


async def join(url: str, door: asyncio.Semaphore) -> Watcher:
    """A welcomed watcher; ``SystemExit`` with the server's words where it is refused."""
    loop, place = asyncio.get_running_loop(), urlsplit(url)
    link = socket.socket()
    link.setblocking(False)
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\n\r\n"
    )
    hello = Frame(Opcode.TEXT, wire.encode_message(wire.Hello(1, "watch")).encode()).serialize(mask=True)
    async with door:
        await loop.sock_connect(link, (place.hostname, place.port))
        await loop.sock_sendall(link, request.encode() + hello)
        answer = b""
        while b'"welcome"' not in answer:
            more = await loop.sock_recv(link, 1 << 16)
            answer += more
            if not more or b'"error"' in answer:
                raise SystemExit(f"A watcher was refused: {answer[-300:].decode(errors='replace')}")
    return Watcher(link, came=[(time.monotonic(), answer.partition(b"\r\n\r\n")[2])])


def blocks(watcher: Watcher) -> Iterator[tuple[float, wire.Frames]]:
    """When each block had come whole, and the block."""
    ends = list(itertools.accumulate(len(data) for _, data in watcher.came))
    whole = b"".join(data for _, data in watcher.came)
    chunk, place = 0, 0
    while place + 2 <= len(whole):
        opcode, length, start = whole[place] & 15, whole[place + 1] & 127, place + 2
        if length in _LENGTHS:
            form = _LENGTHS[length]
            if start + form.size > len(whole):
                return
            (length,), start = form.unpack_from(whole, start), start + form.size
        place = start + length
        if place > len(whole):
            return
        while ends[chunk] < place:
            chunk += 1
        if opcode == Opcode.BINARY:
            yield watcher.came[chunk][0], wire.decode_frames(whole[start:place])


async def generate(plan: dict[str, Any]) -> dict[str, Any]:
    """Speaks and watches as planned; what each place's watchers saw."""
    loop = asyncio.get_running_loop()
    stream = plan["places"][0]["url"] + "crowd"
    speaker = loop.create_task(speak(stream, time.monotonic() + 0.5, 0.0, SPOKEN_S))
    await asyncio.sleep(1.0)
    began = time.monotonic()
    sinks: list[Watcher] = []

    async def fill(place: dict[str, Any]) -> list[Watcher]:
        door = asyncio.Semaphore(AT_ONCE)
        every = max(1, place["watchers"] // place["sampled"])
        sampled: list[Watcher] = []

        async def one(number: int) -> None:
            watcher = await join(place["url"] + "crowd", door)
            if number % every:
                sinks.append(watcher)
            else:
                await loop.create_connection(lambda: watcher, sock=watcher.link)
                sampled.append(watcher)

        async with asyncio.TaskGroup() as tasks:
            for number in range(place["watchers"]):
                tasks.create_task(one(number))
        return sampled

    async def drain() -> None:
        while True:
            share = max(1, int(len(sinks) * TICK_S / DRAINED_EVERY_S))
            for first in range(0, len(sinks), share):
                for sink in sinks[first : first + share]:
                    sink.drain()
                await asyncio.sleep(TICK_S)
            await asyncio.sleep(TICK_S)

    draining = loop.create_task(drain())
    sampled = await asyncio.gather(*(fill(place) for place in plan["places"]))
    joined_s = time.monotonic() - began
    await asyncio.sleep(SETTLE_S)
    measured_from = time.monotonic()
    before = [sink.bytes for sink in sinks]
    cpu_s = time.process_time()
    await asyncio.sleep(plan["seconds"])
    until, cores = time.monotonic(), (time.process_time() - cpu_s) / plan["seconds"]
    draining.cancel()
    speaker.cancel()

    seen = []
    for watchers in sampled:
        lags, missing, sizes = [], 0, 0
        for watcher in watchers:
            following = None
            for came, block in blocks(watcher):
                if not measured_from <= came <= until:
                    continue
                lags.append(1000 * (came - block.emit_time_s))
                missing += 0 if following is None else block.first_frame - following
                following = block.first_frame + len(block.values)
                sizes += block.values.nbytes
        seen.append({"lag_ms": percentiles(lags), "missing": missing, "bytes": sizes / max(1, len(watchers))})
    # A sink is drained every two seconds, so what it got may be less by as much.
    least = 0.98 * min(place["bytes"] for place in seen) * (1 - 2 * DRAINED_EVERY_S / plan["seconds"])
    hungry = sum(sink.bytes - was < least for sink, was in zip(sinks, before, strict=True))
    return {"places": seen, "joined_s": joined_s, "cores": cores, "hungry": hungry}


async def row(shape: str, watchers: int, options: argparse.Namespace) -> dict[str, Any]:
    """One tree: its relays in a chain or side by side, and so many watchers shared by them."""
    arguments = ["--bundle", str(options.bundle)] if options.bundle else []
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(["--max-sessions", "2", *arguments], apart=True))]
        for _ in range(options.relays):
            above = servers[-1] if shape == "chain" else servers[0]
            upstream = above.url.removesuffix("/v1/streams/")
            words = ["--upstream", upstream, *arguments]
            servers.append(await stack.enter_async_context(serving(words, command="relay", apart=True)))
        share = watchers // options.relays
        places = [{"url": servers[0].url, "watchers": DIRECT, "sampled": DIRECT}]
        places += [
            {"url": one.url, "watchers": share, "sampled": min(share, options.sampled)} for one in servers[1:]
        ]
        plan = {"places": places, "seconds": options.seconds}
        task = asyncio.create_task(generator("benchmarks.tree", "--generate", json.dumps(plan)))
        samples: list[list[float]] = []
        with tqdm(desc=f"{shape}, {watchers} watchers", unit="s", disable=None) as bar:
            while not task.done():
                samples.append([time.monotonic(), *(one.cpu_s() for one in servers)])
                most_mb = [one.megabytes() for one in servers]
                dropped = await asyncio.to_thread(lambda: sum(map(frames_dropped, servers)))
                await asyncio.wait([task], timeout=1)
                bar.update()
        found = json.loads(task.result())
    late = [one for one in samples if one[0] > samples[-1][0] - options.seconds]
    cores = [(b - a) / (late[-1][0] - late[0][0]) for a, b in zip(late[0][1:], late[-1][1:], strict=True)]
    lags = [place["lag_ms"] for place in found["places"]]
    if shape == "chain":
        hops = [below["p95"] - above["p95"] for above, below in itertools.pairwise(lags)]
    else:
        hops = [lag["p95"] - lags[0]["p95"] for lag in lags[1:]]
    return {
        "shape": shape,
        "relays": options.relays,
        "watchers": share * options.relays,
        "direct_lag_ms": lags[0],
        "relay_lag_ms": lags[1:],
        "added_p95_ms": [round(hop, 2) for hop in hops],
        "dropped_frames": int(dropped) + sum(place["missing"] for place in found["places"]),
        "hungry_sinks": found["hungry"],
        "joins_per_s": round(watchers / found["joined_s"], 1),
        "server_cores": round(cores[0], 3),
        "relay_cores": [round(one, 3) for one in cores[1:]],
        "generator_cores": round(found["cores"], 3),
        "relay_mb": round(max(most_mb[1:]), 1),
    }


def frames_dropped(server: Server) -> float:
    """As the server counts them."""
    with urlopen(server.url.replace("ws", "http", 1).replace("v1/streams/", "metrics"), timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("face_frames_dropped_total"))


def bare(watchers: int) -> dict[str, float]:
    """How long a block takes to be written to one of so many loopback sockets by nothing but that, in µs."""
    block, took = bytes(BLOCK_BYTES), []
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE) as door:
        links = []
        for _ in range(watchers):
            stack.enter_context(socket.create_connection(door.getsockname()))
            links.append(stack.enter_context(door.accept()[0]))
        for _ in range(BARE_ROUNDS):
            started = time.perf_counter()
            for link in links:
                link.send(block)
            took.append(1e6 * (time.perf_counter() - started) / watchers)
    return {"watchers": watchers, **percentiles(took)}


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--generate"]:
        json.dump(uvloop.run(generate(json.loads(argv[1]))), sys.stdout)
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tree",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--watchers",
        type=int,
        nargs="+",
        default=[300, 1000, 3000, 10000],
        help="how many watch, for each tree of relays that stand side by side (%(default)s)",
    )
    parser.add_argument("--chain", type=int, default=90, help="how many watch a chain of them (%(default)s)")
    parser.add_argument("--relays", type=int, default=3, help="how many relays (%(default)s)")
    parser.add_argument("--sampled", type=int, default=60, help="watchers timed at each relay (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="how long each is measured (%(default)s)")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    raise_file_limit(max(*options.watchers, options.chain) + 500)
    trees = [("chain", options.chain), *(("side by side", number) for number in options.watchers)]
    rows = []
    for shape, number in trees:
        rows.append(asyncio.run(row(shape, number, options)))
        print(json.dumps(rows[-1]))
    floor = bare(min(BARE_SOCKETS, *options.watchers))
    print(json.dumps(floor))
    config = {"sampled": options.sampled, "seconds": options.seconds}
    write(options.json, {"rows": rows, "bare_us": floor, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
