"""``python -m benchmarks.figures``: writes the pages' figures from the results that are committed.

Results live in ``benchmarks/results/*.json``, each written by a benchmark with its machine and commit. A page
holds its figures between two comments; a test checks that nobody edited them by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures: python -m benchmarks.figures -->\n", "<!-- /figures -->"


def _load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def _where(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; commit {result['commit']}"


def latency_table() -> str:
    """One live session at real-time pace."""
    result = _load("latency")
    config = result["config"]
    lines = [
        f"One live session at real-time pace for {config['seconds']:g} s, "
        f"lookahead {config['lookahead_ms']:g} ms, hop {config['hop_ms']:.0f} ms\n"
        f"(`python -m benchmarks.latency --json benchmarks/results/latency.json`;\n{_where(result)}):\n",
        "| milliseconds | p50 | p95 | p99 |",
        "|---|---|---|---|",
    ]
    for name, row in result.items():
        if name.endswith("_ms"):
            title = (
                "**sample in to frame at the client**"
                if name == "end_to_end_ms"
                else name.removesuffix("_ms")
            )
            lines.append(f"| {title} | " + " | ".join(f"{row[q]:.1f}" for q in ("p50", "p95", "p99")) + " |")
    lines.append(
        f"\nSeam ratio {result['seam_ratio']:.2f} (1 is perfect). Streaming costs "
        f"{result['offline_online_gap']:.1f} mm² of lip-vertex error\nagainst the widest window, "
        f"where a still face has {result['offline_motion']:.0f}."
    )
    return "\n".join(lines)


def lips_table() -> str:
    """What the default model reads on voices that it never heard."""
    result = _load("lips")
    config = result["config"]
    rows = (
        ("/p b m/ told from other phones by the lip gap (AUC)", f"{result['closure_auc']:.3f}"),
        ("/p b m/ that close to under 1 mm", f"{100 * result['closure_recall']:.0f} %"),
        ("open vowels that wrongly do", f"{100 * result['false_closure']:.1f} %"),
        ("/f v/ told by the tucked lower lip (AUC)", f"{result['labiodental_auc']:.3f}"),
        ("rounded from spread vowels (AUC)", f"{result['rounding_auc']:.3f}"),
        ("correlation of the opening with its lesson", f"{result['opening_r']:.3f}"),
        ("lag against the lesson", f"{result['lag_ms']:.0f} ms"),
        (
            "lip-vertex error, LVE (a still face has " + f"{result['lve_still_mm2']:.0f})",
            f"{result['lve_mm2']:.1f} mm²",
        ),
        ("lip gap in pauses, 95th percentile", f"{result['silence_gap_mm']:.1f} mm"),
        ("blinks per minute of silence", f"{result['blinks_per_minute']}"),
    )
    lines = [
        f"Lips, {config['utterances']} utterances ({config['seconds']:.0f} s) of held-out synthetic voices, "
        f"through the live path\n(`python -m benchmarks.lips CORPUS --json benchmarks/results/lips.json`; "
        f"commit {result['commit']}):\n",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    return "\n".join(lines)


def teacher_line() -> str:
    """What distillation cost: the teacher's weights in the same two-step graph."""
    teacher, student = _load("lips-teacher"), _load("lips")
    return (
        f"The teacher's weights, in the same two steps, undistilled (`lips-teacher.json`): closure AUC "
        f"{teacher['closure_auc']:.3f}\n(the student {student['closure_auc']:.3f}), lip-vertex error "
        f"{teacher['lve_mm2']:.1f} mm² ({student['lve_mm2']:.1f})."
    )


PAGES = {
    "README.md": lambda: f"{latency_table()}\n\n{lips_table()}\n",
    "docs/model_card.md": lambda: f"{lips_table()}\n\n{teacher_line()}\n",
}


def rewritten(page: str, text: str) -> str:
    """A page's text with the figures of the committed results; ValueError where it has no place for them."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} has no place for the figures")
    return before + BEGIN + PAGES[page]() + END + after


def main() -> int:
    for page in PAGES:
        path = ROOT / page
        path.write_text(rewritten(page, path.read_text()))
        print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
