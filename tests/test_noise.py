"""The noise: a pure function of seed, epoch, frame and channel, and standard normal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from streamer.core import noise


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 1000),
    first=st.integers(-100, 10**9),
    shift=st.integers(0, 20),
    channels=st.integers(1, 60),
)
def test_windows_that_overlap_agree_bit_for_bit(seed, epoch, first, shift, channels):
    one = noise.for_frames(seed, epoch, first, 24, channels)
    other = noise.for_frames(seed, epoch, first + shift, 24, channels)
    assert one[shift:].tobytes() == other[: 24 - shift].tobytes()


def test_a_channels_noise_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(noise.for_frames(5, 0, 0, 10, 7), noise.for_frames(5, 0, 0, 10, 52)[:, :7])


def test_golden_values_never_change():
    golden = [
        [-0.3866907, 0.32972637, 2.0548556],
        [-0.8190609, -1.029201, -0.11576332],
        [-0.46919823, -0.6486627, 0.2842982],
        [0.2940666, -1.0789855, -0.52904665],
    ]
    values = noise.for_frames(1, 0, -3, 4, 3)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, golden, rtol=2e-6)


def test_seed_and_epoch_change_everything():
    base = noise.for_frames(1, 1, 0, 30, 52)
    for other in (noise.for_frames(2, 1, 0, 30, 52), noise.for_frames(1, 2, 0, 30, 52)):
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.1


def test_seeds_are_taken_modulo_two_to_the_sixty_four():
    np.testing.assert_array_equal(noise.for_frames(-1, 0, 0, 2, 2), noise.for_frames(2**64 - 1, 0, 0, 2, 2))


def test_it_is_standard_normal():
    values = noise.for_frames(0, 0, -1000, 6000, 52).ravel().astype(np.float64)
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs(stats.kurtosis(values)) < 0.05
    assert abs(stats.skew(values)) < 0.02
    assert stats.kstest(values[:100_000], "norm").pvalue > 1e-3


@pytest.mark.parametrize("frames_apart", [1, 2, 7])
def test_frames_and_channels_are_independent(frames_apart):
    values = noise.for_frames(3, 0, 0, 5000, 52).astype(np.float64)
    across_frames = (values[frames_apart:] * values[:-frames_apart]).mean()
    across_channels = (values[:, frames_apart:] * values[:, :-frames_apart]).mean()
    diagonal = (values[frames_apart:, frames_apart:] * values[:-frames_apart, :-frames_apart]).mean()
    assert max(abs(across_frames), abs(across_channels), abs(diagonal)) < 0.01


def test_no_frames_are_no_noise():
    assert noise.for_frames(0, 0, 0, 0, 52).shape == (0, 52)
