"""``diffspeaker tune``: what it times, what it chooses, what it writes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from streamer.cli.main import main
from streamer.cli.serve import ServeOptions
from streamer.engine.bundle import Bundle
from streamer.engine.tuning import Row, choose, measure, requests_of, workers_of
from tests import fakes

HOP_MS = 200 / 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fakes.write_bundle(tmp_path / "bundle", variants=("int8",))


def row(variant: str, threads: int, batch: int, batch_ms: float) -> Row:
    return Row("CPUExecutionProvider", variant, threads, batch, batch_ms)


def test_the_most_windows_per_second_win_with_the_largest_batch_that_fits_half_a_hop() -> None:
    slow = [row("fp32", 1, batch, 10.0 * batch) for batch in (1, 2, 4, 8)]
    fast = [row("int8", 1, batch, 4.0 * batch) for batch in (1, 2, 4, 8, 16)]
    best = choose([*slow, *fast], HOP_MS)
    assert (best.variant, best.batch) == ("int8", 8)


def test_a_few_percent_are_not_worth_another_thread_but_more_are() -> None:
    one = [row("int8", 1, 1, 5.0), row("int8", 1, 4, 16.0)]
    two_workers = choose([*one, row("int8", 2, 1, 4.0), row("int8", 2, 4, 11.0)], HOP_MS, cores=2)
    assert two_workers.threads == 1, "two windows on a core each are done sooner than both on two"
    assert workers_of(two_workers, 2) == 2 and workers_of(row("int8", 2, 1, 4.0), 2) == 1
    assert choose([*one, row("int8", 2, 1, 4.8), row("int8", 2, 4, 15.0)], HOP_MS).threads == 1
    assert choose([*one, row("int8", 2, 1, 4.8), row("int8", 2, 4, 10.0)], HOP_MS).threads == 2


def test_where_not_even_one_window_fits_half_a_hop_it_goes_alone() -> None:
    assert choose([row("fp32", 1, 1, 60.0), row("fp32", 1, 8, 300.0)], HOP_MS).batch == 1


def test_every_setting_is_timed_and_told(folder: Path) -> None:
    told: list[None] = []
    rows = measure(
        Bundle.load(folder),
        threads=[1, 2],
        variants=["fp32", "int8"],
        batches=[1, 3],
        rounds=2,
        on_row=lambda: told.append(None),
    )
    assert {(r.variant, r.threads, r.batch) for r in rows} == {
        (variant, threads, batch) for variant in ("fp32", "int8") for threads in (1, 2) for batch in (1, 3)
    }
    assert all(r.batch_ms > 0 and r.windows_per_s > 0 for r in rows)
    assert len(told) == 8 * 2


def test_the_windows_that_are_timed_hear_something(folder: Path) -> None:
    requests = requests_of(Bundle.load(folder), 2)
    assert all(abs(request.audio).mean() > 0.01 for request in requests)


def test_the_command_writes_a_file_that_serve_understands(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.cli.config import parse

    out = tmp_path / "diffspeaker.toml"
    assert main(["tune", "--bundle", str(folder), "-o", str(out)]) == 0
    assert "ms per window" in capsys.readouterr().out
    table = tomllib.loads(out.read_text())["serve"]
    assert table["provider"] == "cpu" and table["variant"] in ("fp32", "int8")
    options = parse(ServeOptions, ["--config", str(out)], "diffspeaker serve", "")
    chosen = (options.workers, options.threads, options.max_batch)
    assert chosen == (table["workers"], table["threads"], table["max_batch"])
    assert main(["tune", "--bundle", str(folder), "-o", str(out)]) != 0
    assert "--overwrite" in capsys.readouterr().err
    assert main(["tune", "--bundle", str(folder), "-o", "-"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["serve"]["max_batch"] >= 1
