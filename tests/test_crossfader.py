"""The crossfader: overlapping segments become one run of frames without a seam."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.contract.grid import Grid
from streamer.core.crossfader import Crossfader, ramp, rest_curve
from streamer.core.windower import Window, Windower

GRID = Grid(16_000, 30, 8_000, 214, 14)
C = 3


def windows_of(count, hop=2, lookahead=2, epoch=0):
    windower = Windower(GRID, hop, lookahead)
    if epoch:
        windower.reset(epoch)
    return windower.push(np.zeros(GRID.window_end(count * hop + lookahead), np.float32))[:count]


def segment(value, window=None):
    """A segment of one value, or of each frame's own number where a window is given."""
    if window is None:
        return np.full((GRID.segment_frames, C), value, np.float32)
    numbers = np.arange(window.first_frame, window.first_frame + GRID.segment_frames)
    return np.repeat(numbers[:, None], C, axis=1).astype(np.float32)


def faded(blocks):
    return np.concatenate([block.values for block in blocks])[:, 0]


def test_segments_that_agree_pass_through_unchanged():
    crossfader = Crossfader(GRID, C, prefix_frames=4)
    blocks = [crossfader.push(window, segment(0, window)) for window in windows_of(10)]
    np.testing.assert_array_equal(faded(blocks), np.arange(20))
    assert [block.first_frame for block in blocks] == list(range(0, 20, 2))
    assert blocks[3].pts_s == 6 / 30


def test_the_newer_segment_fades_in_over_the_lookahead():
    crossfader = Crossfader(GRID, C, prefix_frames=0)
    first, second, third = windows_of(3, hop=4, lookahead=2)
    crossfader.push(first, segment(0))
    block = crossfader.push(second, segment(1))
    np.testing.assert_allclose(block.values[:, 0], [*ramp(2), 1, 1])
    np.testing.assert_allclose(crossfader.push(third, segment(1)).values[:, 0], 1)


def test_blending_is_recursive_where_the_lookahead_is_longer_than_the_hop():
    crossfader = Crossfader(GRID, C, prefix_frames=0)
    first, second, third = windows_of(3, hop=1, lookahead=2)
    crossfader.push(first, segment(0))
    crossfader.push(second, segment(1))
    weights = ramp(2)
    # Frame 2 was 0, then faded toward 1 by the second weight, then toward 0 by the first.
    expected = weights[1] + weights[0] * (0 - weights[1])
    np.testing.assert_allclose(crossfader.push(third, segment(0)).values[0, 0], expected, rtol=1e-6)


def test_without_lookahead_there_is_nothing_to_blend():
    crossfader = Crossfader(GRID, C, prefix_frames=0)
    values = [0.0, 1.0, 0.25]
    blocks = [
        crossfader.push(window, segment(value))
        for window, value in zip(windows_of(3, hop=2, lookahead=0), values, strict=True)
    ]
    np.testing.assert_array_equal(faded(blocks), np.repeat(np.float32(values), 2))


def test_the_ramp_trusts_the_newer_segment_more_with_every_frame():
    np.testing.assert_allclose(ramp(3), [0.7, 0.925, 0.98125])
    weights = ramp(9)
    assert (np.diff(weights) > 0).all()
    assert weights[0] > 0 and weights[-1] < 1
    assert ramp(0).shape == (0,)


@settings(max_examples=50, deadline=None)
@given(
    motions=hnp.arrays(np.float32, (6, GRID.segment_frames, C), elements=st.floats(0, 1, width=32)),
    hop=st.integers(1, 3),
    lookahead=st.integers(0, 6),
)
def test_what_is_blended_stays_within_the_range_of_what_was_predicted(motions, hop, lookahead):
    crossfader = Crossfader(GRID, C, prefix_frames=4)
    for window, motion in zip(windows_of(6, hop, lookahead), motions, strict=True):
        values = crossfader.push(window, motion).values
        assert values.min() >= 0 and values.max() <= 1


def test_the_prefix_holds_the_emitted_frames_at_their_places():
    crossfader = Crossfader(GRID, C, prefix_frames=3)
    windows = windows_of(4)
    values, mask = crossfader.prefix(windows[0])
    assert not values.any() and not mask.any()
    for window in windows[:3]:
        crossfader.push(window, segment(0, window) + 100)
    values, mask = crossfader.prefix(windows[3])
    place = windows[3].emit_start - windows[3].first_frame
    assert list(np.flatnonzero(mask)) == [place - 3, place - 2, place - 1]
    np.testing.assert_array_equal(values[mask == 1, 0], [103, 104, 105])
    assert not values[mask == 0].any()


def test_a_segment_of_an_old_epoch_is_dropped_and_counted():
    crossfader = Crossfader(GRID, C, prefix_frames=0)
    old = windows_of(2)
    crossfader.push(old[0], segment(1))
    crossfader.ease()
    crossfader.reset(1)
    assert crossfader.push(old[1], segment(1)) is None
    assert crossfader.dropped_segments == 1
    assert crossfader.push(windows_of(1, epoch=1)[0], segment(1)).first_frame == 0


def test_a_segment_out_of_order_raises_and_changes_nothing():
    crossfader = Crossfader(GRID, C, prefix_frames=0)
    first, second, third = windows_of(3)
    crossfader.push(first, segment(0, first))
    for wrong in (first, third, windows_of(2, epoch=1)[1]):
        with pytest.raises(RuntimeError, match="does not follow"):
            crossfader.push(wrong, segment(0, wrong))
        with pytest.raises(RuntimeError, match="does not follow"):
            crossfader.prefix(wrong)
    with pytest.raises(ValueError, match="segment"):
        crossfader.push(second, np.zeros((3, C), np.float32))
    np.testing.assert_array_equal(crossfader.push(second, segment(0, second)).values[:, 0], [2, 3])


def test_after_the_last_window_nothing_follows():
    windower = Windower(GRID, 2, 2)
    windows: list[Window] = windower.push(np.zeros(2_000, np.float32)) + windower.finish()
    crossfader = Crossfader(GRID, C, prefix_frames=0)
    blocks = [crossfader.push(window, segment(1)) for window in windows]
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    with pytest.raises(RuntimeError):
        crossfader.ease()


@settings(max_examples=50, deadline=None)
@given(
    pose=hnp.arrays(np.float32, C, elements=st.floats(-1, 1, width=32)),
    frames=st.integers(1, 8),
)
def test_easing_brings_every_channel_to_rest_monotonically(pose, frames):
    crossfader = Crossfader(GRID, C, prefix_frames=0)
    motion = np.repeat(pose[None], GRID.segment_frames, axis=0)
    crossfader.push(windows_of(1)[0], motion)
    block = crossfader.ease(frames)
    path = np.abs(np.concatenate([pose[None], block.values]))
    assert (np.diff(path, axis=0) <= 0).all()
    assert not block.values[-1].any()
    assert (block.first_frame, len(block.values), block.eased, block.last) == (2, frames, True, True)


def test_the_way_to_rest_ends_at_exactly_zero():
    for frames in range(1, 12):
        curve = rest_curve(frames)
        assert curve[-1] == 0
        assert (np.diff(curve) < 0).all()


def test_easing_before_any_frame_keeps_the_face_at_rest():
    block = Crossfader(GRID, C, prefix_frames=4).ease()
    assert (block.first_frame, len(block.values)) == (0, 3)
    assert not block.values.any()


def test_an_epoch_number_that_does_not_grow_is_refused():
    crossfader = Crossfader(GRID, C, prefix_frames=0, epoch=3)
    with pytest.raises(ValueError, match="does not follow"):
        crossfader.reset(3)
