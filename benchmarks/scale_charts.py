"""The pictures of ``benchmarks.scale_model``: the check against what was measured, and large scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.provenance import where

COLOURS = ("#1f6fb4", "#d1602b", "#2f8f5b", "#8a4fa8")
GREY = "#777777"


def save(figure: Figure, path: Path) -> None:
    """Writes a picture, the same bytes for the same figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    print(f"wrote {path}")


def check(result: dict[str, Any]) -> Figure:
    """Measured and simulated p99 against speakers, for a server alone and for a pool."""
    figure, both = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    titles = {"local": "engine in the server", "pool": "pool of two replicas"}
    for axes, (kind, title) in zip(both, titles.items(), strict=True):
        rows = [row for row in result["check"] if row["engine"] == kind]
        x = [row["streams"] for row in rows]
        y = [row["simulated_p99_ms"] for row in rows]
        axes.fill_between(
            x, [0.8 * v for v in y], [1.2 * v for v in y], color=COLOURS[0], alpha=0.15, linewidth=0
        )
        axes.plot(x, y, color=COLOURS[0], label="simulated, ± 20 %")
        axes.plot(x, [row["measured_p99_ms"] for row in rows], "o", color=COLOURS[1], label="measured")
        twice = [row for row in rows if row["again_p99_ms"]]
        if twice:
            axes.plot(
                [row["streams"] for row in twice],
                [row["again_p99_ms"] for row in twice],
                "o",
                color=COLOURS[1],
                markerfacecolor="white",
                label="measured again",
            )
        learnt = max((row["streams"] for row in rows if row["learnt_from"]), default=0)
        axes.axvspan(0, learnt + 0.5, color="#eeeeee", linewidth=0, zorder=0)
        axes.annotate(
            "learnt\nfrom",
            (learnt / 2, 0.97),
            xycoords=("data", "axes fraction"),
            color=GREY,
            fontsize=8,
            va="top",
            ha="center",
        )
        _deadline(axes, result["deadline_ms"], max(x))
        axes.set_yscale("log")
        axes.set_yticks(
            [50, 100, 200, 500, 1000, 2000, 5000], ["50", "100", "200", "500", "1 s", "2 s", "5 s"]
        )
        axes.minorticks_off()
        axes.set_xlim(left=0)
        _plain(axes, title, "speakers at real-time pace")
    both[0].set_ylabel("p99 of a frame's latency, ms")
    both[0].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(0.0, 0.72))
    _caption(figure, result)
    return figure


def scale(result: dict[str, Any]) -> Figure:
    """Latency against load, where windows wait, bandwidth and money."""
    figure, grid = pyplot.subplots(2, 2, figsize=(10, 7.4), layout="constrained")
    _latency(grid[0, 0], result)
    _waits(grid[0, 1], result)
    _bandwidth(grid[1, 0], result)
    _money(grid[1, 1], result)
    _caption(figure, result)
    return figure


def _latency(axes: Axes, result: dict[str, Any]) -> None:
    kinds = dict.fromkeys(row["replicas"] for row in result["curves"])
    for colour, marker, replicas in zip(COLOURS, "osD", kinds, strict=False):
        rows = [row for row in result["curves"] if row["replicas"] == replicas]
        axes.plot(
            [row["load"] for row in rows],
            [row["p99_ms"] for row in rows],
            marker=marker,
            markersize=4,
            color=colour,
            label=f"{replicas} replica{'s' * (replicas > 1)}",
        )
    _deadline(axes, result["deadline_ms"], 0.3, left=True)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    _plain(axes, "p99 of a frame's latency, ms (simulated)", "load, of what the engines could compute")


def _waits(axes: Axes, result: dict[str, Any]) -> None:
    x = [100 * row["share"] for row in result["stations"]]
    for colour, (name, words) in zip(
        COLOURS,
        {
            "engine": "for the engine",
            "loop": "for a replica's loop",
            "gateway": "for a gateway's loop",
        }.items(),
        strict=False,
    ):
        axes.plot(
            x,
            [row[f"{name}_wait_ms"] for row in result["stations"]],
            "o-",
            markersize=4,
            color=colour,
            label=words,
        )
    axes.axvline(100 * result["config"]["fill"], color=GREY, linestyle=":")
    axes.annotate(
        "planned ",
        (100 * result["config"]["fill"], 0.02),
        xycoords=("data", "axes fraction"),
        ha="right",
        color=GREY,
        fontsize=8,
    )
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _plain(axes, "mean wait in a pool of 8 replicas, ms (simulated)", "streams, % of what the pool holds")


def _bandwidth(axes: Axes, result: dict[str, Any]) -> None:
    words = {
        "frames": "frames, to each",
        "audio": "audio in",
        "back": "motion, from pool",
        "there": "windows, to pool",
    }
    values = [result["kbit_per_s"][name] for name in words]
    colours = [COLOURS[0], COLOURS[0], COLOURS[1], COLOURS[1]]
    axes.barh(list(words.values()), values, color=colours, height=0.6)
    for place, value in enumerate(values):
        text = f"{value / 1000:.1f} Mbit/s" if value >= 1000 else f"{value:.0f} kbit/s"
        axes.annotate(
            text, (value, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_xlim(right=1.3 * max(values))
    _plain(axes, "bandwidth of one stream", "kbit/s")
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)


def _money(axes: Axes, result: dict[str, Any]) -> None:
    streams = max(row["streams"] for row in result["sizes"])
    rows = [row for row in result["sizes"] if row["streams"] == streams]
    places = [place + place // 3 * 0.5 for place in range(len(rows))]
    below = [0.0] * len(rows)
    causes = {"vcpu": "processors", "gpu": "GPUs", "egress": "frames out", "inner": "inner traffic"}
    for colour, (cause, word) in zip(COLOURS, causes.items(), strict=True):
        values = [row[f"{cause}_month"] / streams for row in rows]
        if any(values):
            axes.bar(places, values, bottom=below, color=colour, width=0.7, label=word)
        below = [low + value for low, value in zip(below, values, strict=True)]
    for place, total in zip(places, below, strict=True):
        axes.annotate(
            f"{total:.2f}", (place, total), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=9
        )
    assumed = "\n(assumed)" if result["gpu_is_assumed"] else ""
    names = {"servers": "servers", "pool of processors": "pool", "pool of GPUs": f"GPUs{assumed}"}
    axes.set_xticks(places, [names[row["way"]] for row in rows], fontsize=8)
    axes.set_ylim(0, 1.3 * max(below))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    watchers = " and ".join(str(one) for one in dict.fromkeys(row["watchers"] for row in rows))
    _plain(axes, "dollars a month for a stream, at assumed prices", f"{watchers} watchers of each stream")


def _deadline(axes: Axes, deadline_ms: float, x: float, left: bool = False) -> None:
    axes.axhline(deadline_ms, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        f"deadline, {deadline_ms:.0f} ms",
        (x, deadline_ms),
        xytext=(0, -3 if not left else 3),
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom" if left else "top",
        color="#555555",
        fontsize=8,
    )


def _plain(axes: Axes, title: str, x: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)


def _caption(figure: Figure, result: dict[str, Any]) -> None:
    figure.suptitle(f"from measurements on {where(result)}", fontsize=9, color="#555555", x=0.01, ha="left")
