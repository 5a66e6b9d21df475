"""``python -m benchmarks.capacity``: how many live speakers one server holds.

Starts ``diffspeaker serve``, lets more and more speakers talk at real-time pace over real sockets, each
with its own place in the sample and its own phase within the hop, and times every frame
(``benchmarks.load`` says from where to where). A level is passed when the 99th percentile of the frames'
latency is within the deadline, a hop and 50 ms, and no frame was lost; the load generator shares the
machine and is counted. The first seconds of a level are left out. With one speaker the server also logs how
long each window computed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from tqdm import tqdm

from benchmarks.load import Heard, Server, generator, serving, speak
from benchmarks.provenance import percentiles, provenance, write
from streamer.engine.bundle import Bundle

LEVELS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64)
SETTLE_S = 3.0
ALLOWANCE_MS = 50.0
AIMS = {"streams": 16, "compute_p99_ms": 25.0, "end_to_end_p95_ms": 150.0}


# ---- the generator's process -----------------------------------------------------------------------------


async def generate(url: str, streams: int, seconds: float) -> None:
    """Speaks on so many streams at once; prints each stream's frames as JSON."""
    dice = random.Random(streams)
    begin = time.monotonic() + 0.5 + 0.01 * streams  # until all are connected
    async with asyncio.TaskGroup() as tasks:
        speakers = [
            tasks.create_task(
                speak(f"{url}{number}", begin + dice.uniform(0, 1 / 15), dice.uniform(0, 4), seconds)
            )
            for number in range(streams)
        ]
    heard = [speaker.result() for speaker in speakers]
    found = {
        "latency_ms": settled_ms(heard),
        "whole": all(one.is_whole for one in heard),
        "cpu_s": time.process_time(),
    }
    json.dump(found, sys.stdout)


def settled_ms(heard: Sequence[Heard], fps: int = 30) -> list[float]:
    """The latencies of the frames after the first seconds."""
    return [
        1000 * late
        for one in heard
        for number, late in zip(one.frame, one.latency_s, strict=True)
        if number >= SETTLE_S * fps
    ]


# ---- the benchmark ---------------------------------------------------------------------------------------


async def level(server: Server, streams: int, seconds: float) -> dict[str, Any]:
    """One level's row, without its verdict."""
    cpu_s, started = server.cpu_s(), time.monotonic()
    printed = await generator(
        "benchmarks.capacity", "--generate", server.url, str(streams), str(seconds + SETTLE_S)
    )
    took_s = time.monotonic() - started
    found = json.loads(printed)
    return {
        "streams": streams,
        **{f"{name}_ms": value for name, value in percentiles(found["latency_ms"]).items()},
        "frames": len(found["latency_ms"]),
        "every_frame_came": found["whole"],
        "server_cores": round((server.cpu_s() - cpu_s) / took_s, 3),
        "generator_cores": round(found["cpu_s"] / took_s, 3),
    }


def passed(row: dict[str, Any], deadline_ms: float) -> bool:
    """Whether a level is passed."""
    return bool(row["p99_ms"] <= deadline_ms and row["every_frame_came"])


async def measure(options: argparse.Namespace, hop_ms: float, lookahead_ms: float) -> dict[str, Any]:
    """All levels, until one is failed."""
    deadline_ms = hop_ms + ALLOWANCE_MS
    levels = [int(n) for n in options.streams.split(",")] if options.streams else list(LEVELS)
    arguments = ["--max-sessions", str(max(levels)), *options.serve]
    rows, single = [], {}
    if 1 in levels:
        async with serving(arguments, "debug") as server:
            row = await level(server, 1, options.seconds)
            compute = percentiles(server.compute_ms[int(15 * SETTLE_S) :])
            single = {
                "compute_p50_ms": compute["p50"],
                "compute_p99_ms": compute["p99"],
                "end_to_end_p95_ms": round(row["p95_ms"] + lookahead_ms, 2),
            }
    async with serving(arguments) as server:
        for streams in tqdm(levels, desc="levels", unit="level", disable=None):
            row = await level(server, streams, options.seconds) | {"deadline_ms": round(deadline_ms, 1)}
            rows.append(row)
            tqdm.write(_line(row), file=sys.stderr)
            if not passed(row, deadline_ms) and not options.all:
                break
    best = max((row["streams"] for row in rows if passed(row, deadline_ms)), default=0)
    return {"streams": best, "deadline_ms": round(deadline_ms, 1), "single": single, "rows": rows}


def _line(row: dict[str, Any]) -> str:
    times = "  ".join(f"{name} {row[f'{name}_ms']:6.1f}" for name in ("p50", "p95", "p99"))
    cores = f"server {row['server_cores']:.2f} cores, generator {row['generator_cores']:.2f}"
    lost = "" if row["every_frame_came"] else ", FRAMES LOST"
    return f"{row['streams']:3} streams: {times} ms, {cores}{lost}"


def verdicts(result: dict[str, Any]) -> list[str]:
    """The aims, each with what was reached."""
    found = {"streams": result["streams"], **result["single"]}
    lines = []
    for name, aim in AIMS.items():
        if name in found:
            more_is_better = name == "streams"
            met = found[name] >= aim if more_is_better else found[name] <= aim
            words = f"aim {'≥' if more_is_better else '≤'} {aim:g}: {'yes' if met else 'no'}"
            lines.append(f"{name.replace('_', ' '):20} {found[name]:8g}  {words}")
    return lines


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--generate"]:
        url, streams, seconds = argv[1:]
        uvloop.run(generate(url, int(streams), float(seconds)))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=20, help="of each level (%(default)s)")
    parser.add_argument("--streams", help=f"the levels, with commas ({','.join(map(str, LEVELS))})")
    parser.add_argument("--all", action="store_true", help="go on after a level that is failed")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument(
        "--serve", default="", metavar="WORDS", help='options of `diffspeaker serve`: --serve="--threads 2"'
    )
    options = parser.parse_args(argv)
    bundle = Bundle.load(options.bundle)
    options.serve = shlex.split(options.serve)
    if options.bundle:
        options.serve += ["--bundle", str(options.bundle)]
    timing = bundle.manifest.timing
    hop_ms = timing.grid().hop_ms(timing.hop.default_frames)
    lookahead_ms = timing.grid().lookahead_ms(timing.lookahead.default_frames)
    result = asyncio.run(measure(options, hop_ms, lookahead_ms))
    print("\n".join(verdicts(result)))
    config = {
        "seconds": options.seconds,
        "hop_ms": round(hop_ms, 2),
        "lookahead_ms": round(lookahead_ms, 2),
        "serve": options.serve,
        "bundle": f"{bundle.manifest.name} {bundle.manifest.version}",
    }
    write(options.json, {**result, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
