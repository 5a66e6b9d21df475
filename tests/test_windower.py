"""The windower: which samples a window holds, and that every frame is emitted exactly once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.contract.grid import Grid
from streamer.core.windower import Windower

GRID = Grid(16_000, 30, 8_000, 214, 14)


def ramp_of(count):
    """Samples that are their own index plus one, so that silence (0) is recognisable."""
    return np.arange(1, count + 1, dtype=np.float32)


def cut(samples, sizes, hop=2, lookahead=2, grid=GRID):
    windower, windows, start = Windower(grid, hop, lookahead), [], 0
    for size in sizes:
        windows += windower.push(samples[start : start + size])
        start += size
    windows += windower.push(samples[start:])
    return windows + windower.finish()


def test_a_window_holds_the_samples_up_to_the_tail_of_its_newest_frame():
    windower = Windower(GRID, hop_frames=2, lookahead_frames=2)
    windows = windower.push(ramp_of(20_000))
    for window in windows:
        end = GRID.window_end(window.first_frame + GRID.segment_frames - 1)
        expected = np.arange(end - GRID.window_samples, end) + 1
        np.testing.assert_array_equal(window.samples, np.maximum(expected, 0))
        assert (window.emit_start, window.emit_stop) == (2 * window.index, 2 * window.index + 2)
        assert window.first_frame + GRID.segment_frames - 1 == window.emit_stop - 1 + 2


def test_a_window_is_cut_as_soon_as_its_last_sample_is_there():
    windower = Windower(GRID, 2, 2)
    due = GRID.window_end(3)
    assert windower.push(ramp_of(due - 1)) == []
    assert len(windower.push(np.ones(1, np.float32))) == 1


def test_before_the_first_sample_there_is_silence():
    first = Windower(GRID, 2, 2).push(ramp_of(8_000))[0]
    assert first.first_frame < 0
    silent = GRID.window_samples - GRID.window_end(3)
    assert not first.samples[:silent].any()
    assert first.samples[silent] == 1


@settings(max_examples=100, deadline=None)
@given(
    samples=st.integers(0, 9_000),
    hop=st.integers(1, 4),
    lookahead=st.integers(0, 9),
    tail=st.sampled_from([0, 1, 214]),
)
def test_every_frame_of_a_clip_is_emitted_exactly_once(samples, hop, lookahead, tail):
    grid = Grid(16_000, 30, 8_000, tail, 14)
    windows = cut(ramp_of(samples), [], hop, lookahead, grid)
    emitted = [frame for window in windows for frame in range(window.emit_start, window.emit_stop)]
    assert emitted == list(range(grid.frames_within(samples)))
    assert not any(window.is_last for window in windows[:-1])
    if windows and tail and lookahead:
        assert windows[-1].is_last


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 5_000), max_size=12), hop=st.integers(1, 4), lookahead=st.integers(0, 9))
def test_windows_do_not_depend_on_how_the_samples_were_chunked(sizes, hop, lookahead):
    samples = ramp_of(12_345)
    for one, other in zip(cut(samples, [], hop, lookahead), cut(samples, sizes, hop, lookahead), strict=True):
        assert one.samples.tobytes() == other.samples.tobytes()
        assert (one.index, one.first_frame, one.emit_stop, one.is_last) == (
            other.index,
            other.first_frame,
            other.emit_stop,
            other.is_last,
        )


def test_the_tail_is_padded_with_silence_and_the_last_hop_cut_short():
    windows = cut(ramp_of(1_600), [])
    assert windows[-1].is_last
    assert windows[-1].emit_stop == GRID.frames_within(1_600) == 3
    assert windows[-1].samples[-1] == 0
    assert windows[-1].samples.max() == 1_600


def test_a_window_keeps_its_samples_when_more_arrive():
    windower = Windower(GRID, 2, 2)
    window = windower.push(ramp_of(4_000))[0]
    before = window.samples.copy()
    windower.push(np.full(50_000, 7, np.float32))
    np.testing.assert_array_equal(window.samples, before)


def test_an_endless_session_costs_no_more_memory_than_a_short_one():
    windower = Windower(GRID, 2, 2)
    chunk = np.zeros(320, np.float32)
    for _ in range(200):
        windower.push(chunk)
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for _ in range(2_000):
            windower.push(chunk)
        grown = tracemalloc.take_snapshot().compare_to(before, "filename")
    finally:
        tracemalloc.stop()
    assert sum(entry.size_diff for entry in grown if "windower" in entry.traceback[0].filename) < 10_000


def test_a_reset_begins_at_frame_zero_and_forgets_the_past():
    windower = Windower(GRID, 2, 2)
    windower.push(ramp_of(5_000))
    windower.reset(1)
    window = windower.push(np.full(3_000, 9, np.float32))[0]
    assert (window.epoch, window.index, window.emit_start) == (1, 0, 0)
    assert set(np.unique(window.samples)) == {0, 9}


def test_illegal_calls_raise_and_change_nothing():
    windower = Windower(GRID, 2, 2)
    windower.push(ramp_of(5_000))
    with pytest.raises(ValueError, match="float32"):
        windower.push(np.zeros(10, np.float64))
    with pytest.raises(ValueError, match="does not follow"):
        windower.reset(0)
    assert windower.received_samples == 5_000
    windower.finish()
    with pytest.raises(RuntimeError):
        windower.push(ramp_of(1))
    with pytest.raises(RuntimeError):
        windower.finish()


@pytest.mark.parametrize(("hop", "lookahead"), [(0, 0), (1, -1), (10, 5)])
def test_a_hop_and_lookahead_that_do_not_fit_are_refused(hop, lookahead):
    with pytest.raises(ValueError, match=r"."):
        Windower(GRID, hop, lookahead)
