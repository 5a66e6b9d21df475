"""``python -m benchmarks.soak``: half an hour at 80 % of what the server holds; what grows, is a leak.

Starts ``diffspeaker serve`` with nothing said about its size and keeps 80 % of the places that it measured
for itself taken, by speakers in real time: a third stay to the end, the others come and go
(``benchmarks.visits``). Every few seconds the server's memory, file descriptors, threads and processor time
are read, with what it counts and the frames' latency since then. All of it runs on loopback and on this
machine's cores.

The exit code is 0 where all of these hold, and 1 where one does not:

- every frame came in its turn, none was dropped, and no connection failed;
- the audio's and the frames' clocks differ by 0 samples, and while streams ran their lag did not grow by a
  frame, by the median of the last third over the first's (``benchmarks.clocks``);
- memory does not grow: its slope after a warm-up (Theil-Sen, which a few outliers do not move) is 10 MB an
  hour at most. Nobody can tell in less than ten minutes, which are not judged. The slope's 95 % interval
  takes readings for independent, which memory's are not: it is somewhat too narrow;
- descriptors, those of connections left out, and threads are no more in the last third than in the first, by
  the median, nor are descriptors when everybody has left.

Ctrl-C ends it early, lets everybody say goodbye, and still says and writes what was measured; the exit code
is then 130. So does a server that ends by itself, with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import theilslopes
from tqdm import tqdm

from benchmarks.load import Server, serving
from benchmarks.provenance import provenance, write

SHARE = 0.8
MOST_MB_PER_HOUR = 10.0
JUDGED_S = 600.0  # after the warm-up: in less there is no telling a slope
WARM_UP = 0.2  # of the time, and five minutes at most
_LONGEST_WARM_UP_S = 300.0
_SPARE = 2  # threads and descriptors, for what happens to be open when they are counted
_FRAME_SAMPLES = 16_000 / 30
_REST_S = 3.0  # after the last connection was closed
_COUNTED = {
    "face_deadline_miss_total": "late_windows",
    "face_windows_joined_total": "joined_windows",
    "face_frames_dropped_total": "dropped",
}

Row = dict[str, Any]


# ---- what is read ----------------------------------------------------------------------------------------


def looks(server: Server) -> Row:
    """What the server's process looks like now."""
    process: psutil.Process = server.process
    with process.oneshot():
        return {
            "rss_mb": round(server.megabytes(), 2),
            "fds": process.num_fds(),
            "threads": process.num_threads(),
            "cpu_s": server.cpu_s(),
        }


def counts(server: Server) -> Row:
    """What the server has counted so far; frames that an interrupt drops are meant to be dropped."""
    page = server.url.replace("ws://", "http://").replace("/v1/streams/", "/metrics")
    with urllib.request.urlopen(page, timeout=10) as answer:
        text = answer.read().decode()
    found = dict.fromkeys(_COUNTED.values(), 0)
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name in _COUNTED and one.labels.get("reason") != "interrupt":
                found[_COUNTED[one.name]] += int(one.value)
    return found


async def readings(server: Server, visitors: asyncio.subprocess.Process) -> AsyncIterator[tuple[Row, Row]]:
    """A tally and a row for each line that the visitors print; the last line's, when all left, has no row."""
    assert visitors.stdout
    begin, last = time.monotonic(), looks(server)
    before_s = begin
    async for line in visitors.stdout:
        tally = json.loads(line)
        timed, lag, now = tally.pop("latency_ms"), tally.pop("lag_samples"), looks(server)
        late_ms = tally.pop("chunk_late_ms")
        tally |= await asyncio.to_thread(counts, server)  # after the look: it is a connection as well
        if timed is None or not tally["open"]:
            yield tally, {}
            continue
        at_s = time.monotonic()
        cores = (now["cpu_s"] - last["cpu_s"]) / (at_s - before_s)
        last, before_s = now, at_s
        yield (
            tally,
            {
                "at_s": round(at_s - begin, 1),
                **{name: now[name] for name in ("rss_mb", "fds", "threads")},
                "cores": round(cores, 2),
                "open": tally["open"],
                "lag_samples": lag,
                "late_windows": tally["late_windows"],
                "chunk_late_ms": late_ms,
                **{f"{name}_ms": value for name, value in timed.items()},
            },
        )


