"""The simulations behind ``benchmarks.scale_model``: the check, the curves, and what one machine holds."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.cluster_model import Fleet, any_phases, drawn_phases, simulate
from benchmarks.provenance import percentiles
from benchmarks.service_times import HOP_S, LOW, Costs
from benchmarks.sizing import Holds

REPLICAS = (1, 8, 64)
LOADS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
SHARES = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
WITHIN = 0.2
FULL_BATCH = 32
MOST_STREAMS = 64  # that a machine is tried with
Result = dict[str, Any]


def measured(results: Sequence[Result]) -> dict[tuple[str, int], list[Result]]:
    """All runs of each level, by engine (``local``, ``pool``) and speakers, in the order of the results."""
    found: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        for kind in ("local", "pool"):
            alone = result.get("rows", []) if kind == "local" else []  # of benchmarks.capacity
            for row in result.get(kind) or alone:
                found.setdefault((kind, row["streams"]), []).append(row)
    return dict(sorted(found.items()))


# ---- is the model right? ---------------------------------------------------------------------------------


def check(cluster: Result, again: Sequence[Result], costs: dict[str, Costs], seed: int) -> list[Result]:
    """Every level, measured and simulated, with the error of its p99."""
    config, cores = cluster["config"], cluster["machine"]["cores"]
    found = []
    for (kind, streams), runs in tqdm(
        measured([cluster, *again]).items(), desc="check", unit="level", disable=None
    ):
        fleet = Fleet(drawn_phases(streams), 1, config["replicas"], kind == "local", cores)
        seen = simulate(fleet, costs[kind], config["seconds"], seed)
        simulated = percentiles(1000 * np.asarray(seen.latency_s))
        error = simulated["p99"] / runs[0]["p99_ms"] - 1
        found.append(
            {
                "engine": kind,
                "streams": streams,
                "learnt_from": streams <= LOW,
                "measured_p50_ms": runs[0]["p50_ms"],
                "simulated_p50_ms": simulated["p50"],
                "measured_p99_ms": runs[0]["p99_ms"],
                "again_p99_ms": runs[1]["p99_ms"] if len(runs) > 1 else None,
                "simulated_p99_ms": simulated["p99"],
                "p99_error": round(error, 3),
                "within": abs(error) <= WITHIN,
                "cores_wanted": round(sum(one.cores for one in seen.stations.values()), 3),
            }
        )
    return found


# ---- load and latency ------------------------------------------------------------------------------------


def most_windows_per_s(costs: Costs) -> float:
    """What an engine computes a second in its best batches, the spread of their times included."""
    mean = float(np.exp(costs.spread**2 / 2))
    return max(size / (costs.of_batch(size) * mean) for size in range(1, FULL_BATCH + 1))


def p99_ms(fleets: Sequence[Fleet], costs: Costs, seconds: float) -> float:
    """The 99th percentile of all frames of some simulations."""
    late = [simulate(fleet, costs, seconds, seed).latency_s for seed, fleet in enumerate(fleets)]
    return 1000 * float(np.percentile(np.concatenate([np.asarray(one) for one in late]), 99))


def curves(costs: Costs, seconds: float, seed: int, streams_per_gateway: int) -> list[Result]:
    """p50 and p99 against load, for each number of replicas."""
    each = most_windows_per_s(costs) * HOP_S
    found = []
    for replicas in REPLICAS:
        draws = max(1, 12 // replicas)  # few speakers, so the luck of their phases is averaged
        levels = dict.fromkeys(max(1, round(load * each * replicas)) for load in LOADS)
        for streams in tqdm(levels, desc=f"{replicas} replicas", unit="load", disable=None):
            gateways = -(-streams // streams_per_gateway)
            late: list[float] = []
            for draw in range(draws):
                fleet = Fleet(any_phases(streams, seed + draw), gateways, replicas, joins=True)
                late += simulate(fleet, costs, seconds / max(1, replicas // 8), seed + draw).latency_s
            share = round(streams / each / replicas, 3)
            ms = percentiles(1000 * np.asarray(late))
            found.append({"replicas": replicas, "load": share, "streams": streams} | _ms(ms))
    return found


def _ms(values: dict[str, float]) -> dict[str, float]:
    return {f"{name}_ms": value for name, value in values.items()}


def most(in_time: Callable[[int], bool]) -> int:
    """The largest number up to ``MOST_STREAMS`` for which something holds; 0 where it never does."""
    low, high = 0, 1
    while high <= MOST_STREAMS and in_time(high):
        low, high = high, 2 * high
    high = min(high, MOST_STREAMS + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if in_time(middle) else (low, middle)
    return low


def holds(
    costs: dict[str, Costs],
    gpu_streams: int,
    tree: Result,
    options: argparse.Namespace,
    deadline_ms: float,
) -> Holds:
    """What one of each machine holds, each with enough of the others around it."""
    seconds, seed = options.seconds, options.seed
    local, pool = costs["local"], costs["pool"]
    on_gpu = replace(pool, batch_s=((1, HOP_S / gpu_streams),))

    def in_time(make: Callable[[int, int], Fleet], cost: Costs, draws: int = 3) -> Callable[[int], bool]:
        return lambda n: p99_ms([make(n, seed + draw) for draw in range(draws)], cost, seconds) <= deadline_ms

    def a_server(n: int, draw: int) -> Fleet:
        return Fleet(any_phases(n, draw), 1, options.server_cores, True, options.server_cores, True)

    def a_gateway(n: int, draw: int) -> Fleet:
        return Fleet(any_phases(n, draw), 1, max(2, n // 4), joins=True)

    def eight(n: int, draw: int) -> Fleet:  # replicas, and a gateway for every four streams
        return Fleet(any_phases(8 * n, draw), 2 * n, 8, joins=True)

    def cores(fleet: Fleet, cost: Costs, *kinds: str) -> float:
        seen = simulate(fleet, cost, seconds, seed)
        return sum(seen.stations[kind].cores / seen.stations[kind].threads for kind in kinds)

    server = most(in_time(a_server, local))
    gateway = most(in_time(a_gateway, pool))
    replica, gpu_replica = most(in_time(eight, pool, 1)), most(in_time(eight, on_gpu, 1))
    if not all((server, gateway, replica, gpu_replica)):
        raise SystemExit("With these service times not even one stream is in time.")
    watcher_cores, relay = watching(tree, options.hop_adds_ms)
    return Holds(
        server,
        gateway,
        replica,
        gpu_replica,
        gpu_streams,
        options.server_cores,
        max(1.0, cores(a_gateway(gateway, seed), pool, "gateway")),
        cores(eight(replica, seed), pool, "engine", "replica loop"),
        cores(eight(gpu_replica, seed), on_gpu, "replica loop"),
        watcher_cores,
        relay,
    )


def watching(tree: Result, hop_adds_ms: float) -> tuple[float, int]:
    """The cores that a watcher takes, and how many a relay serves with at most so much added (p95)."""
    rows = [row for row in tree["rows"] if row["shape"] == "side by side"]
    if not rows:
        raise SystemExit("The result of benchmarks.tree has no relays side by side.")
    largest = max(rows, key=lambda row: row["watchers"])
    cores = sum(largest["relay_cores"]) / largest["watchers"]
    good = [row["watchers"] // row["relays"] for row in rows if max(row["added_p95_ms"]) <= hop_adds_ms]
    if not good:
        raise SystemExit(f"No relay of benchmarks.tree added less than {hop_adds_ms:g} ms: --hop-adds-ms.")
    return cores, max(good)


def stations(costs: Costs, each: Holds, options: argparse.Namespace) -> list[Result]:
    """Where windows wait in a pool of processors of eight replicas and its gateways, as load rises."""
    found = []
    gateways = -(-8 * each.replica // each.gateway)
    for share in SHARES:
        streams = round(share * 8 * each.replica)
        fleet = Fleet(any_phases(streams, options.seed), gateways, 8, joins=True)
        seen = simulate(fleet, costs, options.seconds, options.seed)
        row: Result = {"share": share, "streams": streams, "gateways": gateways, "replicas": 8}
        for kind, name in (("gateway", "gateway"), ("replica loop", "loop"), ("engine", "engine")):
            station = seen.stations[kind]
            wait_s = float(np.mean(seen.engine_wait_s)) if kind == "engine" else station.wait_s
            row |= {f"{name}_busy": round(station.busy, 3), f"{name}_wait_ms": round(1000 * wait_s, 2)}
        row["mean_batch"] = round(float(np.mean(seen.joined)), 2)
        found.append(row | {"p99_ms": percentiles(1000 * np.asarray(seen.latency_s))["p99"]})
    return found
