"""Mean temporal misalignment: nought for the same curve, the shift for a shifted one, in milliseconds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model.misalignment import slope, temporal_misalignment_ms, warping_path


def bump(at: float, frames: int = 60, width: float = 3.0, height: float = 1.0) -> np.ndarray:
    return height * np.exp(-0.5 * np.square((np.arange(frames) - at) / width))


def test_a_curve_is_not_misaligned_with_itself():
    curve = bump(20) + bump(40, height=0.6)
    assert temporal_misalignment_ms(curve, curve, 30) == 0


@pytest.mark.parametrize("frames", [-3, 3])
def test_a_movement_three_frames_off_at_30_hz_is_100_ms_off_whether_early_or_late(frames):
    assert temporal_misalignment_ms(bump(30 + frames), bump(30), 30) == pytest.approx(100)


def test_the_mean_is_over_the_matched_movements():
    # Maxima 1 and 3 frames off, and the minimum between them 2 frames: 2 frames in the mean, 80 ms at 25 Hz.
    reference, predicted = bump(20, 80) + bump(50, 80), bump(21, 80) + bump(53, 80)
    assert temporal_misalignment_ms(predicted, reference, 25) == pytest.approx(80)


def test_it_hangs_neither_on_the_unit_nor_on_the_gap_at_rest():
    reference, predicted = bump(20) + bump(40), bump(22) + bump(41)
    in_metres = temporal_misalignment_ms(predicted * 0.01 + 0.004, reference * 0.01 + 0.004, 30)
    assert in_metres == pytest.approx(temporal_misalignment_ms(predicted, reference, 30)) and in_metres > 0


def test_a_mouth_that_does_not_move_matches_nothing():
    assert math.isnan(temporal_misalignment_ms(np.full(60, 0.004), bump(30), 30))


def test_the_slope_is_keoghs():
    # ((4 - 1) + (9 - 1) / 2) / 2 = 3.5 in the middle of 1, 4, 9; a straight line has one slope everywhere.
    np.testing.assert_allclose(slope(np.array([1.0, 4.0, 9.0])), [3.5, 3.5, 3.5])
    np.testing.assert_allclose(slope(np.arange(5) * 2.0), 2.0)


def test_warping_repeats_a_frame_where_that_is_cheapest():
    path = warping_path(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0, 2.0]))
    assert path.tolist() == [[0, 0], [1, 1], [1, 2], [2, 3]]
