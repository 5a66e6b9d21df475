"""The Python client's pure parts: the jitter buffer, the clocks, a stream's faces in time.

Its connection is exercised by every test of the server.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import Frames, JitterBuffer
from diffspeaker_client.clock_sync import ClockSync
from diffspeaker_client.playback import Playback
from hypothesis import given
from hypothesis import strategies as st

from tests import fakes

ROOT = Path(__file__).resolve().parents[1]
RATE = 30


def frames(first: int, values: list[float], epoch: int = 0) -> Frames:
    column = np.asarray(values, np.float32)[:, None]
    return Frames(column, "coefficients", "f32", 0, epoch, 0, first, first / RATE, 100 + first / RATE)


def timed(first: int, count: int = 2, epoch: int = 0) -> Frames:
    """Frames whose one value says their own number."""
    return frames(first, [float(first + i) for i in range(count)], epoch)


def shown(buffer: JitterBuffer, pts_s: float) -> float:
    face = buffer.at(pts_s)
    assert face is not None and face.shape == (1,)
    return float(face[0])


# ---- the jitter buffer ----


def test_before_the_first_frame_there_is_no_face() -> None:
    buffer = JitterBuffer(1, RATE)
    assert buffer.at(0.0) is None
    assert np.isnan(buffer.playout(1.0)) and buffer.at(buffer.playout(2.0)) is None


def test_values_between_two_frames_are_linear_and_are_held_outside() -> None:
    buffer = JitterBuffer(1, RATE)
    buffer.push(frames(0, [0.0, 1.0]), 50)
    buffer.push(frames(2, [0.5]), 50)
    values = [shown(buffer, index / RATE) for index in (-1, 0, 0.25, 1, 1.5, 2, 9)]
    np.testing.assert_allclose(values, [0, 0, 0.25, 1, 0.75, 0.5, 0.5], atol=1e-6)


def test_dropped_frames_are_bridged_and_counted() -> None:
    buffer = JitterBuffer(1, RATE)
    buffer.push(frames(0, [0.0]), 50)
    buffer.push(frames(4, [1.0]), 50)
    assert buffer.dropped == 3
    assert shown(buffer, 3 / RATE) == pytest.approx(0.75)


def test_a_new_epoch_forgets_the_old_one_and_late_frames_of_the_old_one_are_ignored() -> None:
    buffer = JitterBuffer(1, RATE)
    buffer.push(frames(100, [1.0]), 50)
    buffer.push(frames(0, [0.25], epoch=1), 51)
    buffer.push(frames(101, [1.0]), 51)
    assert buffer.epoch == 1
    assert shown(buffer, 99.0) == 0.25


def test_a_frame_that_came_before_is_not_taken_twice() -> None:
    buffer = JitterBuffer(1, RATE)
    buffer.push(frames(0, [0.0, 1.0]), 50)
    buffer.push(frames(1, [9.0, 2.0]), 50)
    assert shown(buffer, 1 / RATE) == 1.0
    assert buffer.newest_s == 2 / RATE


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 5)), min_size=1, max_size=30),
    st.floats(-2, 5),
)
def test_memory_is_bounded_and_any_instant_has_a_face(
    pushes: list[tuple[int, int, int]], instant: float
) -> None:
    buffer = JitterBuffer(1, RATE, capacity_frames=8)
    for now_s, (epoch, first, count) in enumerate(pushes):
        buffer.push(frames(first, [1.0] * count, epoch), float(now_s))
        assert buffer._values.shape == (8, 1)
        assert shown(buffer, instant) == pytest.approx(1.0)


def test_a_new_epoch_eases_in_from_what_was_shown() -> None:
    buffer = JitterBuffer(1, RATE)
    buffer.push(frames(0, [1.0, 1.0]), 50)
    buffer.at(buffer.playout(50.1))
    buffer.push(frames(0, [0.0] * 10, epoch=1), 50.2)
    values = [shown(buffer, index / 60) for index in range(12)]
    assert values[0] == 1 and values[-1] == 0
    assert all(0 < before - after < 0.2 for before, after in zip(values[:8], values[1:7], strict=False))


# One made-up network after another is played to this buffer and to the page's, instant by instant.
PAGE = """
import { JitterBuffer } from './src/jitter-buffer.js';
import { readFileSync } from 'node:fs';
const buffer = new JitterBuffer({ width: 1, frameRateHz: 30 });
const out = new Float32Array(1);
const seen = JSON.parse(readFileSync(0, 'utf8')).map(([nowS, epoch, firstFrame, values]) => {
  if (values) {
    const message = { values: Float32Array.from(values), width: 1, count: values.length, epoch, seq: 0 };
    buffer.push({ ...message, firstFrame, ptsS: firstFrame / 30, emitTimeS: 100 + firstFrame / 30 }, nowS);
    return null;
  }
  const ptsS = buffer.playout(nowS);
  const has = buffer.at(ptsS, out);
  const { dropped, late, received, shownFrame, shownPtsS, marginS } = buffer;
  return has ? [ptsS, out[0], dropped, late, received, shownFrame, shownPtsS, marginS] : [];
});
console.log(JSON.stringify(seen));
"""
NETWORKS: dict[str, Callable[[random.Random, int], float]] = {
    "perfect": lambda chance, i: 0.0,
    "jittery": lambda chance, i: 0.1 * chance.random(),
    "calm after a storm": lambda chance, i: 0.12 * chance.random() if i < 150 else 0.0,
    "a clock that drifts": lambda chance, i: i * 6.7e-5,
    "a stall of three seconds": lambda chance, i: 3.0 - i / 15 + 10 if 150 <= i < 195 else 0.0,
    "a clock that was shifted": lambda chance, i: 3600.0 if i >= 150 else 0.0,
    "a burst that takes two seconds": lambda chance, i: 10 - (i - 150) / 15 if 150 <= i < 270 else 0.0,
    "an interrupt": lambda chance, i: 0.03 * chance.random(),
}
Step = tuple[float, int, int, list[float] | None]


def trace(delay: Callable[[random.Random, int], float], interrupt_at: int | None) -> list[Step]:
    """Two frames per message at 15 Hz, some of them lost, drawn sixty times a second."""
    chance = random.Random(7)
    arrivals, latest = [], 0.0
    for i in range(300):
        latest = max(latest, 1000 + i / 15 + delay(chance, i))  # TCP keeps the order
        epoch, first = (0, 2 * i) if interrupt_at is None or i < interrupt_at else (1, 2 * (i - interrupt_at))
        values = [chance.random(), chance.random()]
        if i % 37 != 36:
            arrivals.append((latest, epoch, first, values))
    steps: list[Step] = []
    now_s = 1000.0
    while arrivals:
        while arrivals and arrivals[0][0] <= now_s:
            steps.append(arrivals.pop(0))
        steps.append((now_s, 0, 0, None))
        # A stall of an hour is not drawn through.
        now_s = now_s + 1 / 60 if not arrivals or arrivals[0][0] - now_s < 100 else arrivals[0][0] - 1
    return steps


@pytest.mark.parametrize("network", NETWORKS)
def test_the_pages_buffer_and_this_one_show_the_same(network: str) -> None:
    if shutil.which("node") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("node is not installed")
        pytest.skip("node is not installed")
    steps = trace(NETWORKS[network], 150 if network == "an interrupt" else None)
    page = subprocess.run(
        ["node", "--input-type=module", "-e", PAGE],
        cwd=ROOT / "clients" / "web",
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert page.returncode == 0, page.stderr
    buffer = JitterBuffer(1, RATE)
    for (now_s, epoch, first, values), there in zip(steps, json.loads(page.stdout), strict=True):
        if values is not None:
            buffer.push(frames(first, values, epoch), now_s)
            continue
        pts_s = buffer.playout(now_s)
        face = buffer.at(pts_s)
        if face is None:
            assert there == []
            continue
        counts = [buffer.dropped, buffer.late, buffer.received, buffer.shown_frame]
        here = [pts_s, float(face[0]), *counts, buffer.shown_pts_s, buffer.margin_s]
        np.testing.assert_allclose(here, there, atol=1e-6, rtol=1e-9)


# ---- the clocks ----


def test_the_quickest_recent_answer_tells_the_servers_clock() -> None:
    clock = ClockSync()
    assert np.isnan(clock.difference_s) and np.isnan(clock.round_trip_s)
    clock.observe(10.0, 510.4, 11.0)
    clock.observe(12.0, 512.01, 12.02)
    clock.observe(14.0, 514.3, 14.4)
    assert clock.round_trip_s == pytest.approx(0.02)
    assert clock.difference_s == pytest.approx(500.0)


def test_an_answer_before_its_question_is_ignored_and_old_answers_are_forgotten() -> None:
    clock = ClockSync()
    clock.observe(10.0, 0.0, 9.0)
    assert np.isnan(clock.difference_s)
    clock.observe(10.0, 110.0, 10.0)
    for i in range(16):
        clock.observe(20.0 + i, 121.0 + i, 20.1 + i)
    assert clock.difference_s == pytest.approx(100.95)


# ---- a stream's faces in time ----


def faces(
    playback: Playback, until_s: float, *, from_s: float, every_s: float | None = None
) -> Iterator[tuple[float, float]]:
    """Asks for faces, when the playback says or at a rate of the test's own: (when, value)."""
    now_s = from_s
    while now_s < until_s:
        face = playback.due(now_s)
        if face is not None:
            yield now_s, float(face[0])
        now_s += playback.wait_s(now_s) if every_s is None else every_s


