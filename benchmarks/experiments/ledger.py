"""An experiment's finished runs in its JSON file, and how its command starts and ends.

Every run is written the moment it is finished, so an interrupted experiment goes on where it stopped. The
file belongs to one configuration: runs made under another are refused, never mixed in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


class Ledger:
    """``runs``: one flat dictionary each, its identity (what was varied) and its figures."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        """Opens or begins the file; ValueError where it holds runs of another configuration."""
        self.path = path
        self.config = json.loads(json.dumps(config))
        self.runs: list[dict[str, Any]] = []
        if path.exists():
            before = json.loads(path.read_text())
            if before["config"] != self.config:
                changed = sorted(k for k in self.config if before["config"].get(k) != self.config[k])
                raise ValueError(
                    f"{path} holds runs with other settings ({', '.join(changed)}): "
                    "move it away, or name another file with --json"
                )
            self.runs = before["runs"]

    def find(self, **identity: Any) -> dict[str, Any] | None:
        """The finished run with these values, or None."""
        return next((run for run in self.runs if identity.items() <= run.items()), None)

    def record(self, identity: dict[str, Any], figures: dict[str, Any]) -> None:
        """Adds a finished run and writes the file."""
        self.runs.append({**identity, **figures})
        facts = provenance()
        facts["versions"]["torch"] = torch.__version__
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join("    " + json.dumps(run) for run in self.runs)
        head = json.dumps({"config": self.config, **facts}, indent=2).removesuffix("\n}")
        part = self.path.with_suffix(".part")
        part.write_text(f'{head},\n  "runs": [\n{lines}\n  ]\n}}\n')
        part.replace(self.path)


def arguments(question: str, description: str | None) -> argparse.ArgumentParser:
    """The options that every experiment has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.experiments.{question}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=RESULTS / f"experiments-{question}.json",
        help="finished runs, read to resume (benchmarks/results/)",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    return parser


def run_command(question: str, main: Callable[[], int]) -> None:
    """Runs a command and ends the process as the others of the project do."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Stopped; finished runs are kept, and the same command goes on from them.", file=sys.stderr)
        sys.exit(130)
    except (FileNotFoundError, ValueError) as error:
        print(f"benchmarks.experiments.{question}: {error}", file=sys.stderr)
        sys.exit(2)
