"""Capacity and fan-out: small real runs over real sockets, and the arithmetic of the verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import capacity, fanout, overload
from benchmarks.capacity import passed, settled_ms, verdicts
from benchmarks.fanout import summary
from benchmarks.load import Heard, sample
from tests import fakes


def test_two_speakers_are_held_and_every_frame_comes(tmp_path: Path) -> None:
    folder, path = fakes.write_bundle(tmp_path / "bundle"), tmp_path / "capacity.json"
    words = ["--streams", "1,2", "--seconds", "1", "--all", "--bundle", str(folder), "--json", str(path)]
    assert capacity.main(words) == 0
    result = json.loads(path.read_text())
    assert [row["streams"] for row in result["rows"]] == [1, 2]
    assert all(row["every_frame_came"] for row in result["rows"])
    assert [row["frames"] for row in result["rows"]] == [30, 60]
    assert result["deadline_ms"] == pytest.approx(66.7 + 50, abs=0.1)
    assert result["single"]["compute_p99_ms"] >= 0
    assert result["single"]["end_to_end_p95_ms"] > 80


def test_a_level_is_failed_by_its_99th_percentile_or_by_one_lost_frame() -> None:
    row = {"p99_ms": 100.0, "every_frame_came": True}
    assert passed(row, 116.7)
    assert not passed(row | {"p99_ms": 120.0}, 116.7)
    assert not passed(row | {"every_frame_came": False}, 116.7)


def test_the_first_seconds_are_left_out() -> None:
    heard = Heard(frame=[0, 89, 90, 91], latency_s=[9.0, 9.0, 0.05, 0.06], frames=4)
    assert settled_ms([heard, heard]) == [50, 60, 50, 60]


def test_a_frame_that_is_missing_twice_or_out_of_order_is_noticed() -> None:
    assert Heard(frame=[0, 1, 2], frames=3).is_whole
    for frames in ([0, 2], [0, 1, 1], [1, 0, 2]):
        assert not Heard(frame=frames, frames=3).is_whole


def test_the_aims_are_told_with_what_was_reached() -> None:
    single = {"compute_p99_ms": 30.0, "end_to_end_p95_ms": 140.0}
    lines = verdicts({"streams": 16, "single": single})
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["yes", "no", "yes"]


def test_speakers_begin_at_different_places_of_the_sample() -> None:
    (one, rate), (other, _) = sample(0.0, 1.0), sample(1.0, 1.0)
    assert len(one) == len(other) == rate
    assert not np.array_equal(one, other)


def test_three_are_inside_while_others_knock_reconnect_and_hurry(tmp_path: Path) -> None:
    folder, path = fakes.write_bundle(tmp_path / "bundle"), tmp_path / "overload.json"
    serve = f"--bundle {folder} --max-sessions 3"
    assert overload.main(["--phase-seconds", "1", "--serve", serve, "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["places"] == 3 and result["every_frame_came"]
    assert [row["frames"] for row in result["rows"]] == [
        60
    ] * 7  # of two speakers; the third is the greedy one
    assert set(result["knock"]["answers"]) == {"at_capacity"} and result["knock"]["clients"] == 15
    assert result["reconnect"]["answers"]["at_capacity"] > 1
    assert result["greedy"]["audio_s"] > 1
    assert set(result["ratios"]) == {"knock", "reconnect", "greedy"}


def test_an_instant_has_its_phase() -> None:
    assert [overload.phase_at(at_s, 10) for at_s in (0, 2.9, 3.1, 13.1, 62.9, 99)] == [
        *("settle", "settle", "quiet 1", "knock", "greedy", "quiet 4"),
    ]
    assert overload.begin_of("knock", 10) == 13 and overload.begin_of("settle", 10) == 0


def test_five_watchers_see_every_frame_of_one_speaker(tmp_path: Path) -> None:
    folder, path = fakes.write_bundle(tmp_path / "bundle"), tmp_path / "fanout.json"
    words = ["--watchers", "5", "--seconds", "2", "--bundle", str(folder), "--json", str(path)]
    assert fanout.main(words) == 0
    result = json.loads(path.read_text())
    assert result["dropped_frames"] == 0 and result["frames"] > 5 * 100
    assert result["watchers"] == 5 and result["speaker_ratio_p50"] > 0


def test_a_watchers_first_blocks_are_left_out_and_the_worst_watcher_is_named() -> None:
    found = {
        "alone_ms": [10.0] * 10,
        "crowd_ms": [20.0] * 10,
        "lag_ms": [[99.0, 1.0, 1.0], [99.0, 3.0, 3.0], [99.0]],
        "frames": 14,
        "missing": 2,
        "joining_s": 0.5,
    }
    result = summary(found, settle_blocks=1)
    assert result["lag_ms"]["p50"] == 2.0 and result["worst_watcher_p99_ms"] == 3.0
    assert (result["watchers"], result["dropped_frames"], result["joins_per_s"]) == (2, 2, 6.0)
    assert result["speaker_ratio_p50"] == 2.0


def test_too_many_files_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout.resource, "getrlimit", lambda _: (100, 200))
    with pytest.raises(SystemExit, match="ulimit -Hn"):
        fanout.raise_file_limit(300)
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(fanout.resource, "setrlimit", lambda _, limits: raised.append(limits))
    fanout.raise_file_limit(150)
    assert raised == [(150, 200)]
