"""The tables of how fast it is, as Markdown, from ``results/NAME-MACHINE.json``.

One block for each benchmark; in it, one table for each machine that was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import capacity as capacity_benchmark
from benchmarks import versus_paper
from benchmarks.lip_tables import rows
from benchmarks.provenance import committed, where

Facts = dict[str, Any]


def each(name: str, table: Callable[[str, Facts], str]) -> Callable[[], str]:
    """A block of all machines' tables, or a sentence where none was measured."""

    def block() -> str:
        found = committed(name)
        missing = (
            f"Not measured yet: `python -m benchmarks.{name} --json benchmarks/results/{name}-MACHINE.json`."
        )
        return "\n\n".join(table(machine, facts) for machine, facts in found.items()) or missing

    return block


def command(name: str, machine: str, facts: Facts) -> str:
    """What made a table, and where."""
    return f"(`python -m benchmarks.{name} --json benchmarks/results/{name}-{machine}.json`;\n{where(facts)})"


def latency(machine: str, facts: Facts) -> str:
    """One live session at real-time pace."""
    config = facts["config"]
    body = []
    for name, row in facts.items():
        if name.endswith("_ms"):
            whole = name == "end_to_end_ms"
            title = "**sample in to frame at the client**" if whole else name.removesuffix("_ms")
            body.append([title, *(f"{row[q]:.1f}" for q in ("p50", "p95", "p99"))])
    return (
        f"One live session at real-time pace for {config['seconds']:g} s, "
        f"lookahead {config['lookahead_ms']:g} ms, hop {config['hop_ms']:.0f} ms\n"
        f"{command('latency', machine, facts)}:\n\n"
        + rows(["milliseconds", "p50", "p95", "p99"], body)
        + f"\n\nSeam ratio {facts['seam_ratio']:.2f} (1 is perfect). Streaming costs "
        f"{facts['offline_online_gap']:.1f} mm² of lip-vertex error\nagainst the widest window, "
        f"where a still face has {facts['offline_motion']:.0f}."
    )


def capacity(machine: str, facts: Facts) -> str:
    """How many speakers one server holds."""
    body = [
        [
            f"{row['streams']}",
            *(f"{row[f'{q}_ms']:.0f}" for q in ("p50", "p95", "p99")),
            f"{row['server_cores']:.2f}",
            f"{row['generator_cores']:.2f}",
            "yes" if capacity_benchmark.passed(row, facts["deadline_ms"]) else "no",
        ]
        for row in facts["rows"]
    ]
    head = ["speakers", "p50 ms", "p95 ms", "p99 ms", "server's cores", "generator's", "in time"]
    return (
        f"**{facts['streams']} speakers** at real-time pace, each frame within "
        f"{facts['deadline_ms']:.0f} ms (p99) of the audio that it may hear\n"
        f"{command('capacity', machine, facts)}:\n\n" + rows(head, body)
    )


def aims(machine: str, facts: Facts) -> str:
    """Capacity's aims with what was reached."""
    body = []
    for line in capacity_benchmark.verdicts(facts):
        name, rest = line[:20].strip(), line[20:].split("aim")
        bound, verdict = rest[1].rsplit(":", 1)
        body.append([name, bound.strip(), rest[0].strip(), verdict.strip()])
    return rows([machine, "aim", "reached", ""], body)


def versus(machine: str, facts: Facts) -> str:
    """Against the paper's pipeline."""

    def line(title: str, key: str, ours: float, theirs: float) -> list[str]:
        aim = versus_paper.AIMS.get(key)
        return [title, f"{theirs:.0f}", f"{ours:.0f}", f"**{facts[key]:.0f}**", f"≥ {aim:g}" if aim else "–"]

    stream, whole = facts["streaming_ms_per_s"], facts["offline_ms_per_s"]
    body = [
        line("every window, as published", "ratio", stream["ours"], stream["paper"]),
        line("every window, folded", "ratio_folded", stream["ours"], stream["paper_folded"]),
        line("the whole clip at once, as published", "ratio_offline", whole["ours"], whole["paper"]),
        line("the whole clip at once, folded", "ratio_offline_folded", whole["ours"], whole["paper_folded"]),
    ]
    head = ["processor ms per second of speech", "the paper's", "ours, streaming", "ratio", "aim"]
    config = facts["config"]
    return (
        f"{config['threads']} thread each, {config['variant']} against PyTorch\n"
        f"{command('versus_paper', machine, facts)}:\n\n" + rows(head, body)
    )


