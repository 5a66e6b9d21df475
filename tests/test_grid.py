"""The grid: where samples and frames meet, in integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.contract.grid import Grid

GRID = Grid(16_000, 30, 16_000, 214, 24)


def test_a_frames_instant_never_drifts_from_its_time():
    for frame in (-31, -1, 0, 1, 2, 3, 29, 30, 108_000, 30 * 3600 * 24):
        assert 0 <= GRID.frame_time_s(frame) * 16_000 - GRID.frame_sample(frame) < 1


def test_thirty_frames_are_exactly_one_second():
    assert GRID.frame_sample(30) == 16_000
    assert GRID.frame_sample(30 * 3600) == 16_000 * 3600


@given(st.integers(0, 10_000_000))
def test_the_frames_within_a_clip_are_those_whose_instant_lies_before_its_end(samples):
    count = GRID.frames_within(samples)
    assert count == 0 or GRID.frame_sample(count - 1) < samples
    assert GRID.frame_sample(count) >= samples


@given(st.integers(0, 9))
def test_a_lookahead_in_frames_survives_the_way_through_milliseconds(frames):
    assert GRID.lookahead_frames(GRID.lookahead_ms(frames)) == frames


@given(st.integers(1, 8))
def test_a_hop_in_frames_survives_the_way_through_milliseconds(frames):
    assert GRID.hop_frames(GRID.hop_ms(frames)) == frames


def test_a_lookahead_is_never_negative_and_a_hop_never_empty():
    assert GRID.lookahead_frames(0) == 0
    assert GRID.hop_frames(0) == 1


def test_the_newest_frames_window_ends_its_tail_after_it():
    assert GRID.window_end(23) == 23 * 16_000 // 30 + 214


def test_eighty_milliseconds_are_two_frames_and_the_tail():
    assert GRID.lookahead_samples(2) == 1280
    assert GRID.lookahead_ms(2) == 80


def test_context_is_what_hop_and_lookahead_leave():
    assert GRID.context_frames(2, 2) == 20


@pytest.mark.parametrize(
    "sizes", [(0, 30, 16_000, 0, 24), (16_000, 30, 16_000, -1, 24), (16_000, 30, 12_000, 0, 24)]
)
def test_sizes_that_contradict_each_other_are_refused(sizes):
    with pytest.raises(ValueError, match=r"."):
        Grid(*sizes)
