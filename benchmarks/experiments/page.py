"""``python -m benchmarks.experiments.page``: draws the plots and writes the tables of docs/experiments.md.

The answers are written by hand between the blocks; a block holds what the committed JSON says and where it
was measured. A test checks that nobody edited a block, and that the answers' claims hold in the JSON.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.experiments import attention, liveliness, parallel
from benchmarks.experiments.ledger import RESULTS, ROOT

PAGE = ROOT / "docs" / "experiments.md"
IMAGES = ROOT / "docs" / "images"
QUESTIONS: dict[str, ModuleType] = {"attention": attention, "parallel": parallel, "liveliness": liveliness}


def load(question: str, results: Path = RESULTS) -> dict[str, Any]:
    """The committed runs of a question."""
    result: dict[str, Any] = json.loads((results / f"experiments-{question}.json").read_text())
    return result


def block(question: str, result: dict[str, Any]) -> str:
    """The generated part of a question's section."""
    machine = result["machine"]
    where = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, torch "
        f"{result['versions']['torch']}; commit {result['commit']}"
    )
    return f"{QUESTIONS[question].table(result)}\n\n{len(result['runs'])} runs; {where}.\n"


def rewritten(text: str, results: Path = RESULTS) -> str:
    """The page with every block as the results say; ValueError where a block has no place."""
    for question in QUESTIONS:
        begin, end = f"<!-- {question}: python -m benchmarks.experiments.page -->\n", f"<!-- /{question} -->"
        place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not place.search(text):
            raise ValueError(f"docs/experiments.md has no block for {question}")
        new = begin + block(question, load(question, results)) + end
        text = place.sub(lambda _, new=new: new, text)
    return text


def main() -> int:
    for question, module in QUESTIONS.items():
        path = IMAGES / f"experiments-{question}.png"
        module.plot(load(question)).savefig(path, dpi=110, metadata={"Software": None})
        print(f"wrote {path.relative_to(ROOT)}")
    PAGE.write_text(rewritten(PAGE.read_text()))
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
