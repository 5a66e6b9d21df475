"""The scheduler: earliest deadline first, one request per session, and no waiting past a deadline."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.scheduler import Scheduler


def names(batch):
    return [ticket.session_id for ticket in batch]


def test_the_earliest_deadline_goes_first():
    scheduler = Scheduler(max_batch=2)
    for session, deadline in (("late", 3.0), ("soon", 1.0), ("middle", 2.0)):
        scheduler.submit(session, f"window of {session}", deadline, now=0.0)
    batch = scheduler.next_batch(0.0)
    assert names(batch) == ["soon", "middle"]
    assert batch[0].request == "window of soon"
    assert names(scheduler.next_batch(0.0)) == ["late"]


def test_equal_deadlines_keep_the_order_of_arrival():
    scheduler = Scheduler(max_batch=8)
    for session in "cab":
        scheduler.submit(session, None, 1.0, now=0.0)
    assert names(scheduler.next_batch(0.0)) == ["c", "a", "b"]


def test_a_session_has_one_request_at_most_waiting_or_in_flight():
    scheduler = Scheduler(max_batch=1)
    scheduler.submit("a", 1, 1.0, now=0.0)
    with pytest.raises(RuntimeError, match="has a request already"):
        scheduler.submit("a", 2, 1.0, now=0.0)
    (ticket,) = scheduler.next_batch(0.0)
    with pytest.raises(RuntimeError, match="has a request already"):
        scheduler.submit("a", 2, 1.0, now=0.0)
    assert scheduler.done(ticket) is True
    scheduler.submit("a", 2, 1.0, now=0.0)
    assert [ticket.request for ticket in scheduler.next_batch(0.0)] == [2]


def test_a_cancelled_request_is_not_denoised():
    scheduler = Scheduler(max_batch=8)
    scheduler.submit("a", 1, 1.0, now=0.0)
    scheduler.submit("b", 1, 2.0, now=0.0)
    scheduler.cancel("a")
    scheduler.cancel("nobody")
    scheduler.submit("a", 2, 3.0, now=0.0)
    assert [(t.session_id, t.request) for t in scheduler.next_batch(0.0)] == [("b", 1), ("a", 2)]


def test_a_request_cancelled_in_flight_comes_back_unwanted():
    scheduler = Scheduler(max_batch=8)
    scheduler.submit("a", 1, 1.0, now=0.0)
    (cancelled,) = scheduler.next_batch(0.0)
    scheduler.cancel("a")
    assert scheduler.in_flight == 0
    scheduler.submit("a", 2, 1.0, now=0.0)
    (newer,) = scheduler.next_batch(0.0)
    assert scheduler.done(cancelled) is False and scheduler.done(newer) is True
    assert scheduler.done(newer) is False


def test_a_request_that_is_tried_again_is_a_batch_by_itself_in_the_order_of_the_deadlines():
    scheduler = Scheduler(max_batch=8)
    for session, deadline in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        scheduler.submit(session, None, deadline, now=0.0)
    first, second, third = scheduler.next_batch(0.0)
    scheduler.cancel("c")
    for ticket in (first, second, third):
        scheduler.retry(ticket)
    scheduler.submit("d", None, 0.5, now=0.0)
    scheduler.submit("e", None, 9.0, now=0.0)
    scheduler.submit("f", None, 9.0, now=0.0)
    batches = [scheduler.next_batch(0.0) for _ in range(5)]
    assert [names(batch) for batch in batches] == [["d"], ["a"], ["b"], ["e", "f"], []]
    assert scheduler.done(first) is False and scheduler.done(batches[1][0]) is True


def test_a_request_picked_after_its_deadline_is_counted_and_still_denoised():
    scheduler = Scheduler(max_batch=8)
    scheduler.submit("a", 1, deadline=1.0, now=0.0)
    scheduler.submit("b", 1, deadline=2.0, now=0.0)
    assert names(scheduler.next_batch(1.5)) == ["a", "b"]
    assert scheduler.late == 1


def test_by_default_nothing_waits():
    scheduler = Scheduler(max_batch=8)
    assert scheduler.wake_at() is None
    assert scheduler.next_batch(0.0) == []
    scheduler.submit("a", 1, deadline=9.0, now=5.0)
    assert scheduler.wake_at() == 5.0
    assert names(scheduler.next_batch(5.0)) == ["a"]


def test_a_batch_may_wait_for_company_and_leaves_when_it_is_full():
    scheduler = Scheduler(max_batch=2, fill_wait_s=0.01)
    scheduler.submit("a", 1, deadline=1.0, now=0.0)
    assert scheduler.next_batch(0.005) == []
    assert scheduler.wake_at() == pytest.approx(0.01)
    scheduler.submit("b", 1, deadline=1.0, now=0.006)
    assert names(scheduler.next_batch(0.006)) == ["a", "b"]


def test_waiting_ends_in_time_for_the_earliest_deadline():
    scheduler = Scheduler(max_batch=8, fill_wait_s=1.0, reserve_s=0.05)
    scheduler.submit("a", 1, deadline=0.2, now=0.0)
    assert scheduler.wake_at() == pytest.approx(0.15)
    scheduler.submit("b", 1, deadline=0.1, now=0.0)
    assert scheduler.wake_at() == pytest.approx(0.05)
    assert names(scheduler.next_batch(0.05)) == ["b", "a"]


def test_what_waits_can_be_drained_in_order():
    scheduler = Scheduler(max_batch=1)
    for session, deadline in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        scheduler.submit(session, None, deadline, now=0.0)
    scheduler.next_batch(0.0)
    assert names(scheduler.drain()) == ["b", "c"]
    assert len(scheduler) == 0 and scheduler.in_flight == 1


def test_a_batch_holds_at_least_one():
    with pytest.raises(ValueError, match="at least one"):
        Scheduler(max_batch=0)


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 9), st.floats(0, 10)), max_size=30),
    max_batch=st.integers(1, 5),
)
def test_every_request_is_denoised_once_and_no_earlier_deadline_is_passed_over(requests, max_batch):
    scheduler = Scheduler(max_batch)
    waiting: dict[str, float] = {}
    for number, deadline in requests:
        if str(number) not in waiting:
            scheduler.submit(str(number), None, deadline, now=0.0)
            waiting[str(number)] = deadline
    while waiting:
        batch = scheduler.next_batch(0.0)
        assert 1 <= len(batch) <= max_batch
        for ticket in batch:
            assert waiting.pop(ticket.session_id) == ticket.deadline
        assert all(left >= batch[-1].deadline for left in waiting.values())
    assert scheduler.next_batch(0.0) == []


def test_what_waits_is_shared_out_among_those_that_could_begin():
    scheduler = Scheduler(max_batch=8)
    for number in range(5):
        scheduler.submit(f"{number}", None, float(number), now=0.0)
    assert names(scheduler.next_batch(0.0, share=2)) == ["0", "1", "2"]
    assert names(scheduler.next_batch(0.0, share=1)) == ["3", "4"]
