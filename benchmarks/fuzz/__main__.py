"""``python -m benchmarks.fuzz``: hostile bytes for every reader of bytes, hostile connections for a server.

Each target runs in a process of its own for so many seconds. A reader's inputs are made by a coverage-guided
fuzzer (atheris) from the golden vectors of the wire and from small generated files (``targets``). Three more
targets attack a server beside a speaker and a watcher who must lose nothing: *walk* does anything in any
order, *attacks* is slow, silent or floods, *connects* connects ten thousand times.

Whatever is found is printed, and lies in the folder of the run; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.fuzz import hostile, runner
from benchmarks.fuzz.targets import TARGETS
from benchmarks.fuzz.walk import walk
from benchmarks.provenance import provenance, write

LIVE = ("walk", "attacks", "connects")
CONNECTS = 10_000
AT_ONCE = 300
Tick = Callable[[float], None]


def fuzz(name: str, seconds: float, folder: Path, seed: int, tick: Tick) -> dict[str, Any]:
    """One target's counts; ``findings`` says what was found, by its place."""
    if name not in LIVE:
        return runner.fuzz(name, seconds, folder, seed=seed, tick=tick)
    runs: dict[str, Callable[[], Coroutine[Any, Any, dict[str, Any]]]] = {
        "walk": lambda: walk(folder, seed=seed, seconds=seconds, tick=tick),
        "attacks": lambda: hostile.attack(folder, tuple(hostile.ATTACKS), AT_ONCE),
        "connects": lambda: hostile.many_connects(folder, CONNECTS, tick),
    }
    try:
        return {**asyncio.run(runs[name]()), "findings": {}}
    except Exception as error:
        return {"inputs": 0, "findings": {f"{type(error).__name__}: {error}": {"kind": "live", "seed": seed}}}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each target (%(default)s)")
    parser.add_argument(
        "--target", action="append", choices=[*TARGETS, *LIVE], help="only this one; may be said again"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the dice (%(default)s)")
    parser.add_argument("--folder", type=Path, help="keep corpus and findings here, and begin from them")
    parser.add_argument("--json", type=Path, help="write the counts here")
    options = parser.parse_args(argv)
    names = options.target or [*TARGETS, *LIVE]
    if not runner.is_available() and any(name in TARGETS for name in names):
        print("The fuzzer is not installed: pip install atheris (Linux, Python before 3.14)", file=sys.stderr)
        return 2
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    counts: dict[str, Any] = {}
    with tqdm(total=round(options.seconds * len(names)), unit="s", bar_format=_BAR) as bar:
        for number, name in enumerate(names):
            bar.set_description(name)
            end = round(options.seconds * (number + 1))

            def tick(passed_s: float, end: float = end) -> None:
                bar.update(min(passed_s, end - bar.n))

            counts[name] = fuzz(name, options.seconds, folder / name, options.seed, tick)
            bar.update(end - bar.n)
            bar.write(_line(name, counts[name]))
    found = sum(len(one["findings"]) for one in counts.values())
    config = {"seconds": options.seconds, "seed": options.seed, "connects": CONNECTS, "at_once": AT_ONCE}
    write(options.json, {"targets": counts, "findings": found, "config": config, **provenance()})
    if found:
        print(f"{found} found: the inputs lie in {folder}")
    elif options.folder is None:
        shutil.rmtree(folder)
    return 1 if found else 0


_BAR = "{desc:10} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}"


def _line(name: str, counts: dict[str, Any]) -> str:
    """One target's counts for the screen."""
    words = [f"{name:9} {counts['inputs']:>9,} tried"]
    if "coverage" in counts:
        words += [f"coverage {counts['coverage']:4}", f"slowest {counts['slowest_ms']:.0f} ms"]
        words += [f"peak {counts['peak_mb']:.0f} MB"]
    if "connects_per_s" in counts:
        words += [f"{counts['connects_per_s']:.0f} a second", f"{counts['refused']} refused"]
    if "healthy_frames" in counts:
        words += [f"the pair's {counts['healthy_frames']} frames came"]
    lines = [", ".join(words)]
    lines += [
        f"  {place} ({finding['kind']}): {str(finding.get('input', ''))[:80]!r}"
        for place, finding in counts["findings"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
