"""How a benchmark's result is written: as JSON, with where it comes from (``model.provenance``)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from model.provenance import provenance as provenance


def percentiles(values: Any) -> dict[str, float]:
    """p50, p95 and p99, rounded to two decimals."""
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95, 99)}


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# An object or a list that holds no other, short enough to be read as a line.
_INNERMOST = re.compile(r"(?:\{|\[)\n[^{}\[\]]{1,240}?(?:\}|\])")


def committed(name: str, folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """A benchmark's committed results by machine, out of ``results/NAME-MACHINE.json``."""
    return {
        path.stem.removeprefix(f"{name}-"): json.loads(path.read_text())
        for path in sorted(folder.glob(f"{name}-*.json"))
    }


def where(result: dict[str, Any]) -> str:
    """The machine and the commit, for a caption."""
    machine = result["machine"]
    facts = f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"
    return f"{facts}; commit {result['commit']}"


def machine_slug() -> str:
    """This machine in a file's name: ``amd-epyc-2-cores``."""
    machine = provenance()["machine"]
    words = re.findall(r"[a-z0-9]+", f"{machine['processor']} {machine['cores']} cores".lower())
    return "-".join(words)


def write(path: Path | None, result: dict[str, Any]) -> None:
    """Writes a result as indented JSON, what is innermost on one line, where a path is given."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=2)
        text = _INNERMOST.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text)
        path.write_text(text + "\n")
        print(f"wrote {path}")
