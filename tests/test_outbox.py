"""The outbox: bounded, oldest media out first, control messages kept, order kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.outbox import Outbox


def drained(outbox):
    return [outbox.take() for _ in range(len(outbox))]


def test_messages_leave_in_the_order_in_which_they_came():
    outbox = Outbox(max_messages=10, max_bytes=1000)
    outbox.put_control("welcome")
    outbox.put_media(b"1")
    outbox.put_control("stats")
    outbox.put_media(b"2")
    assert drained(outbox) == ["welcome", b"1", "stats", b"2"]
    assert outbox.dropped == 0


def test_too_many_media_push_out_the_oldest_and_are_counted():
    outbox = Outbox(max_messages=2, max_bytes=1000)
    assert [outbox.put_media(message) for message in (b"1", b"2", b"3", b"4")] == [0, 0, 1, 1]
    assert outbox.dropped == 2
    assert drained(outbox) == [b"3", b"4"]


def test_too_many_bytes_push_out_the_oldest():
    outbox = Outbox(max_messages=10, max_bytes=6)
    outbox.put_media(b"aaa")
    outbox.put_media(b"bbb")
    assert outbox.put_media(b"cccc") == 2
    assert outbox.media_bytes == 4
    assert drained(outbox) == [b"cccc"]
    assert outbox.media_bytes == 0


def test_a_message_larger_than_the_bound_is_taken_alone():
    outbox = Outbox(max_messages=10, max_bytes=2)
    outbox.put_media(b"a")
    outbox.put_media(b"larger")
    assert drained(outbox) == [b"larger"]


def test_control_messages_are_never_dropped():
    outbox = Outbox(max_messages=1, max_bytes=1)
    for number in range(50):
        outbox.put_control(str(number))
        outbox.put_media(b"x")
    assert drained(outbox) == [*map(str, range(50)), b"x"]
    assert outbox.dropped == 49


def test_an_empty_outbox_has_nothing_to_take():
    with pytest.raises(IndexError):
        Outbox(1, 1).take()


def test_an_outbox_without_room_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Outbox(0, 1)


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(st.one_of(st.binary(max_size=8), st.text(max_size=3), st.none()), max_size=60),
    max_messages=st.integers(1, 5),
    max_bytes=st.integers(1, 20),
)
def test_nothing_is_lost_but_what_was_counted(events, max_messages, max_bytes):
    outbox = Outbox(max_messages, max_bytes)
    put, taken = [], []
    for event in events:
        if event is None:
            if len(outbox):
                taken.append(outbox.take())
        elif isinstance(event, str):
            outbox.put_control(event)
            put.append(event)
        else:
            outbox.put_media(event)
            put.append(event)
        waiting_media = outbox.media_bytes
        assert waiting_media <= max_bytes or len(outbox) >= 1
    taken += drained(outbox)
    assert len(taken) + outbox.dropped == len(put)
    assert [m for m in taken if isinstance(m, str)] == [m for m in put if isinstance(m, str)]
    remaining = iter(put)
    assert all(any(message == other for other in remaining) for message in taken)  # in order