async def measure(
    minutes: float, share: float, every_s: float, serve: list[str], stop: asyncio.Event
) -> dict[str, Any]:
    """The whole run: a row for every few seconds, the last tally, and the server before and after it."""
    seconds = 60 * minutes
    rows: list[Row] = []
    tally: Row = {}
    rest: dict[str, Row] = {}
    ended = ""
    async with serving(serve, apart=True) as server:
        speakers = max(1, int(share * server.places))
        words = ("benchmarks.visits", server.url, str(speakers), str(seconds), str(every_s))
        await asyncio.to_thread(counts, server)
        rest["before"] = looks(server)
        visitors = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert visitors.stdin
        stopping = asyncio.create_task(_close(visitors.stdin, stop))
        try:
            with tqdm(total=round(seconds), unit="s", desc=f"{speakers} of {server.places} places") as bar:
                async for tally, row in readings(server, visitors):
                    if not row:
                        continue
                    rows.append(row)
                    bar.update(min(round(row["at_s"]), round(seconds)) - bar.n)
                    said = f"{row['rss_mb']:.0f} MB, p99 {row['p99_ms']:.0f} ms, {tally['lost']} lost"
                    bar.set_postfix_str(said)
            if await visitors.wait():
                raise SystemExit("The visitors failed; see above.")
            await asyncio.sleep(_REST_S)
            rest["after"] = looks(server)
        except (psutil.NoSuchProcess, OSError) as error:
            ended = f"{type(error).__name__} after {rows[-1]['at_s'] if rows else 0:.0f} s"
        finally:
            stopping.cancel()
            with contextlib.suppress(ProcessLookupError):
                visitors.kill()
            await visitors.wait()
    found = {"places": server.places, "speakers": speakers, "server_ended": ended}
    return found | {"rows": rows, "tally": tally, "at_rest": rest}


async def _close(pipe: asyncio.StreamWriter, stop: asyncio.Event) -> None:
    await stop.wait()
    pipe.close()


# ---- what it says ----------------------------------------------------------------------------------------


