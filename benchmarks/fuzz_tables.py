"""The tables of what was tried against the readers and the server, from ``results/fuzz-MACHINE.json``."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.fuzz.targets import TARGETS
from benchmarks.lip_tables import rows
from benchmarks.speed_tables import Facts, command, each


def readers(machine: str, facts: Facts) -> str:
    """Inputs, coverage and what was found, by reader."""
    body = []
    for name, target in TARGETS.items():
        row = facts["targets"][name]
        body.append(
            [
                f"`{name}`: {target.what}",
                f"{row['inputs']:,}",
                f"{row['coverage']}",
                f"{len(row['findings'])}",
                f"{row['slowest_ms']:.0f}",
                f"{row['peak_mb']:.0f}",
            ]
        )
    tried = sum(facts["targets"][name]["inputs"] for name in TARGETS)
    found = sum(len(facts["targets"][name]["findings"]) for name in TARGETS)
    head = ["reader", "inputs", "branches seen", "found", "slowest ms", "peak MB"]
    seconds = facts["config"]["seconds"]
    return (
        f"{tried / 1e6:.1f} million inputs, {seconds:.0f} s for each reader, {found} found\n"
        f"{command('fuzz', machine, facts)}:\n\n" + rows(head, body)
    )


def live(machine: str, facts: Facts) -> str:
    """What a server held before and after each attack."""
    titles = {
        "walk": "steps in any order",
        "attacks": "slow, silent and flooding connections",
        "connects": "connects and disconnects",
    }
    body = []
    for name, title in titles.items():
        row = facts["targets"][name]
        if "before" not in row:  # it found something, and there is nothing to compare
            body.append([title, *["–"] * 6])
            continue
        before, after = row["before"], row["after"]

        def change(what: str, unit: str = "", before: Facts = before, after: Facts = after) -> str:
            return f"{before[what]:.0f} → {after[what]:.0f}{unit}"

        body.append(
            [
                f"{row['inputs']:,} {title}",
                f"{row['healthy_frames']:,}",
                change("streams"),
                change("tasks"),
                change("descriptors"),
                change("rss_mb", " MB"),
                f"{after['peak_mb']:.0f} MB",
            ]
        )
    often = facts["targets"]["connects"]
    pace = (
        f"\n\nThe {often['inputs']:,} connects went at {often['connects_per_s']:.0f} a second, "
        f"{often['refused']:,} of them refused; sessions that stayed: {often['after']['streams']:.0f}."
        if "after" in often
        else ""
    )
    head = [
        "attack",
        "right frames of the pair",
        "streams",
        "tasks",
        "descriptors",
        "memory",
        "its peak",
    ]
    return f"Before and after, in the same run ({machine}):\n\n" + rows(head, body) + pace


BLOCKS: dict[str, Callable[[], str]] = {"fuzz": each("fuzz", readers), "fuzz-live": each("fuzz", live)}
