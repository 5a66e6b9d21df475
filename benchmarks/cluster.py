"""``python -m benchmarks.cluster``: what a cluster costs, against the engine in the server itself.

The same speakers talk to two servers on this machine, one after the other: one that denoises by itself, and
one that asks a pool in a Ray cluster of two nodes. Both have as many workers as the pool has replicas. For
each number of speakers there stand the frames' latency (``benchmarks.load``), how long windows waited and
were computed (the server's own histograms; with a pool the way there and back is in it), and the cores of
each part: the server, the replicas, the rest of Ray, and the load generator, which shares the machine.

The cost is told as added milliseconds and as a ratio of processor time, at the levels at which both hold
their deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
from tqdm import tqdm

from benchmarks.capacity import SETTLE_S, level
from benchmarks.load import Server, serving
from benchmarks.provenance import provenance, write
from streamer.engine.binding import OUTPUT, graph_shapes, input_shapes
from streamer.engine.bundle import Bundle
from streamer.engine.pool.packing import pack_motion, pack_windows
from streamer.engine.tuning import requests_of
from tests.ray_cluster import RayCluster, ray_cluster, replicas

LEVELS = [1, 2, 4, 6, 8, 10, 12, 16]
_HISTOGRAMS = {
    "batch": "face_batch_size",
    "queue": "face_queue_wait_seconds",
    "call": 'face_frame_latency_seconds{stage="compute"}',
}


def metrics(server: Server) -> dict[str, float]:
    """Every sample of the server's metrics, by its name and labels."""
    with urlopen(server.url.replace("ws", "http", 1).replace("v1/streams/", "metrics"), timeout=30) as page:
        lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def means(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The mean of each histogram between two readings."""
    found = {}
    for name, metric in _HISTOGRAMS.items():
        family, _, labels = metric.partition("{")
        total, count = (f"{family}_{part}" + (f"{{{labels}" if labels else "") for part in ("sum", "count"))
        number = after[count] - before[count]
        found[name] = (after[total] - before[total]) / number if number else 0.0
    return found


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Processor seconds of those that still run."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


async def rows(
    server: Server, options: argparse.Namespace, cluster: RayCluster | None
) -> list[dict[str, Any]]:
    """All levels at one server."""
    found = []
    for streams in tqdm(options.streams, desc="pool" if cluster else "local", unit="level", disable=None):
        pool = replicas() if cluster else []
        rest = [one for one in cluster.processes() if one not in pool] if cluster else []
        before, used = await asyncio.to_thread(metrics, server), (cpu_s(pool), cpu_s(rest))
        started = time.monotonic()
        row = await level(server, streams, options.seconds)
        took_s = time.monotonic() - started
        mean = means(before, await asyncio.to_thread(metrics, server))
        row |= {
            "replica_cores": round((cpu_s(pool) - used[0]) / took_s, 3),
            "ray_cores": round((cpu_s(rest) - used[1]) / took_s, 3),
            "mean_batch": round(mean["batch"], 3),
            "mean_queue_ms": round(1000 * mean["queue"], 3),
            "mean_call_ms": round(1000 * mean["call"], 3),
        }
        found.append(row)
        tqdm.write(
            f"{streams:3} streams: p50 {row['p50_ms']:6.1f}  p99 {row['p99_ms']:6.1f} ms, call "
            f"{row['mean_call_ms']:5.1f} ms of {row['mean_batch']:.2f} windows; cores: server "
            f"{row['server_cores']:.2f}, replicas {row['replica_cores']:.2f}, Ray {row['ray_cores']:.2f}",
            file=sys.stderr,
        )
    return found


def cost(local: list[dict[str, Any]], pool: list[dict[str, Any]], deadline_ms: float) -> list[dict[str, Any]]:
    """What the pool adds, where both are within the deadline."""
    found = []
    for one, other in zip(local, pool, strict=True):
        if max(one["p99_ms"], other["p99_ms"]) > deadline_ms:
            continue
        alone = one["server_cores"]
        working = other["server_cores"] + other["replica_cores"]
        found.append(
            {
                "streams": one["streams"],
                **{
                    f"added_{q}_ms": round(other[f"{q}_ms"] - one[f"{q}_ms"], 2)
                    for q in ("p50", "p95", "p99")
                },
                "cpu_ratio": round(working / alone, 3),
                "cpu_ratio_with_ray": round((working + other["ray_cores"]) / alone, 3),
            }
        )
    return found


@contextlib.contextmanager
def joined(cluster: RayCluster) -> Iterator[None]:
    """Has the processes that are started inside find the cluster."""
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = cluster.environment["RAY_ADDRESS"]
    try:
        yield
    finally:
        if before is None:
            del os.environ["RAY_ADDRESS"]
        else:
            os.environ["RAY_ADDRESS"] = before


async def make_pool(options: argparse.Namespace) -> None:
    """Puts the replicas in, one on each node and so on; ``SystemExit`` where it fails."""
    # Of the four processors of each node, so that two replicas are on two nodes.
    words = ["--replicas", str(options.replicas), "--cpus", "3" if options.replicas <= 2 else "1"]
    words += ["--bundle", str(options.bundle)] if options.bundle else []
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamer.cli.main", "pool", *words, stdout=sys.stderr
    )
    if await child.wait():
        raise SystemExit("The pool did not start.")


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both servers' rows."""
    arguments = ["--max-sessions", str(max(options.streams)), "--late-windows", "each"]
    arguments += ["--bundle", str(options.bundle)] if options.bundle else []
    async with serving([*arguments, "--workers", str(options.replicas)], apart=True) as server:
        local = await rows(server, options, None)
    with ray_cluster() as cluster, joined(cluster):
        await make_pool(options)
        async with serving([*arguments, "--engine", "ray://auto"], apart=True) as server:
            pool = await rows(server, options, cluster)
    return {"local": local, "pool": pool}


def window_bytes(bundle: Bundle) -> dict[str, int]:
    """A window on its way to the pool, and its motion on the way back."""
    shapes = input_shapes(bundle.manifest)
    there = len(pack_windows(requests_of(bundle, 2), shapes)) - len(
        pack_windows(requests_of(bundle, 1), shapes)
    )
    length, width = graph_shapes(bundle.manifest)[OUTPUT]
    back = len(pack_motion(np.zeros((2, length, width), np.float32)))
    back -= len(pack_motion(np.zeros((1, length, width), np.float32)))
    return {"window_bytes": there, "motion_bytes": back}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, nargs="+", default=LEVELS, help="the levels (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="of each level (%(default)s)")
    parser.add_argument("--replicas", type=int, default=2, help="of the pool, and workers (%(default)s)")
    parser.add_argument("--bundle", type=Path, help="the bundle (the default one)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(argv)
    bundle = Bundle.load(options.bundle)
    timing = bundle.manifest.timing
    hop_ms = timing.grid().hop_ms(timing.hop.default_frames)
    found = asyncio.run(measure(options))
    costs = cost(found["local"], found["pool"], hop_ms + 50)
    for row in costs:
        print(row)
    config = {
        "seconds": options.seconds,
        "settle_s": SETTLE_S,
        "replicas": options.replicas,
        "hop_ms": round(hop_ms, 2),
        "deadline_ms": round(hop_ms + 50, 1),
        "bundle": f"{bundle.manifest.name} {bundle.manifest.version}",
        **window_bytes(bundle),
    }
    write(options.json, {"cost": costs, **found, "config": config, **provenance()})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