def evaluate(rows: list[Row], tally: Row, rest: dict[str, Row]) -> dict[str, Any]:
    """What a run's rows say, and whether each bound holds; None where it is too short to tell.

    Args:
        rows: of the whole run, in order, at least three after the warm-up.
        tally: the last one of ``benchmarks.visits``, with the server's counts.
        rest: the server with nobody there, ``before`` and ``after``; what is missing is not judged.

    Raises:
        ValueError: too short to say anything.
    """
    lasted_s = rows[-1]["at_s"] if rows else 0.0
    warm = [row for row in rows if row["at_s"] >= min(WARM_UP * lasted_s, _LONGEST_WARM_UP_S)]
    if len(warm) < 3:
        raise ValueError("too short: there must be three measurements after the warm-up")
    hours = np.array([row["at_s"] for row in warm]) / 3600
    slope, base, low, high = theilslopes([row["rss_mb"] for row in warm], hours, 0.95)
    third = max(1, len(warm) // 3)

    def medians(values: list[float]) -> list[float]:
        parts = (values[:third], values[third:-third] or values, values[-third:])
        return [round(float(np.median(part)), 2) for part in parts]

    def over_time(name: str) -> dict[str, Any]:
        every = [row[name] for row in rows]
        return {"first": every[0], "last": every[-1], "most": max(every)}

    fds = medians([row["fds"] - row["open"] for row in warm])
    threads, p99 = medians([row["threads"] for row in warm]), medians([row["p99_ms"] for row in warm])
    lags = medians([row["lag_samples"] for row in warm if row["lag_samples"] is not None] or [0])
    is_long = warm[-1]["at_s"] - warm[0]["at_s"] >= JUDGED_S
    holds = {
        "no frame lost": tally["lost"] == 0,
        "no frame dropped": tally["dropped"] == 0,
        "no connection failed": tally["failed"] == 0,
        "no drift": tally["drift"] == 0,
        "lag": abs(lags[2] - lags[0]) < _FRAME_SAMPLES,
        "memory": bool(slope <= MOST_MB_PER_HOUR) if is_long else None,
        "file descriptors": fds[2] <= fds[0] + _SPARE,
        "threads": threads[2] <= threads[0] + _SPARE,
    }
    if rest.keys() >= {"before", "after"}:
        holds["descriptors at rest"] = rest["after"]["fds"] <= rest["before"]["fds"] + _SPARE
    return {
        "lasted_s": lasted_s,
        "rss_mb_per_hour": {"slope": round(slope, 2), "low": round(low, 2), "high": round(high, 2)},
        "rss_mb": over_time("rss_mb")
        | {"fit": [round(float(base + slope * hours[at]), 2) for at in (0, -1)]},
        "fds": {"thirds": fds, **over_time("fds")},
        "threads": {"thirds": threads, **over_time("threads")},
        "p99_ms": {"thirds": p99, "last_over_first": round(p99[2] / p99[0], 2)},
        "lag_samples": {"thirds": lags},
        "warm_from_s": warm[0]["at_s"],
        "cores": round(float(np.mean([row["cores"] for row in warm])), 2),
        "holds": holds,
    }


def report(found: dict[str, Any]) -> list[str]:
    """What a person wants to know, line by line."""
    slope, tally = found["rss_mb_per_hour"], found["tally"]
    thirds = {name: found[name]["thirds"] for name in ("p99_ms", "fds", "threads", "lag_samples")}
    words = {True: "holds", False: "DOES NOT HOLD", None: "too short to tell"}
    return [
        f"{found['speakers']} of {found['places']} places for {found['lasted_s'] / 60:.1f} minutes",
        f"memory {slope['slope']:+.1f} MB/hour ({slope['low']:+.1f} to {slope['high']:+.1f}), "
        f"{found['rss_mb']['first']:.0f} MB at first, {found['rss_mb']['last']:.0f} at last",
        "first, middle and last third: " + ", ".join(f"{name} {values}" for name, values in thirds.items()),
        f"{tally['visits']} visits, {tally['interrupts']} interrupts, {tally['frames']} frames, "
        f"{tally['late_windows']} late windows",
        f"{tally['lost']} frames lost, drift {tally['drift']:g} samples, "
        f"longest epoch {tally['longest_s']:.0f} s",
        *(f"{name:20} {words[holds]}" for name, holds in found["holds"].items()),
    ]


async def _run(options: argparse.Namespace) -> dict[str, Any]:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    found = await measure(options.minutes, options.share, options.every, shlex.split(options.serve), stop)
    return found | {"interrupted": stop.is_set()}


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
    where = provenance()  # at the start: it is this commit that runs
    result = asyncio.run(_run(options))
    result["config"] = {"minutes": options.minutes, "share": options.share, "serve": options.serve}
    try:
        result |= evaluate(result["rows"], result["tally"], result["at_rest"])
        print("\n".join(report(result)))
        code = 1 if False in result["holds"].values() else 0
    except ValueError as error:
        print(f"benchmarks.soak: {error}", file=sys.stderr)
        code = 2
    if result["server_ended"]:
        print(f"THE SERVER ENDED: {result['server_ended']}", file=sys.stderr)
        code = 1
    write(options.json, result | where)
    return 130 if result["interrupted"] else code


if __name__ == "__main__":
    sys.exit(main())
