"""The dashboard and the alerts know the server's metrics, all of them, and only those."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from diffspeaker_client import connect

from tests import fakes
from tests.serving import MONO, Place, everything, fetch, play, say

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "observability"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
ALERTS = (FOLDER / "alerts.yaml").read_text()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"\bface_\w+")
# Of a histogram the dashboard asks for buckets, or for what a mean needs; `_created` is when it began.
PARTS = ("_bucket", "_sum", "_count")


@pytest.fixture(scope="module")
def exposed(folder: Path) -> set[str]:
    """The names of the series that a server which was spoken to exposes."""
    found: set[str] = set()

    async def scenario(running: Place) -> None:
        async with connect(running.url(), "converse", audio=MONO) as face:
            await say(face, fakes.speech(1))
            await face.end()
            await everything(face)
        body = (await fetch(running, "/metrics"))[2].decode()
        lines = [line for line in body.splitlines() if line and not line.startswith("#")]
        found.update(re.split(r"[{ ]", line)[0] for line in lines)

    play(scenario, folder)
    # Errors are counted by their code, from the first one on.
    return {name for name in found if not name.endswith("_created")} | {"face_errors_total"}


def family(series: str) -> str:
    for part in PARTS:
        series = series.removesuffix(part)
    return series


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_every_expression_asks_for_series_that_exist(exposed: set[str]) -> None:
    asked = {name for text in (*expressions(), ALERTS) for name in METRIC.findall(text)}
    assert asked <= exposed, asked - exposed
    assert len(asked) > 15


def test_every_metric_is_on_the_dashboard_and_in_the_page(exposed: set[str]) -> None:
    page = (FOLDER.parent / "observability.md").read_text()
    shown = {family(name) for text in expressions() for name in METRIC.findall(text)}
    assert {family(name) for name in exposed} == shown
    assert shown <= {family(name) for name in METRIC.findall(page)}


def test_a_share_of_late_windows_is_of_windows_each_of_which_was_counted_once() -> None:
    shares = [
        text
        for text in (*expressions(), *ALERTS.split("- alert:"))
        if "face_deadline_miss_total" in text and re.search(r"\s/\s", text)
    ]
    # Every window notes the size of its batch, so that the sum counts each as often as its batch has windows.
    assert len(shares) == 2 and all("face_batch_size_count" in text for text in shares)
    assert not any("face_batch_size_sum" in text for text in shares)


def test_what_fell_back_while_starting_shows_though_it_never_rises_again() -> None:
    texts = [text for text in (*expressions(), ALERTS) if "face_backend_fallback_total" in text]
    assert len(texts) == 2
    assert not any(re.search(r"(rate|increase)\(face_backend_fallback_total", text) for text in texts)


def test_panels_have_a_sentence_a_unit_and_a_place_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, int] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}", "whoever imports it chooses"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "instance"]


def test_every_alert_has_a_weight_and_says_what_to_do() -> None:
    rules: list[dict[str, Any]] = []
    for block in ALERTS.split("      - alert: ")[1:]:
        name = block.splitlines()[0]
        rules.append({"name": name, "text": block})
        assert re.search(r"\n        expr: \S", block), name
        assert re.search(r"\n        for: \d+m\n", block), name
        assert re.search(r"\n        labels: \{severity: (page|ticket)\}\n", block), name
        assert re.search(r'\n          summary: ".+"\n', block), name
        assert re.search(r'\n          description: ".+\."\n', block), name
    assert len(rules) >= 5 and len({rule["name"] for rule in rules}) == len(rules)
