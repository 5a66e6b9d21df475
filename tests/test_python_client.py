"""The Python client's jitter buffer; its connection is exercised by every test of the server."""

from __future__ import annotations

import numpy as np
from diffspeaker_client import Frames, JitterBuffer
from hypothesis import given
from hypothesis import strategies as st


def frames(first: int, values: list[float], epoch: int = 0) -> Frames:
    column = np.asarray(values, np.float32)[:, None]
    return Frames(column, "coefficients", "f32", 0, epoch, 0, first, first / 30, 0.0)


def test_before_the_first_frame_there_is_no_face() -> None:
    assert JitterBuffer(30).at(0.0) is None


def test_values_between_two_frames_are_linear_and_are_held_outside() -> None:
    buffer = JitterBuffer(30)
    buffer.push(frames(0, [0.0, 1.0]))
    buffer.push(frames(2, [0.5]))
    shown = [float(buffer.at(index / 30)[0]) for index in (-1, 0, 0.25, 1, 1.5, 2, 9)]  # type: ignore[index]
    np.testing.assert_allclose(shown, [0, 0, 0.25, 1, 0.75, 0.5, 0.5], atol=1e-6)


def test_dropped_frames_are_bridged() -> None:
    buffer = JitterBuffer(30)
    buffer.push(frames(0, [0.0]))
    buffer.push(frames(4, [1.0]))
    np.testing.assert_allclose(buffer.at(3 / 30), [0.75], atol=1e-6)


def test_a_new_epoch_forgets_the_old_one_and_late_frames_of_the_old_one_are_ignored() -> None:
    buffer = JitterBuffer(30)
    buffer.push(frames(100, [1.0]))
    buffer.push(frames(0, [0.25], epoch=1))
    buffer.push(frames(101, [1.0]))
    assert buffer.epoch == 1
    np.testing.assert_array_equal(buffer.at(99.0), [0.25])


def test_a_frame_that_came_before_is_not_taken_twice() -> None:
    buffer = JitterBuffer(30)
    buffer.push(frames(0, [0.0, 1.0]))
    buffer.push(frames(1, [9.0, 2.0]))
    np.testing.assert_array_equal(buffer.at(1 / 30), [1.0])
    assert buffer.newest_s == 2 / 30


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 5)), max_size=30),
    st.floats(-2, 5),
)
def test_memory_is_bounded_and_any_instant_has_a_face(
    pushes: list[tuple[int, int, int]], instant: float
) -> None:
    buffer = JitterBuffer(30, capacity_frames=8)
    for epoch, first, count in pushes:
        buffer.push(frames(first, [1.0] * count, epoch))
        assert len(buffer._indices) <= 8
        face = buffer.at(instant)
        assert face is not None
        np.testing.assert_allclose(face, [1.0])
