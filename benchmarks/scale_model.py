"""``python -m benchmarks.scale_model``: from two cores to a million streams, on paper and by simulation.

It takes what was measured on one machine (``benchmarks.cluster``, ``engine``, ``tree``) and answers:

- *Is the model right?* Service times are learnt from the levels of few speakers; the higher levels are
  simulated and compared with what was measured (``--again`` names further runs of ``benchmarks.cluster`` or
  ``benchmarks.capacity`` on that machine, which show how far two measurements are apart).
- *What does p99 do as load nears capacity*, for 1, 8 and 64 replicas behind one queue.
- *Where do queues form*, in a pool as it is sized here.
- *How many machines, how much bandwidth and money* so many streams and watchers need.

Load is the share of the windows that the replicas' engines could compute in their best batches. What a
machine holds is how many streams are in time (p99 within the deadline) in a simulation in which every thread
has a core of its own; late windows are joined, as servers do by default. Nothing of it is measured at scale.
Assumed are GPUs, prices, and that a window costs on many machines what it does on two shared cores.
``benchmarks.cluster_model`` says what is simulated, ``benchmarks.sizing`` does the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import gpu as gpu_benchmark
from benchmarks import scale_charts
from benchmarks.provenance import RESULTS, committed, provenance, write
from benchmarks.scale_runs import check, curves, holds, stations
from benchmarks.service_times import calibrated
from benchmarks.sizing import WAYS, Prices, broadcast, network_limits, sized, traffic

_KEYS = {
    "cluster": "pool",
    "engine": "peak_gops_per_s",
    "tree": "rows",
    "gpu": "difference",
    "capacity": "deadline_ms",
}
Result = dict[str, Any]


def read(path: Path, *benchmarks: str) -> Result:
    """A result of one of some benchmarks; ``SystemExit`` says what to do where it is none."""
    benchmark = benchmarks[0]
    make = f"python -m benchmarks.{benchmark} --json {path}"
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError:
        raise SystemExit(f"{path} is not there. Make it with `{make}`.") from None
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read: {error}. Make it with `{make}`.") from None
    if not isinstance(result, dict) or not any(_KEYS[name] in result for name in benchmarks):
        raise SystemExit(f"{path} is no result of benchmarks.{benchmark}. Make one with `{make}`.")
    return result


def answers(options: argparse.Namespace) -> Result:
    """Everything, from the results that are named."""
    cluster, engine, tree = (read(getattr(options, name), name) for name in ("cluster", "engine", "tree"))
    again = [read(path, "cluster", "capacity") for path in options.again]
    card = read(options.gpu, "gpu") if options.gpu else None
    gpu_streams = card["streams"] if card else gpu_benchmark.AIMS["streams"]
    config = cluster["config"]
    if any(one["machine"] != cluster["machine"] for one in (engine, tree, *again)):
        raise SystemExit("These results are of different machines: name those of one.")
    try:
        costs = {kind: calibrated(cluster, engine, kind) for kind in ("local", "pool")}
    except ValueError as error:
        raise SystemExit(
            f"Nothing can be learnt from {options.cluster} and {options.engine}: {error}"
        ) from None
    each = holds(costs, int(gpu_streams), tree, options, config["deadline_ms"])
    wires = traffic(config["window_bytes"], config["motion_bytes"])
    prices = Prices(options.vcpu_hour, options.gpu_hour, options.egress_gb, options.inner_gb)
    return {
        "gpu_is_assumed": card is None,
        "deadline_ms": config["deadline_ms"],
        "check": check(cluster, again, costs, options.seed),
        "curves": curves(costs["pool"], options.seconds, options.seed, max(1, each.gateway // 3)),
        "stations": stations(costs["pool"], each, options),
        "sizes": [
            sized(way, streams, watchers, each, wires, prices, options.fill)
            for watchers in options.watchers
            for streams in options.streams
            for way in WAYS
        ],
        "broadcast": [broadcast(number, each, wires, prices, options.fill) for number in options.streams],
        "network": [network_limits(wires, max(options.watchers), nic, each) for nic in options.nic_gbit],
        "holds": asdict(each),
        "kbit_per_s": {name: round(bits / 1000, 1) for name, bits in asdict(wires).items()},
        "costs": {kind: _rounded(asdict(one)) for kind, one in costs.items()},
        "config": {
            "fill": options.fill,
            "seconds": options.seconds,
            "seed": options.seed,
            "hop_adds_ms": options.hop_adds_ms,
            **asdict(prices),
            "from": {
                name: _facts(one) for name, one in (("cluster", cluster), ("engine", engine), ("tree", tree))
            },
            "again": [_facts(one) for one in again],
        },
        **provenance(),
        "machine": cluster["machine"],
    }


def _facts(result: Result) -> Result:
    return {"commit": result["commit"], "measured": result["measured"]}


def _rounded(costs: Result) -> Result:
    return {name: round(value, 7) if isinstance(value, float) else value for name, value in costs.items()}


def show(result: Result) -> None:
    """The answers, for people at a terminal."""
    for row in result["check"]:
        again = f" ({row['again_p99_ms']:.0f} again)" if row["again_p99_ms"] else ""
        verdict = "learnt from" if row["learnt_from"] else "within" if row["within"] else "NOT within"
        print(
            f"{row['engine']:5} {row['streams']:3} streams: p99 measured {row['measured_p99_ms']:7.1f}{again}"
            f", simulated {row['simulated_p99_ms']:7.1f} ms, {100 * row['p99_error']:+.0f} %: {verdict}"
        )
    for row in result["curves"]:
        print(f"{row['replicas']:3} replicas, load {row['load']:.2f}: p99 {row['p99_ms']:7.1f} ms")
    for row in result["sizes"]:
        machines = ", ".join(
            f"{row[name]:,} {name}" for name in ("servers", "gateways", "replicas", "gpus") if row[name]
        )
        note = " (assumed)" if row["gpus"] and result["gpu_is_assumed"] else ""
        print(
            f"{row['streams']:,} streams, {row['watchers']} watchers each, {row['way']}{note}: {machines}; "
            f"{row['vcpus']:,} vCPU, out {row['egress_gbit']:g} Gbit/s, inner {row['inner_gbit']:g} Gbit/s, "
            f"$ {row['month']:,} a month"
        )


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    machine = next(iter(committed("cluster")), "MACHINE")
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.scale_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("cluster", "engine", "tree"):
        path = RESULTS / f"{name}-{machine}.json"
        found.add_argument(
            f"--{name}", type=Path, default=path, help=f"the result of benchmarks.{name} ({path.name})"
        )
    found.add_argument("--gpu", type=Path, help="a result of benchmarks.gpu (without one its aim is assumed)")
    repeats = sorted(RESULTS.glob(f"repeat-*-{machine}.json"), reverse=True)
    found.add_argument("--again", type=Path, nargs="*", default=repeats, help="further runs, for the check")
    counts = [1000, 100_000, 1_000_000]
    found.add_argument("--streams", type=int, nargs="+", default=counts, help="live streams (%(default)s)")
    found.add_argument(
        "--watchers", type=int, nargs="+", default=[1, 10], help="of each stream (%(default)s)"
    )
    found.add_argument("--server-cores", type=int, default=2, help="of a server without a pool (%(default)s)")
    found.add_argument(
        "--fill", type=float, default=0.8, help="share of the places that is planned (%(default)s)"
    )
    found.add_argument(
        "--hop-adds-ms", type=float, default=20, help="what a relay may add, p95 (%(default)s)"
    )
    found.add_argument(
        "--nic-gbit", type=float, nargs="+", default=[10, 25, 100], help="network cards (%(default)s)"
    )
    prices = Prices()
    for name, words in (
        ("vcpu_hour", "of a virtual processor"),
        ("gpu_hour", "of a GPU"),
        ("egress_gb", "of a GB to the public"),
        ("inner_gb", "of a GB between gateways and pool"),
    ):
        option = "--" + name.replace("_", "-")
        found.add_argument(
            option, type=float, default=getattr(prices, name), help=f"dollars {words} (%(default)s)"
        )
    found.add_argument("--seconds", type=float, default=12, help="of each simulation (%(default)s)")
    found.add_argument("--seed", type=int, default=1, help="of the simulations (%(default)s)")
    found.add_argument("--json", type=Path, help="write the answers here")
    found.add_argument("--chart", type=Path, help="draw them here; the check beside it, as NAME-check.png")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    if not 0 < options.fill <= 1:
        raise SystemExit("--fill is a share, above 0 and at most 1.")
    result = answers(options)
    show(result)
    write(options.json, result)
    if options.chart:
        check_chart = options.chart.with_stem(options.chart.stem + "-check")
        scale_charts.save(scale_charts.scale(result), options.chart)
        scale_charts.save(scale_charts.check(result), check_chart)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
