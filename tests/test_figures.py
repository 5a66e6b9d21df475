"""The pages' figures are those of the committed results."""

from __future__ import annotations

import copy
import json

import pytest

from benchmarks import lip_tables
from benchmarks.figures import BLOCKS, PAGES, RESULTS, ROOT, rewritten

FACTS = json.loads((RESULTS / "lips.json").read_text())


@pytest.mark.parametrize("page", PAGES)
def test_a_pages_figures_are_the_committed_results(page: str) -> None:
    text = (ROOT / page).read_text()
    assert rewritten(text) == text


def test_every_block_has_its_place_in_the_model_card_or_the_readme() -> None:
    text = "".join((ROOT / page).read_text() for page in PAGES)
    assert [name for name in BLOCKS if f"benchmarks.figures: {name} -->" not in text] == []


def test_a_page_without_a_place_for_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        rewritten("# A page\n")
    with pytest.raises(ValueError, match="'moon'"):
        rewritten("<!-- python -m benchmarks.figures: moon -->\n<!-- /figures -->")


def test_figures_edited_by_hand_are_written_anew() -> None:
    text = (ROOT / "MODEL_CARD.md").read_text()
    closure = f"{FACTS['english']['conditions']['clean']['closure_auc']:.3f}"
    assert closure in text
    assert rewritten(text.replace(closure, "1.234")) == text


def test_a_quick_look_is_said_to_be_one() -> None:
    facts = copy.deepcopy(FACTS)
    facts["basis"]["every"] = 12
    assert "one recording in 12" in lip_tables.english(facts)
    facts["basis"]["every"] = 1
    assert "quick look" not in lip_tables.english(facts)


def test_an_aim_that_is_missed_says_no() -> None:
    facts = copy.deepcopy(FACTS)
    facts["english"]["conditions"]["clean"]["closure_auc"] = 0.5
    row = next(line for line in lip_tables.english(facts).splitlines() if "closure: P B M" in line)
    assert "≥ 0.98" in row and "0.500" in row and "**no**" in row
    facts["english"]["conditions"]["clean"]["closure_auc"] = 0.99
    assert "| yes |" in next(
        line for line in lip_tables.english(facts).splitlines() if "closure: P B M" in line
    )


@pytest.mark.parametrize(
    "name", ["english", "others", "conditions", "lookaheads", "languages", "voices", "actors", "idle"]
)
def test_what_was_not_measured_is_said_with_the_command_that_measures_it(name: str) -> None:
    bare = {key: value for key, value in FACTS.items() if key in ("basis", "bundle", "commit")}
    assert "python -m model.evaluate" in getattr(lip_tables, name)(bare)


def test_the_table_of_steps_has_a_row_for_each() -> None:
    row = {
        "lve_mm2": 5.0,
        "lve_ratio": 1.02,
        "closure_auc": 0.99,
        "fdd_mm": 0.01,
        "jitter": 1.0,
        "blinks_per_minute": 17,
        "diversity_mm": 0.1,
        "ms_per_window": 12.5,
    }
    table = {"steps": {"teacher, 50 steps": row, "student, 1 steps": row}, "commit": "abc"}
    text = lip_tables.steps({**table, "config": {"utterances": 3, "seconds": 9.0}})
    assert text.count("| 5.00 | 1.020 | 0.990 |") == 2
    assert "benchmarks.steps" in lip_tables.steps(None)
