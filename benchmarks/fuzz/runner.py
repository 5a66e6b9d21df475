"""Runs one target in processes of its own and adds up what they found.

A process that crashes (a fault in a C library), hangs or takes too much memory is a finding as any other; a
next one goes on with the corpus for the rest of the time.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.provenance import ROOT

_MOST_CRASHES = 5
_SPARE_S = 60  # to start and for an input that hangs
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_WHY = re.compile(r"ERROR: libFuzzer: (.+)|^(.*Sanitizer:DEADLYSIGNAL)", re.MULTILINE)


def is_available() -> bool:
    """Whether the fuzzer is installed: it has wheels for Linux and CPython before 3.14."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(
    name: str,
    seconds: float,
    folder: Path,
    *,
    seed: int = 0,
    hangs_s: int = 20,
    until_found: bool = False,
    tick: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Fuzzes a target for so long and returns its counts.

    Args:
        name: of the target, or ``module:attribute``. seconds: how long.
        folder: for the corpus and for every input that was found; it is kept.
        seed: of the dice; another one tries other inputs. 0 is any.
        hangs_s: after so many seconds an input counts as one that never ends.
        until_found: stop when the first bug is found.
        tick: told how many seconds passed since it was told last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total: dict[str, Any] = {
        "inputs": 0,
        "named_errors": 0,
        "coverage": 0,
        "crashes": 0,
        "slowest_ms": 0.0,
        "peak_mb": 0.0,
        "findings": {},
    }
    left_s = seconds
    while left_s > 0 and total["crashes"] < _MOST_CRASHES and not (until_found and total["findings"]):
        counts, words, code = _run(name, left_s, folder, seed, hangs_s, until_found, tick)
        for key in ("inputs", "named_errors"):
            total[key] += counts[key]
        for key in ("slowest_ms", "peak_mb"):
            total[key] = round(max(total[key], counts[key]), 1)
        total["findings"].update(counts["findings"])
        for found in _COVERAGE.finditer(words):
            total["coverage"] = max(total["coverage"], int(found[1]))
        left_s -= max(1.0, counts["seconds"])
        if counts["is_done"] or (until_found and counts["findings"]):
            break
        if not counts["inputs"] and not _crashed(folder):
            raise SystemExit(f"The target {name} does not start:\n{words[-2000:]}")
        total["crashes"] += 1
        why = _WHY.search(words)
        place = f"{(why[1] or why[2]).strip() if why else f'it ended with {code}'}"
        newest = max(_crashed(folder), key=lambda path: path.stat().st_mtime, default=None)
        given = newest.read_bytes() if newest else b""
        finding = {"kind": "crash", "bytes": len(given), "input": given[:400].decode("latin-1")}
        total["findings"].setdefault(re.sub(r"\b\d{3,}\b", "N", place), finding)
    return {"seconds": seconds, **total}


def _crashed(folder: Path) -> list[Path]:
    return list(folder.glob("crashed-*"))


def _run(
    name: str,
    seconds: float,
    folder: Path,
    seed: int,
    hangs_s: int,
    until_found: bool,
    tick: Callable[[float], None],
) -> tuple[dict[str, Any], str, int]:
    """One process: its counts, what the fuzzer said, and its exit code."""
    path = folder / "counts.json"
    path.unlink(missing_ok=True)
    words = (name, str(seconds), str(folder.resolve()), str(seed), str(hangs_s))
    began = time.monotonic()
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fuzz.child", *words], cwd=ROOT, stdout=log, stderr=log
        )
        try:
            told = began
            while child.poll() is None:
                time.sleep(0.1)
                now = time.monotonic()
                tick(now - told)
                told = now
                if now - began > seconds + _SPARE_S:
                    break
                if until_found and path.exists() and json.loads(path.read_text())["findings"]:
                    break
        finally:
            child.kill()
            code = child.wait()
        log.seek(0)
        said = log.read()
    none = {
        "inputs": 0,
        "named_errors": 0,
        "slowest_ms": 0.0,
        "peak_mb": 0.0,
        "findings": {},
        "is_done": False,
    }
    counts = json.loads(path.read_text()) if path.exists() else none
    return {**counts, "seconds": time.monotonic() - began}, said, code