def live(playback: Playback, seconds: float, *, from_s: float = 1000.0) -> list[tuple[float, float]]:
    """A stream that begins with frame 1 at ``from_s``, two frames at a time, and what is shown meanwhile."""
    playback.begin(1, RATE, from_s)
    seen = []
    for i in range(int(seconds * RATE / 2)):
        arrives_s = from_s + i / 15
        playback.push(timed(2 * i + 1), arrives_s)
        seen += faces(playback, arrives_s + 1 / 15, from_s=arrives_s)
    return seen


def test_at_the_streams_rate_each_face_is_exactly_one_of_its_frames_and_none_is_left_out() -> None:
    playback = Playback()
    values = [value for _, value in live(playback, 4)]
    assert playback.fps == RATE and playback.skipped == 0
    assert values[0] == 1 and len(values) > 100
    # The first is shown until its successor is due: playout begins before it.
    first = next(i for i, value in enumerate(values) if value != 1)
    assert values[first:] == [float(2 + i) for i in range(len(values) - first)]


def test_at_twice_the_rate_every_other_face_lies_between_two_frames() -> None:
    values = [value for _, value in live(Playback(60), 2)]
    np.testing.assert_allclose(np.diff(values[10:]), 0.5, atol=1e-4)


def test_whoever_asks_late_gets_the_newest_face_and_the_rest_is_counted_not_replayed() -> None:
    playback = Playback()
    before = [value for _, value in live(playback, 2)]
    for i in range(6):
        playback.push(timed(61 + 2 * i), 1002 + i / 15)
    face = playback.due(1002.4)
    assert face is not None and playback.due(1002.4) is None
    assert playback.skipped == face[0] - before[-1] - 1 > 8


