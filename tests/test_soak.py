"""The soak: a short one for real, and that it finds what it looks for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.clocks import Counted, Listener, Spoken
from benchmarks.soak import evaluate
from streamer.contract import wire
from tests.processes import ROOT
from tests.serving import GUARD_S

CLEAN = {"lost": 0, "drift": 0, "dropped": 0, "failed": 0}
REST = {"before": {"fds": 14}, "after": {"fds": 14}}


def rows(**growth: float) -> list[dict[str, Any]]:
    """Half an hour's readings with some noise; ``growth`` is by the hour."""
    dice, found = np.random.default_rng(0), []
    for number in range(360):
        hours = number * 5 / 3600
        comers = int(dice.integers(0, 8))  # whose connections come and go
        still = {"rss_mb": 180 + dice.normal(), "fds": 40 + comers, "threads": 12, "open": 24 + comers}
        still |= {"cores": 1.0, "p99_ms": 60.0, "lag_samples": 150 + 100 * dice.random()}
        found.append(
            {"at_s": number * 5.0}
            | {name: value + hours * growth.get(name, 0) for name, value in still.items()}
        )
    return found


def broken(found: dict[str, Any]) -> list[str]:
    return [name for name, holds in found["holds"].items() if not holds]


# ---- what a run's readings say ---------------------------------------------------------------------------


def test_a_server_that_stays_as_it_is_passes() -> None:
    found = evaluate(rows(), CLEAN, REST)
    assert broken(found) == [] and found["rss_mb_per_hour"]["low"] < 0 < found["rss_mb_per_hour"]["high"]
    assert found["p99_ms"]["last_over_first"] == 1


@pytest.mark.parametrize(
    ("growth", "bound"),
    [
        ({"rss_mb": 30.0}, "memory"),
        ({"fds": 20.0}, "file descriptors"),
        ({"threads": 20.0}, "threads"),
        ({"lag_samples": 3000.0}, "lag"),
    ],
)
def test_what_grows_is_found(growth: dict[str, float], bound: str) -> None:
    found = evaluate(rows(**growth), CLEAN, REST)
    assert broken(found) == [bound]
    if bound == "memory":
        assert found["rss_mb_per_hour"]["slope"] == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("tally", "bound"),
    [
        ("lost", "no frame lost"),
        ("drift", "no drift"),
        ("dropped", "no frame dropped"),
        ("failed", "no connection failed"),
    ],
)
def test_one_of_what_must_not_be_is_found(tally: str, bound: str) -> None:
    assert broken(evaluate(rows(), CLEAN | {tally: 1}, REST)) == [bound]


def test_descriptors_that_stay_when_everybody_has_left_are_found() -> None:
    assert broken(evaluate(rows(), CLEAN, REST | {"after": {"fds": 20}})) == ["descriptors at rest"]
    assert "descriptors at rest" not in evaluate(rows(), CLEAN, {"before": {"fds": 14}})["holds"]


def test_a_slope_is_not_judged_where_nobody_could_tell() -> None:
    assert evaluate(rows(rss_mb=1000.0)[:100], CLEAN, REST)["holds"]["memory"] is None


def test_too_short_a_run_says_nothing() -> None:
    with pytest.raises(ValueError, match="too short"):
        evaluate(rows()[:2], CLEAN, REST)


# ---- what a listener counts ------------------------------------------------------------------------------


def listener(role: wire.Role = "converse", rate_hz: int = 16_000) -> tuple[Listener, Spoken, Counted]:
    """One who hears a stream whose frames have heard 80 ms of what follows them."""
    welcome = wire.Welcome(
        *(1, "session", "anna", role, 0, "fake 0", "coefficients", "f32", 1, 1.0, [], "", 30, 16_000),
        *(66.7, 80.0, 150.0, [], [], {}, 0, 0.0),
    )
    spoken, counted = Spoken(rate_hz), Counted()
    spoken.begin_epoch(0.0)
    return Listener(welcome, spoken, counted), spoken, counted


def block(
    first: int, count: int = 2, epoch: int = 0, pts_s: float | None = None, flags: int = 0
) -> wire.Frames:
    values = np.zeros((count, 1), np.float32)
    pts_s = first / 30 if pts_s is None else pts_s
    return wire.Frames(values, "coefficients", "f32", flags, epoch, 0, first, pts_s, 0.0)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_frames_that_keep_to_their_audio_are_whole_and_without_drift(rate_hz: int) -> None:
    heard, spoken, counted = listener(rate_hz=rate_hz)
    for first in range(0, 30, 2):
        spoken.samples[0] = rate_hz * (first + 4) // 30
        heard.frames(block(first))
    assert heard.lag_samples is not None and 0 <= heard.lag_samples < 534
    spoken.samples[0] = rate_hz
    heard.ended(wire.Ended(0, 30, 1.0))
    assert counted == Counted(frames=30, endings=1, longest_s=1.0)


