"""``python -m benchmarks.fanout``: one speaker, hundreds of watchers.

One speaker talks at real-time pace while ``--watchers`` connections watch it, all in a load generator of
their own. A block's *lag* runs from its leaving the crossfader (the server's emit time) to its arrival at a
watcher; what waits for the generator's own loop counts as well. Beside it stands the speaker's own latency,
with the watchers and, before they came, without. Dropped frames are gaps in what a watcher received.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from tqdm import tqdm

from benchmarks.load import Heard, generator, opened, serving, speak
from benchmarks.provenance import percentiles, provenance, write
from streamer.contract import wire

SETTLE_S = 3.0
AT_ONCE = 50  # watchers that connect side by side


@dataclass
class Watched:
    """What one watcher got: each block's lag in seconds, and how many frames were missing between blocks."""

    lag_s: list[float] = field(default_factory=list)
    frames: int = 0
    missing: int = 0


async def watch(url: str, door: asyncio.Semaphore, joined: list[float]) -> Watched:
    """Watches until the stream has ended."""
    watched, following = Watched(), None
    async with contextlib.AsyncExitStack() as stack:
        async with door:
            socket, _ = await stack.enter_async_context(opened(url, wire.Hello(1, "watch")))
        joined.append(time.monotonic())
        async for message in socket:
            if not isinstance(message, bytes):
                continue
            now, block = time.monotonic(), wire.decode_frames(message)
            watched.lag_s.append(now - block.emit_time_s)
            watched.missing += 0 if following is None else block.first_frame - following
            following = block.first_frame + len(block.values)
            watched.frames += len(block.values)
    return watched


async def generate(url: str, watchers: int, seconds: float) -> None:
    """Speaks alone, then before so many watchers; prints what both saw as JSON."""
    alone = await speak(url + "alone", time.monotonic() + 0.5, 0.0, max(2.0, seconds / 2))
    joined: list[float] = []
    door = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        begin = time.monotonic() + 0.5
        speaker = tasks.create_task(speak(url + "crowd", begin, 0.0, seconds + SETTLE_S + watchers / 100))
        await asyncio.sleep(0.3)
        crowd = [tasks.create_task(watch(url + "crowd", door, joined)) for _ in range(watchers)]
    found = [task.result() for task in crowd]
    json.dump(
        {
            "alone_ms": latencies_ms(alone),
            "crowd_ms": latencies_ms(speaker.result()),
            "lag_ms": [[1000 * lag for lag in one.lag_s] for one in found],
            "frames": sum(one.frames for one in found),
            "missing": sum(one.missing for one in found),
            "joining_s": max(joined) - min(joined),
            "cpu_s": time.process_time(),
        },
        sys.stdout,
    )


def latencies_ms(heard: Heard) -> list[float]:
    """A speaker's latencies after the first second."""
    return [1000 * late for late in heard.latency_s[30:]]


def summary(found: dict[str, Any], settle_blocks: int) -> dict[str, Any]:
    """The figures of what the generator saw; a watcher's first blocks are left out."""
    lags = [watcher[settle_blocks:] for watcher in found["lag_ms"] if len(watcher) > settle_blocks]
    alone, crowd = percentiles(found["alone_ms"]), percentiles(found["crowd_ms"])
    return {
        "lag_ms": percentiles([lag for watcher in lags for lag in watcher]),
        "worst_watcher_p99_ms": max(percentiles(watcher)["p99"] for watcher in lags),
        "watchers": len(lags),
        "frames": found["frames"],
        "dropped_frames": found["missing"],
        "joins_per_s": round(len(found["lag_ms"]) / max(found["joining_s"], 1e-3), 1),
        "speaker_alone_ms": alone,
        "speaker_before_crowd_ms": crowd,
        "speaker_ratio_p50": round(crowd["p50"] / alone["p50"], 3),
        "speaker_ratio_p95": round(crowd["p95"] / alone["p95"], 3),
    }


def raise_file_limit(needed: int) -> None:
    """Lets this process and its children open so many files; ``SystemExit`` where the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(
            f"{needed} open files are needed, {hard} are allowed: raise `ulimit -Hn`, or fewer --watchers."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    arguments = ["--bundle", str(options.bundle)] if options.bundle else []
    async with serving(arguments) as server:
        before_mb, cpu_s, started = server.megabytes(), server.cpu_s(), time.monotonic()
        largest_mb = before_mb
        with tqdm(desc="watching", unit="s", disable=None) as bar:
            words = ["--generate", server.url, str(options.watchers), str(options.seconds)]
            task = asyncio.create_task(generator("benchmarks.fanout", *words))
            while not task.done():
                await asyncio.wait([task], timeout=1)
                largest_mb = max(largest_mb, server.megabytes())
                bar.update()
        found, took_s = json.loads(task.result()), time.monotonic() - started
        return {
            **summary(found, settle_blocks=int(15 * SETTLE_S)),
            "server_mb_before": round(before_mb, 1),
            "server_mb_most": round(largest_mb, 1),
            "server_cores": round((server.cpu_s() - cpu_s) / took_s, 3),
            "generator_cores": round(found["cpu_s"] / took_s, 3),
        }


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--generate"]:
        url, watchers, seconds = argv[1:]
        uvloop.run(generate(url, int(watchers), float(seconds)))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fanout",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--watchers", type=int, default=500, help="how many watch (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="how long they do (%(default)s)")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    raise_file_limit(options.watchers + 200)
    result = asyncio.run(measure(options))
    for name, value in result.items():
        print(f"{name.replace('_', ' '):26} {value}")
    config = {"watchers": options.watchers, "seconds": options.seconds}
    write(options.json, {**result, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
