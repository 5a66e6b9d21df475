"""Hostile connections: nobody else loses a frame, nothing stays behind; and what is broken is found."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz import hostile
from benchmarks.fuzz.walk import walk

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="descriptors and memory are counted as Linux counts them"
)


@pytest.mark.slow
def test_a_walk_in_any_order_harms_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    counts = asyncio.run(walk(tmp_path, seed=11, steps=1500))
    assert counts["inputs"] >= 1500 and counts["healthy_frames"] > 15
    # It came far: streams were opened, interrupted and ended, and most kinds of mistake were made.
    assert {"welcome", "resumed", "interrupted", "ended", "style", "clock"} <= set(counts["answers"])
    assert {"bad_message", "stream_taken", "not_allowed", "unknown_stream"} <= set(counts["answers"])
    assert len(counts["steps"]) == 17
    assert counts["after"]["streams"] == counts["after"]["connections"] == 0


@pytest.mark.slow
def test_the_slow_the_silent_and_the_flooding_harm_nobody_and_leave_nothing(tmp_path: Path) -> None:
    counts = asyncio.run(hostile.attack(tmp_path, tuple(hostile.ATTACKS), 100))
    answers = counts["answers"]
    assert answers["silent sockets"] == {"cut off": 100, "and a newcomer: welcome": 1}
    assert answers["slow handshakes"] == {"cut off": 100}
    assert answers["no hello"] == {"hello_timeout": 100}
    assert set(answers["unfinished hellos"]) <= {"hello_timeout", "cut off"}
    assert set(answers["slow messages"]) == {"welcome", "error"}  # some found a place, the others were told
    assert set(answers["floods"]) == {"414", "431", "closed"}
    assert counts["healthy_frames"] > 60


def test_hundreds_of_silent_sockets_leave_descriptors_for_those_who_speak(tmp_path: Path) -> None:
    counts = asyncio.run(
        hostile.attack(tmp_path, ("silent sockets",), 600, descriptors=128, hello_timeout_s=2.0)
    )
    assert counts["answers"]["silent sockets"] == {"cut off": 600, "and a newcomer: welcome": 1}


@pytest.mark.parametrize("name", ["unread files", "unfinished hellos"])  # 1.6 GB, and 0.4 GB
def test_what_is_not_read_and_not_finished_is_held_up_to_a_bound(tmp_path: Path, name: str) -> None:
    counts = asyncio.run(hostile.attack(tmp_path, (name,), 400))
    assert counts["after"]["peak_mb"] - counts["before"]["rss_mb"] < 450


def test_who_connects_hundreds_of_times_leaves_nothing(tmp_path: Path) -> None:
    counts = asyncio.run(hostile.many_connects(tmp_path, 600))
    assert counts["inputs"] == sum(counts["answers"].values()) == 600
    assert counts["answers"]["welcome"] > 0
    assert counts["after"]["descriptors"] <= counts["before"]["descriptors"]


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ("keeps_a_task", r"\d+ tasks, \d+ before"),
        ("keeps_a_file", "more descriptors"),
        ("keeps_memory", "memory grew"),
        ("keeps_a_place", "still holds"),
        ("changes_a_frame", "Arrays are not equal"),
    ],
)
def test_a_bug_that_connections_leave_is_found(tmp_path: Path, planted: str, says: str) -> None:
    plants = (f"tests.planted_bugs:{planted}",)
    with pytest.raises(AssertionError, match=says):
        asyncio.run(hostile.many_connects(tmp_path, 240, plants=plants, settles_s=1.0))


@pytest.mark.parametrize(
    ("planted", "says"),
    [("has_no_name_for_an_error", "internal|what"), ("dies", "the server has ended with 3")],
)
def test_a_bug_on_the_way_is_found(tmp_path: Path, planted: str, says: str) -> None:
    plants = (f"tests.planted_bugs:{planted}",)
    with pytest.raises(AssertionError, match=says):
        asyncio.run(walk(tmp_path, seed=11, steps=400, plants=plants, settles_s=1.0))
