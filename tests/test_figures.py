"""The pages' figures are those of the committed results."""

from __future__ import annotations

import pytest

from benchmarks.figures import PAGES, ROOT, rewritten


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_figures_are_the_committed_results(page: str) -> None:
    text = (ROOT / page).read_text()
    assert rewritten(page, text) == text
