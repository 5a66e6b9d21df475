"""``python -m benchmarks.charts``: draws the pages' pictures of speed and scale from the committed results.

Pictures in ``docs/images``: ``engine.png``, milliseconds per window against the batch, a line for each
variant; ``capacity.png``, the frames' latency against the number of speakers, with the deadline;
``soak.png``, the server's memory, descriptors, threads and latency over half an hour; ``scale.png`` and
``scale-check.png``, those of ``benchmarks.scale_charts``. A result is found by its benchmark's name
(``results/NAME-MACHINE.json``); where several machines were measured, each has a picture.
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import scale_charts
from benchmarks.provenance import ROOT, committed, where

IMAGES = ROOT / "docs" / "images"
COLOURS = ("#1f6fb4", "#d1602b", "#2f8f5b", "#8a4fa8")


def engine(result: dict[str, Any]) -> Figure:
    """Milliseconds per window against the batch."""
    figure, axes = _axes("windows in a batch", "milliseconds per window", where(result))
    kinds = dict.fromkeys((row["provider"], row["variant"]) for row in result["rows"])
    for colour, (provider, variant) in zip(COLOURS, kinds, strict=False):
        rows = [r for r in result["rows"] if (r["provider"], r["variant"]) == (provider, variant)]
        x, y = [row["batch"] for row in rows], [row["ms_per_window"] for row in rows]
        axes.plot(x, y, "o-", color=colour)
        _name(axes, x[-1], y[-1], f"{provider} {variant}", colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks([row["batch"] for row in result["rows"]], [str(row["batch"]) for row in result["rows"]])
    axes.set_ylim(bottom=0)
    axes.margins(x=0.2)
    return figure


def capacity(result: dict[str, Any]) -> Figure:
    """The frames' latency against the number of speakers."""
    figure, axes = _axes("speakers at real-time pace", "latency of a frame, ms", where(result))
    x = [row["streams"] for row in result["rows"]]
    for colour, name in zip(COLOURS, ("p50", "p95", "p99"), strict=False):
        y = [row[f"{name}_ms"] for row in result["rows"]]
        axes.plot(x, y, "o-", color=colour)
        _name(axes, x[-1], y[-1], name, colour)
    deadline = result["deadline_ms"]
    axes.axhline(deadline, color="#777777", linestyle="--")
    axes.text(x[0], deadline, f"deadline, {deadline:.0f} ms", color="#555555", va="bottom")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    return figure


def soak(result: dict[str, Any]) -> Figure:
    """What must not grow, over time: small multiples."""
    figure, grid = pyplot.subplots(4, 1, figsize=(7, 7), layout="constrained", sharex=True)
    minutes = [row["at_s"] / 60 for row in result["rows"]]
    slope = result["rss_mb_per_hour"]
    notes = {
        "rss_mb": f"memory, MB: {slope['slope']:+.1f} an hour ({slope['low']:+.1f} to {slope['high']:+.1f})",
        "fds": "file descriptors",
        "threads": "threads",
        "p99_ms": "latency of a frame, p99, ms",
    }
    for axes, colour, (name, title) in zip(grid, COLOURS, notes.items(), strict=True):
        values = [row[name] for row in result["rows"]]
        axes.plot(minutes, values, color=colour, linewidth=1.2)
        axes.set_title(title, fontsize=10, color=colour, loc="left")
        axes.set_ylim(0, 1.25 * max(values))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd")
    grid[-1].set_xlabel("minutes")
    share = f"{result['speakers']} of {result['places']} places taken"
    figure.suptitle(f"{share}; {where(result)}", fontsize=9, color="#555555", x=0.01, ha="left")
    return figure


PICTURES = {
    "engine": engine,
    "capacity": capacity,
    "soak": soak,
    "scale": scale_charts.scale,
    "scale-check": scale_charts.check,
}


def _axes(x: str, y: str, caption: str) -> tuple[Figure, Axes]:
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(caption, fontsize=9, color="#555555", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")
    return figure, axes


def _name(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.annotate(text, (x, y), xytext=(8, 0), textcoords="offset points", color=colour, va="center")


def main() -> int:
    for name, draw in PICTURES.items():
        for machine, result in committed(name.partition("-")[0]).items():
            path = IMAGES / f"{name}-{machine}.png"
            figure = draw(result)
            figure.savefig(path, dpi=110, metadata={"Software": None})
            pyplot.close(figure)
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
