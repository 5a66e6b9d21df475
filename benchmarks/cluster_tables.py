"""The tables of more than one machine, as Markdown: relays, the cost of a cluster, and its outages."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.lip_tables import rows
from benchmarks.speed_tables import Facts, command, each


def tree(machine: str, facts: Facts) -> str:
    """One speaker, watchers behind relays."""
    body = []
    for row in facts["rows"]:
        last = row["relay_lag_ms"][-1] if row["shape"] == "chain" else _worst(row["relay_lag_ms"])
        lost = row["dropped_frames"] + row["hungry_sinks"]
        added = ", ".join(f"{hop:.1f}" for hop in row["added_p95_ms"])
        body.append(
            [
                f"{row['relays']} in a chain" if row["shape"] == "chain" else f"{row['relays']} side by side",
                f"{row['watchers']:,}",
                *(f"{last[q]:.1f}" for q in ("p50", "p95", "p99")),
                added if row["shape"] == "chain" else f"{max(row['added_p95_ms']):.1f}",
                f"{lost}",
                f"{max(row['relay_cores']):.2f}",
                f"{row['relay_mb']:.0f}",
            ]
        )
    head = ["relays", "watchers", "p50 ms", "p95 ms", "p99 ms", "a hop adds (p95)", "lost"]
    floor = ""
    if bare := facts.get("bare_us"):
        most = max(row["watchers"] for row in facts["rows"])
        floor = (
            f"\n\nA bare write to a socket, by a core that does nothing else, takes {bare['p50']:.1f} µs "
            f"here: {most:,} of them {bare['p50'] * most / 1000:.0f} ms."
        )
    return (
        "From the server to a watcher behind the last relay, or the slowest one\n"
        f"{command('tree', machine, facts)}:\n\n"
        + rows([*head, "cores of a relay", "MB of a relay"], body)
        + floor
    )


def _worst(lags: list[dict[str, float]]) -> dict[str, float]:
    return max(lags, key=lambda lag: lag["p95"])


def cluster(machine: str, facts: Facts) -> str:
    """What a pool costs, against the engine in the server."""
    local = {row["streams"]: row for row in facts["local"]}
    pool = {row["streams"]: row for row in facts["pool"]}
    body = [
        [
            f"{cost['streams']}",
            *(f"{cost[f'added_{q}_ms']:+.1f}" for q in ("p50", "p95", "p99")),
            f"{local[cost['streams']]['mean_call_ms']:.1f} → {pool[cost['streams']]['mean_call_ms']:.1f}",
            f"{cost['cpu_ratio']:.2f}",
            f"{cost['cpu_ratio_with_ray']:.2f}",
        ]
        for cost in facts["cost"]
    ]
    head = [
        "speakers",
        "added p50 ms",
        "p95 ms",
        "p99 ms",
        "a batch takes, ms",
        "processor time",
        "with Ray's own",
    ]
    return (
        f"{facts['config']['replicas']} replicas on two nodes of one machine, against "
        f"{facts['config']['replicas']} workers in the server; levels at which both are in time\n"
        f"{command('cluster', machine, facts)}:\n\n" + rows(head, body)
    )


def outages(machine: str, facts: Facts) -> str:
    """What speakers notice when parts die."""
    body = []
    for row in facts["rows"]:
        back = row["back_s"]
        moved = f"{row['moved']}: {back['p50']:.1f} s, {back['most']:.1f} s at most" if back else "nobody"
        body.append(
            [
                row["outage"],
                f"{row['stayed']}",
                f"{row['wrong_frames']}",
                f"{row['silence_before_ms']:.0f}",
                f"{row['silence_ms']:.0f}",
                moved,
            ]
        )
    head = [
        "outage",
        "keep their server",
        "frames lost or doubled",
        "longest silence before, ms",
        "after, ms",
    ]
    return (
        f"{facts['config']['streams']} speakers in real time, two servers behind nginx, "
        f"{facts['config']['replicas']} replicas on two nodes\n"
        f"{command('outages', machine, facts)}:\n\n" + rows([*head, "must come back, and do after"], body)
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "tree": each("tree", tree),
    "cluster": each("cluster", cluster),
    "outages": each("outages", outages),
}