def test_after_a_stall_of_an_hour_the_present_is_shown_and_nothing_is_replayed() -> None:
    playback = Playback()
    before = live(playback, 4)
    back_s = 1000.0 + 3600
    # What queued up arrives at once, in order, with the newest frames on time.
    for i in range(60, 3600 * 15 + 1):
        playback.push(timed(2 * i + 1), back_s)
    after = list(faces(playback, back_s + 0.2, from_s=back_s))
    present = 3600 * RATE
    assert before[-1][1] < 130
    assert all(value <= after_value for (_, value), (_, after_value) in zip(after, after[1:], strict=False))
    assert abs(after[-1][1] - present) < 6


def test_a_stream_that_is_over_goes_to_rest_and_then_falls_silent() -> None:
    playback = Playback()
    live(playback, 1)
    playback.end()
    values = [value for _, value in faces(playback, 1010, from_s=1001)]
    assert values.count(30.0) >= 2  # its last frame is held a moment
    peak = values.index(30.0)
    assert values == sorted(values[:peak]) + sorted(values[peak:], reverse=True)
    assert values[-1] == 0 and values.count(0.0) >= RATE
    assert playback.is_silent and playback.due(1011) is None


def test_the_face_at_rest_is_shown_at_the_same_rate() -> None:
    playback = Playback(60)
    live(playback, 1)
    playback.end()
    seen = list(faces(playback, 1010, from_s=1001))
    assert len(seen) > 70 and playback.skipped == 0


