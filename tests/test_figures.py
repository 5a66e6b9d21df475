"""The README's figures are those of the committed results."""

from __future__ import annotations

from benchmarks.figures import ROOT, rewritten


def test_the_readmes_figures_are_the_committed_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert rewritten(readme) == readme
