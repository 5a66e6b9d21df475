"""``python -m benchmarks.soak``: half an hour at 80 % of what the server holds; what grows, is a leak.

Starts ``diffspeaker serve`` with nothing said about its size and keeps 80 % of the places that it measured
for itself taken, by speakers in real time who come and go (``benchmarks.visits``). Every few seconds the
server's memory, file descriptors, threads and processor time are read, and the frames' latency since then.

The exit code is 0 where all of these hold:

- no frame was lost, and the audio's and the frames' clocks differ by 0 samples;
- memory does not grow: the slope after a warm-up (Theil-Sen, which a few outliers do not move) is not surely
  above 10 MB an hour: the lower end of its 95 % interval is below;
- threads and file descriptors are no more in the last third than in the first, by the median.

Ctrl-C ends it early and still says, and writes, what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy.stats import theilslopes
from tqdm import tqdm

from benchmarks.load import Server, serving
from benchmarks.provenance import provenance, write

SHARE = 0.8
MOST_MB_PER_HOUR = 10.0
WARM_UP = 0.2  # of the time, and five minutes at most
_LONGEST_WARM_UP_S = 300.0
_SPARE = 2  # threads and descriptors, for what happens to be open when they are counted

Row = dict[str, Any]


async def measure(
    minutes: float, share: float, every_s: float, serve: list[str], stop: asyncio.Event
) -> dict[str, Any]:
    """The whole run: a row for every few seconds, and the last tally."""
    seconds = 60 * minutes
    async with serving(serve) as server:
        speakers = max(1, int(share * server.places))
        begin = time.monotonic() + 2
        words = ("benchmarks.visits", server.url, str(speakers), str(begin), str(seconds), str(every_s))
        visitors = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *words, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        assert visitors.stdout
        rows: list[Row] = []
        tally: dict[str, Any] = {}
        stopping = asyncio.create_task(stop.wait())
        cpu_s, at = server.cpu_s(), time.monotonic()
        with tqdm(total=round(seconds), unit="s", desc=f"{speakers} of {server.places} places") as bar:
            while not stop.is_set():
                reading = asyncio.create_task(visitors.stdout.readline())
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done() or not (line := reading.result()):
                    reading.cancel()
                    break
                tally = json.loads(line)
                timed = tally.pop("latency_ms")
                if timed is None:
                    continue
                before = (cpu_s, at)
                cpu_s, at = server.cpu_s(), time.monotonic()
                rows.append(
                    _row(server, at - begin, timed, tally["open"], (cpu_s - before[0]) / (at - before[1]))
                )
                bar.update(min(round(at - begin), round(seconds)) - bar.n)
                bar.set_postfix_str(
                    f"{rows[-1]['rss_mb']:.0f} MB, p99 {timed['p99']:.0f} ms, {tally['lost']} lost"
                )
        stopping.cancel()
        with contextlib.suppress(ProcessLookupError):
            if stop.is_set():
                visitors.kill()
        code = await visitors.wait()
    if code and not stop.is_set():
        raise SystemExit("The visitors failed; see above.")
    return {"places": server.places, "speakers": speakers, "rows": rows, "tally": tally}


def _row(server: Server, at_s: float, timed: dict[str, float], open_streams: int, cores: float) -> Row:
    process: psutil.Process = server.process
    return {
        "at_s": round(at_s, 1),
        "rss_mb": round(server.megabytes(), 2),
        "fds": process.num_fds(),
        "threads": process.num_threads(),
        "cores": round(cores, 2),
        "streams": open_streams,
        **{f"{name}_ms": value for name, value in timed.items()},
    }


def evaluate(rows: list[Row], tally: dict[str, Any]) -> dict[str, Any]:
    """What a run's rows say, and whether each bound holds.

    Args:
        rows: of the whole run, in order, at least three after the warm-up.
        tally: the last one of ``benchmarks.visits``.

    Raises:
        ValueError: too short to say anything.
    """
    lasted_s = rows[-1]["at_s"] if rows else 0.0
    warm = [row for row in rows if row["at_s"] >= min(WARM_UP * lasted_s, _LONGEST_WARM_UP_S)]
    if len(warm) < 3:
        raise ValueError("too short: there must be three measurements after the warm-up")
    hours = np.array([row["at_s"] for row in warm]) / 3600
    slope, _, low, high = theilslopes([row["rss_mb"] for row in warm], hours, 0.95)
    third = max(1, len(warm) // 3)

    def medians(name: str) -> list[float]:
        parts = (warm[:third], warm[third:-third] or warm, warm[-third:])
        return [float(np.median([row[name] for row in part])) for part in parts]

    fds, threads, p99 = medians("fds"), medians("threads"), medians("p99_ms")
    holds = {
        "no frame lost": tally["lost"] == 0,
        "no drift": tally["drift"] == 0,
        "memory": bool(low <= MOST_MB_PER_HOUR),
        "file descriptors": fds[2] <= fds[0] + _SPARE,
        "threads": threads[2] <= threads[0] + _SPARE,
    }
    return {
        "lasted_s": lasted_s,
        "rss_mb_per_hour": {"slope": round(slope, 2), "low": round(low, 2), "high": round(high, 2)},
        "rss_mb": {
            "first": warm[0]["rss_mb"],
            "last": warm[-1]["rss_mb"],
            "most": max(r["rss_mb"] for r in rows),
        },
        "fds": {"thirds": fds, "most": max(row["fds"] for row in rows)},
        "threads": {"thirds": threads, "most": max(row["threads"] for row in rows)},
        "p99_ms": {"thirds": p99, "last_over_first": round(p99[2] / p99[0], 2)},
        "cores": round(float(np.mean([row["cores"] for row in warm])), 2),
        "holds": holds,
    }


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    return await measure(options.minutes, options.share, options.every, options.serve.split(), stop)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long (%(default)s)")
    parser.add_argument(
        "--share", type=float, default=SHARE, help="of the places that are taken (%(default)s)"
    )
    parser.add_argument("--every", type=float, default=5, help="seconds between readings (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--serve", default="", metavar="WORDS", help="more options of `diffspeaker serve`")
    options = parser.parse_args(argv)
    result = asyncio.run(_run(options))
    try:
        found = evaluate(result["rows"], result["tally"])
    except ValueError as error:
        print(f"benchmarks.soak: {error}", file=sys.stderr)
        return 2
    slope, tally = found["rss_mb_per_hour"], result["tally"]
    low, high = slope["low"], slope["high"]
    thirds = {name: found[name]["thirds"] for name in ("p99_ms", "fds", "threads")}
    print(f"{result['speakers']} of {result['places']} places for {found['lasted_s'] / 60:.1f} minutes")
    print(f"memory {slope['slope']:+.1f} MB/hour ({low:+.1f} to {high:+.1f}), {found['rss_mb']}")
    print("first, middle and last third: " + ", ".join(f"{name} {found}" for name, found in thirds.items()))
    print(f"{tally['visits']} visits, {tally['interrupts']} interrupts, {tally['frames']} frames")
    print(f"{tally['lost']} frames lost, drift {tally['drift']} samples")
    for name, holds in found["holds"].items():
        print(f"{name:18} {'holds' if holds else 'DOES NOT HOLD'}")
    config = {"minutes": options.minutes, "share": options.share, "serve": options.serve}
    write(options.json, {**result, **found, "config": config, **provenance()})
    return 0 if all(found["holds"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
