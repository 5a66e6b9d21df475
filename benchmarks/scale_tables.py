"""The tables of ``benchmarks.scale_model``, as Markdown: the check, and what large scale needs."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.lip_tables import rows
from benchmarks.provenance import committed, where
from benchmarks.sizing import gigabytes
from benchmarks.speed_tables import Facts

_MISSING = (
    "Not computed yet: `python -m benchmarks.scale_model --json benchmarks/results/scale-MACHINE.json`."
)


def _each(table: Callable[[str, Facts], str]) -> Callable[[], str]:
    return lambda: "\n\n".join(table(name, facts) for name, facts in committed("scale").items()) or _MISSING


def _command(machine: str, facts: Facts) -> str:
    words = f"(`python -m benchmarks.scale_model --json benchmarks/results/scale-{machine}.json`;"
    return f"{words}\nfrom measurements on {where(facts)})"


def check(machine: str, facts: Facts) -> str:
    """Measured against simulated."""
    body = []
    for row in facts["check"]:
        again = row["again_p99_ms"]
        verdict = "yes" if row["within"] else "**no**"
        body.append(
            [
                "server" if row["engine"] == "local" else "pool",
                f"{row['streams']}",
                f"{row['measured_p99_ms']:.0f}",
                "–" if again is None else f"{again:.0f}",
                f"{row['simulated_p99_ms']:.0f}",
                f"{100 * row['p99_error']:+.0f} %",
                "learnt from" if row["learnt_from"] else verdict,
            ]
        )
    told = [row for row in facts["check"] if not row["learnt_from"]]
    in_time = [row for row in told if row["measured_p99_ms"] <= facts["deadline_ms"]]
    good, all_good = (sum(row["within"] for row in some) for some in (in_time, told))
    head = ["engine in the", "speakers", "measured p99 ms", "again", "simulated", "error", "within 20 %"]
    return (
        f"Nothing was learnt from {len(told)} levels. Of the {len(in_time)} that were in time, {good} are "
        f"predicted within 20 %; of the others, {all_good - good} of {len(told) - len(in_time)}\n"
        f"{_command(machine, facts)}:\n\n" + rows(head, body)
    )


def scale(machine: str, facts: Facts) -> str:
    """Machines, bandwidth and money."""
    config, holds, wires = facts["config"], facts["holds"], facts["kbit_per_s"]
    assumed = " (assumed)" if facts["gpu_is_assumed"] else ""
    watchers = list(dict.fromkeys(row["watchers"] for row in facts["sizes"]))
    body = []
    for row in facts["sizes"]:
        if row["watchers"] != watchers[0]:
            continue
        same = [one for one in facts["sizes"] if (one["way"], one["streams"]) == (row["way"], row["streams"])]
        has_gpus = row["way"] == "pool of GPUs"
        body.append(
            [
                f"{row['streams']:,}",
                row["way"] + (assumed if has_gpus else ""),
                f"{row['servers'] + row['gateways']:,}",
                f"{row['replicas']:,}" if row["replicas"] else "–",
                f"{row['gpus']:,}{assumed}" if has_gpus else "–",
                f"{row['vcpus']:,}",
                f"{row['egress_gbit']:,.1f}",
                f"{row['inner_gbit']:,.1f}" if row["inner_gbit"] else "–",
                *(f"{one['month'] / 1000:,.0f}" for one in same),
            ]
        )
    head = ["streams", "denoised by", "servers or gateways", "replicas", "GPUs", "vCPUs"]
    head += ["frames out, Gbit/s", "inner, Gbit/s"]
    head += [f"1,000 $ a month, {number} watcher{'s' * (number > 1)} each" for number in watchers]
    shown = [
        [
            f"{row['watchers']:,}",
            f"{row['relays']:,}",
            f"{row['layers']}",
            f"{row['vcpus']:,}",
            f"{row['egress_gbit']:,.1f}",
            f"{row['month'] / 1000:,.1f}",
        ]
        for row in facts["broadcast"]
    ]
    cards = "; ".join(f"{row['nic_gbit']:g} Gbit/s: {row['gateway_streams']:,}" for row in facts["network"])
    network = facts["network"][0]
    inner = wires["there"] + wires["back"]
    inner_month = 0.01 * gigabytes(inner / 1e6)
    return (
        f"One of each holds, in time: a server of {holds['server_cores']} cores {holds['server']} streams, a "
        f"gateway {holds['gateway']}, a replica {holds['replica']},\na GPU {holds['gpu']:,}{assumed}; "
        f"{100 * config['fill']:.0f} % of that is planned. Assumed prices: $ {config['vcpu_hour']:g} a vCPU "
        f"hour, $ {config['gpu_hour']:g} a GPU hour,\n$ {config['egress_gb']:g} a GB out, "
        f"$ {config['inner_gb']:g} a GB inside\n{_command(machine, facts)}:\n\n"
        + rows(head, body)
        + f"\n\nA stream is {wires['audio']:.0f} kbit/s of audio in, {wires['frames']:.0f} kbit/s of frames "
        f"to each who sees them, and **{inner / 1000:.1f} Mbit/s between gateway and pool**:\n"
        f"$ {inner_month:.0f} a month where a GB inside costs a cent. A full gateway sends "
        f"{network['gateway_gbit']:.2f} Gbit/s. The network card of a machine of gateways is full at\n"
        f"so many streams: {cards}. A GPU{assumed} would hear {network['gpu_gbit']:g} Gbit/s.\n\n"
        "One stream before many watchers, behind relays:\n\n"
        + rows(["watchers", "relays", "layers", "vCPUs", "frames out, Gbit/s", "1,000 $ a month"], shown)
    )


BLOCKS: dict[str, Callable[[], str]] = {"scale-check": _each(check), "scale": _each(scale)}
