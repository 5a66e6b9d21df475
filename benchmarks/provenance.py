"""What every result carries: the machine, the software, the commit and the time of the run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def provenance() -> dict[str, Any]:
    """Machine, versions, commit (with ``+`` where files differ from it) and time of the run in UTC."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__},
        "commit": _commit(),
        "measured": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
    }


def percentiles(values: Any) -> dict[str, float]:
    """p50, p95 and p99, rounded to two decimals."""
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95, 99)}


def write(path: Path | None, result: dict[str, Any]) -> None:
    """Writes a result as indented JSON, where a path is given."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(f"wrote {path}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (
        "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    )
