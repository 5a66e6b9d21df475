"""``python -m benchmarks.figures``: writes the pages' figures from the results that are committed.

Results live in ``benchmarks/results/*.json``, each written by a benchmark or by ``python -m model.evaluate``,
with its machine and commit; what is a matter of speed has its machine in the file's name. A page holds each
block of figures between two comments, the first of which names it; a test checks that nobody edited them by
hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import cluster_tables, fuzz_tables, lip_tables, scale_tables, speed_tables
from benchmarks.provenance import RESULTS, ROOT

PAGES = ("README.md", "MODEL_CARD.md", "docs/performance.md", "docs/scaling.md", "docs/security-testing.md")
_BLOCK = re.compile(r"(<!-- python -m benchmarks.figures: ([\w-]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)


def _load(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def _steps() -> str:
    return lip_tables.steps(_load("steps") if (RESULTS / "steps.json").exists() else None)


def _lips(table: Callable[[Any], str], name: str = "lips") -> Callable[[], str]:
    return lambda: table(_load(name))


BLOCKS: dict[str, Callable[[], str]] = {
    **speed_tables.BLOCKS,
    **fuzz_tables.BLOCKS,
    **cluster_tables.BLOCKS,
    **scale_tables.BLOCKS,
    "bundle": _lips(lip_tables.bundle),
    "english": _lips(lip_tables.english),
    "others": _lips(lip_tables.others),
    "conditions": _lips(lip_tables.conditions),
    "lookaheads": _lips(lip_tables.lookaheads),
    "languages": _lips(lip_tables.languages),
    "voices": _lips(lip_tables.voices),
    "actors": _lips(lip_tables.actors, "lips-actors"),
    "idle": _lips(lip_tables.idle),
    "steps": _steps,
}


def rewritten(text: str) -> str:
    """A page's text with the figures of the committed results.

    Raises:
        ValueError: the page has no place for figures, or a block of a name that nothing fills.
    """

    def filled(block: re.Match[str]) -> str:
        if block[2] not in BLOCKS:
            raise ValueError(f"no figures are called {block[2]!r}: there are {', '.join(BLOCKS)}")
        return f"{block[1]}{BLOCKS[block[2]]()}\n{block[3]}"

    found, count = _BLOCK.subn(filled, text)
    if not count:
        raise ValueError("the page has no place for figures")
    return found


def main() -> int:
    for page in PAGES:
        path = ROOT / page
        path.write_text(rewritten(path.read_text()))
        print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