def test_a_stream_that_stalls_keeps_sending_its_last_face_and_then_rests() -> None:
    playback = Playback()
    live(playback, 1)
    seen = list(faces(playback, 1010, from_s=1001))
    held = [when for when, value in seen if value == 30]
    assert len(held) > 10  # at a steady rate until it counts as stalled
    assert seen[-1][1] == 0 and playback.is_silent


def test_frames_that_come_again_ease_in_from_the_face_at_rest() -> None:
    playback = Playback()
    live(playback, 1)
    list(faces(playback, 1001.9, from_s=1001))
    assert not playback.is_silent
    for i in range(6):
        playback.push(frames(100 + 2 * i, [1.0, 1.0]), 1002 + i / 15)
    values = [value for _, value in faces(playback, 1002.35, from_s=1002)]
    assert values[0] < 0.3 and values[-1] == 1
    assert np.diff(values).min() >= 0


def test_a_new_connection_begins_before_the_old_face_is_at_rest() -> None:
    playback = Playback()
    live(playback, 1)
    playback.end()
    seen = live(playback, 1, from_s=1001.05)
    assert seen and not playback.is_silent
    assert playback.dropped == playback.skipped == 0


def test_a_stream_of_another_width_starts_from_nothing() -> None:
    playback = Playback()
    live(playback, 1)
    playback.begin(2, RATE, 1001)
    assert playback.due(1001.0) is None and playback.is_silent
    wide = Frames(np.ones((2, 2), np.float32), "coefficients", "f32", 0, 0, 0, 0, 0.0, 0.0)
    playback.push(wide, 1001.1)
    face = playback.due(1001.2)
    assert face is not None and face.shape == (2,)


def test_dropped_counts_what_the_server_left_out_over_several_connections() -> None:
    playback = Playback()
    for from_s in (1000.0, 1010.0):
        playback.begin(1, RATE, from_s)
        playback.push(timed(0), from_s)
        playback.push(timed(5), from_s + 0.1)
        playback.end()
        list(faces(playback, from_s + 5, from_s=from_s, every_s=0.01))
    assert playback.dropped == 6


def test_the_channels_are_arkits_in_apples_order() -> None:
    from diffspeaker_client.channels import ARKIT, REGIONS, channels_of, mirrored

    assert list(ARKIT) == fakes.CHANNELS
    assert sorted(sum((channels_of(region) for region in REGIONS), ())) == sorted(ARKIT)
    assert "tongueOut" in channels_of("mouth") and "noseSneerLeft" in channels_of("cheeks")
    assert {mirrored(mirrored(name)) for name in ARKIT} == set(ARKIT)
    assert mirrored("mouthLeft") == "mouthRight" and mirrored("jawOpen") == "jawOpen"