def engine(machine: str, facts: Facts) -> str:
    """Milliseconds per window."""
    body = [
        [
            f"{row['provider']} {row['variant']}",
            f"{row['batch']}",
            f"{row['ms_per_window']:.2f}",
            f"{row['batch_p99_ms']:.1f}",
            f"{row['gops_per_s']:.0f}",
            f"{100 * row['share_of_peak']:.0f} %",
            f"{row['operations_per_byte']:.0f}",
        ]
        for row in facts["rows"]
    ]
    head = ["", "batch", "ms per window", "p99 ms of the batch", "10⁹ op/s", "of the peak", "op/byte"]
    peaks = ", ".join(f"{kind} {peak:.0f}" for kind, peak in facts["peak_gops_per_s"].items())
    work = next(iter(facts["mega_operations_per_window"].values()))
    return (
        f"{work:.0f} million operations per window, {facts['config']['threads']} thread; "
        f"measured peaks in 10⁹ op/s: {peaks}\n{command('engine', machine, facts)}:\n\n" + rows(head, body)
    )


def fanout(machine: str, facts: Facts) -> str:
    """One speaker, many watchers."""
    lag, alone, crowd = facts["lag_ms"], facts["speaker_alone_ms"], facts["speaker_before_crowd_ms"]

    def ms(row: dict[str, float]) -> list[str]:
        return [f"{row[q]:.1f}" for q in ("p50", "p95", "p99")]

    body = [
        ["a block's way to a watcher", *ms(lag)],
        ["a frame's latency at the speaker, before the crowd", *ms(crowd)],
        ["the same, alone", *ms(alone)],
    ]
    return (
        f"{facts['watchers']} watchers of one speaker, {facts['dropped_frames']} frames dropped, "
        f"{facts['server_cores']:.2f} cores of the server,\n"
        f"{facts['generator_cores']:.2f} of the watchers, {facts['server_mb_most']:.0f} MB\n"
        f"{command('fanout', machine, facts)}:\n\n" + rows(["milliseconds", "p50", "p95", "p99"], body)
    )


def overload(machine: str, facts: Facts) -> str:
    """What those who were admitted feel of those who were not."""
    titles = {
        "knock": f"{facts['knock']['clients']} more want to speak, each coming back every second",
        "reconnect": "one address connects without end",
        "greedy": f"one of them sends its audio {facts['greedy']['times_real_time']:.0f} times too fast",
    }
    times = {row["phase"]: row for row in facts["rows"]}
    quiet = [times[phase] for phase in times if phase.startswith("quiet")]
    low, high = min(row["p99_ms"] for row in quiet), max(row["p99_ms"] for row in quiet)
    body = [
        [
            title,
            *(f"{times[phase][f'{q}_ms']:.0f}" for q in ("p50", "p95", "p99")),
            f"{facts['ratios'][phase]:.2f}",
        ]
        for phase, title in titles.items()
    ]
    lost = "every frame came" if facts["every_frame_came"] else "frames were lost"
    return (
        f"All {facts['places']} places taken, which the server had measured for itself; {lost}; p99 in the "
        f"quiet phases {low:.0f} to {high:.0f} ms\n{command('overload', machine, facts)}:\n\n"
        + rows(["meanwhile", "p50 ms", "p95 ms", "p99 ms", "p99 over the quiet phases beside it"], body)
    )


def soak(machine: str, facts: Facts) -> str:
    """What half an hour of coming and going leaves behind."""
    slope, tally = facts["rss_mb_per_hour"], facts["tally"]
    body = [
        [title, *(f"{value:.0f}" for value in facts[name]["thirds"])]
        for name, title in (
            ("p99_ms", "p99 of a frame's latency, ms"),
            ("fds", "descriptors"),
            ("threads", "threads"),
        )
    ]
    broken = ", ".join(name for name, holds in facts["holds"].items() if not holds)
    verdict = f"Not held: {broken}." if broken else "Every bound held."
    return (
        f"{facts['speakers']} speakers in real time, of {facts['places']} places, for "
        f"{facts['lasted_s'] / 60:.0f} minutes: {tally['visits']} streams came\nand went, "
        f"{tally['interrupts']} were interrupted; {tally['frames']} frames, **{tally['lost']} lost, "
        f"drift {tally['drift']} samples**. Memory {slope['slope']:+.1f} MB an hour\n"
        f"(95 %: {slope['low']:+.1f} to {slope['high']:+.1f}), {facts['rss_mb']['most']:.0f} MB at most. "
        f"{verdict}\n"
        f"{command('soak', machine, facts)}:\n\n"
        + rows(["median of the", "first third", "middle", "last"], body)
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "latency": each("latency", latency),
    "capacity": each("capacity", capacity),
    "capacity-aims": each("capacity", aims),
    "versus_paper": each("versus_paper", versus),
    "engine": each("engine", engine),
    "fanout": each("fanout", fanout),
    "overload": each("overload", overload),
    "soak": each("soak", soak),
}