def test_frames_that_are_left_out_come_twice_or_of_an_epoch_that_is_over_are_lost() -> None:
    heard, spoken, counted = listener()
    spoken.samples[0] = 16_000
    for first in (0, 4, 4):
        heard.frames(block(first))
    assert counted.lost == 2 + 2
    heard.interrupted(wire.Interrupted(1, 8))
    assert counted.lost == 4 + 3, "frames 6 to 8 were said to be there"
    spoken.begin_epoch(1.0)
    spoken.samples[1] = 16_000
    heard.frames(block(2, epoch=1))
    heard.frames(block(6, epoch=0))
    assert counted.lost == 7 + 2 + 2


def test_a_watcher_who_comes_later_misses_only_what_follows() -> None:
    heard, spoken, counted = listener("watch")
    spoken.samples[0] = 16_000
    heard.frames(block(10))
    heard.ended(wire.Ended(0, 13, 13 / 30))
    assert counted.lost == 1


@pytest.mark.parametrize(
    ("frames", "audio_s", "drift"),
    [(30, 1.0, 0), (30, 15_999 / 16_000, 1), (29, 1.0, 533.333), (33, 1.1, 1600)],
)
def test_what_the_end_says_is_held_against_what_was_sent(frames: int, audio_s: float, drift: float) -> None:
    heard, spoken, counted = listener("watch")
    spoken.samples[0] = 16_000
    heard.ended(wire.Ended(0, frames, audio_s))
    assert counted.drift == drift


def test_a_time_that_is_not_the_frames_and_a_face_ahead_of_its_audio_are_drift() -> None:
    heard, spoken, counted = listener()
    spoken.samples[0] = 16_000
    heard.frames(block(0, pts_s=1 / 16_000))
    assert counted.drift == 1
    spoken.samples[0] = 1600  # frame 3 and the 80 ms after it are not there yet
    heard.frames(block(2))
    assert counted.drift == 1600 + 1280 - 1600 - 1
    heard.frames(block(4, flags=wire.FLAG_EASED))  # the mouth that closes hears nothing
    assert counted.drift == 1279


# ---- for real --------------------------------------------------------------------------------------------


def command(folder: Path, out: Path, minutes: float) -> list[str]:
    words = ["--minutes", str(minutes), "--every", "1", "--json", str(out)]
    serve = f"--bundle {folder} --max-sessions 3"
    return [sys.executable, "-m", "benchmarks.soak", *words, "--serve", serve]


def right(found: dict[str, Any]) -> None:
    """Everything that was counted, however short the run."""
    tally = found["tally"]
    assert (found["places"], found["speakers"], found["server_ended"]) == (3, 2, "")
    assert tally["lost"] == tally["drift"] == tally["dropped"] == tally["failed"] == tally["open"] == 0
    assert tally["visits"] == tally["ended"] >= 2 and tally["endings"] >= 3, "speakers and watchers"
    assert found["commit"] and found["at_rest"]["after"]["fds"] > 3


@pytest.mark.slow
def test_a_short_soak_counts_every_frame_of_a_real_server(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    done = subprocess.run(
        command(folder, out, 0.15), cwd=ROOT, capture_output=True, text=True, timeout=2 * GUARD_S, check=False
    )
    assert done.returncode in (0, 1), done.stderr  # on a busy machine a lag may grow
    found = json.loads(out.read_text())
    right(found)
    assert found["tally"]["frames"] >= 2 * 2 * 6 * 30, "two speakers, two watchers"
    assert found["tally"]["longest_s"] > 6
    assert len(found["rows"]) >= 5 and all(row["rss_mb"] > 10 and row["fds"] > 3 for row in found["rows"])
    assert found["holds"]["memory"] is None, "too short to tell"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to interrupt")
def test_ctrl_c_lets_everybody_leave_and_writes_what_was_measured(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    process = subprocess.Popen(
        command(folder, out, 5), cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    said = ""
    while "lost" not in said:  # which the bar says with the first reading
        letter = process.stderr.read(1)
        assert letter, said
        said += letter
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in the group
    process.communicate(timeout=GUARD_S)
    assert process.returncode == 130
    found = json.loads(out.read_text())
    right(found)
    assert found["interrupted"]
