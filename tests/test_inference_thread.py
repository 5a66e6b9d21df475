"""The inference thread: who is denoised together and when, and that it survives everything."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from streamer.contract.errors import FaceError
from streamer.engine.inference_thread import InferenceThread
from tests import fakes
from tests.fakes import request_of


class Results:
    """Gathers outcomes and lets a test wait for a number of them."""

    def __init__(self):
        self.outcomes = []
        self._arrived = threading.Semaphore(0)

    def __call__(self, outcome):
        self.outcomes.append(outcome)
        self._arrived.release()

    def wait(self, count):
        for _ in range(count):
            assert self._arrived.acquire(timeout=30)
        return self.outcomes


class GatedBackend(fakes.FakeBackend):
    """A fake that computes only when the test opens the gate."""

    def __init__(self, manifest):
        super().__init__(manifest)
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def infer(self, requests):
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        return super().infer(requests)


MANIFEST = fakes.manifest()


def test_each_request_is_answered_with_its_motion_and_its_times():
    ticks = iter(range(1000))
    results, fake = Results(), fakes.FakeBackend(MANIFEST)
    request = request_of(MANIFEST)
    with InferenceThread(fake, clock=lambda: float(next(ticks))) as thread:
        thread.submit("a", request, deadline=1e9, on_done=results)
        (outcome,) = results.wait(1)
    assert outcome.request is request and outcome.error is None
    np.testing.assert_array_equal(outcome.motion, fakes.FakeBackend(MANIFEST).infer([request])[0])
    assert outcome.queue_s > 0 and outcome.compute_s > 0
    assert outcome.batch == 1 and not outcome.late


def test_what_waits_together_is_denoised_together_earliest_deadline_first():
    results, gated = Results(), GatedBackend(MANIFEST)
    with InferenceThread(gated, max_batch=2, clock=lambda: 0.0) as thread:
        thread.submit("first", request_of(MANIFEST), 1.0, results)
        assert gated.entered.acquire(timeout=30)
        requests = {name: request_of(MANIFEST, seed) for seed, name in enumerate(("late", "soon", "middle"))}
        for name, deadline in (("late", 9.0), ("soon", 1.0), ("middle", 2.0)):
            thread.submit(name, requests[name], deadline, results)
        gated.gate.release(3)
        outcomes = results.wait(4)
    order = [outcome.request for outcome in outcomes[1:]]
    assert order == [requests["soon"], requests["middle"], requests["late"]]
    assert gated.batches == [1, 2, 1]


def test_two_backends_compute_side_by_side_and_share_what_waits():
    results, gated = Results(), [GatedBackend(MANIFEST), GatedBackend(MANIFEST)]
    with InferenceThread(gated, max_batch=8, clock=lambda: 0.0) as thread:
        for name in "ab":
            thread.submit(name, request_of(MANIFEST), 1.0, results)
        for backend in gated:
            assert backend.entered.acquire(timeout=30), "each has a window of its own"
        for number in range(5):
            thread.submit(f"later {number}", request_of(MANIFEST, number), 2.0, results)
        for backend in gated:
            backend.gate.release(9)
        outcomes = results.wait(7)
    assert all(outcome.error is None for outcome in outcomes)
    assert gated[0].batches[0] == gated[1].batches[0] == 1
    assert sum(sum(backend.batches) for backend in gated) == 7
    assert thread.backend is gated[0]


def test_a_session_can_submit_its_next_window_from_the_callback():
    results, fake = Results(), fakes.FakeBackend(MANIFEST)
    with InferenceThread(fake) as thread:

        def again(outcome):
            results(outcome)
            if len(results.outcomes) < 3:
                thread.submit("a", request_of(MANIFEST), 0.0, again)

        thread.submit("a", request_of(MANIFEST), 0.0, again)
        results.wait(3)
        assert thread.late == 3  # a deadline of 0 s is long past


@pytest.mark.parametrize("error", [ValueError("boom"), FaceError("inference_failed", "boom.")])
def test_a_failing_batch_is_reported_to_its_sessions_and_the_thread_lives_on(error, caplog):
    results, fake = Results(), fakes.FakeBackend(MANIFEST)
    with InferenceThread(fake) as thread:
        fake.fails_with = error
        thread.submit("a", request_of(MANIFEST), 0.0, results)
        (failed,) = results.wait(1)
        fake.fails_with = None
        thread.submit("a", request_of(MANIFEST), 0.0, results)
        results.wait(1)
    assert failed.motion is None and failed.error.code == "inference_failed"
    assert "boom" in failed.error.message
    assert results.outcomes[1].error is None


class PoisonedBackend(fakes.FakeBackend):
    """A fake that one window breaks: the one whose first sample is 1."""

    def __init__(self, manifest, poison):
        super().__init__(manifest)
        self.poison = poison
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def infer(self, requests):
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        motion = super().infer(requests)
        rows = [row for row, request in enumerate(requests) if request.audio[0] == 1]
        if rows and self.poison == "raises":
            raise ValueError("boom")
        motion[rows] = np.nan
        return motion


@pytest.mark.parametrize("poison", ["raises", "not a number"])
def test_who_shares_a_batch_with_a_window_that_breaks_the_model_loses_nothing(poison):
    results, broken, backend = Results(), Results(), PoisonedBackend(MANIFEST, poison)
    requests = [request_of(MANIFEST, seed) for seed in range(4)]
    requests[2].audio[0] = 1
    with InferenceThread(backend, clock=lambda: 0.0) as thread:
        thread.submit("first", request_of(MANIFEST), 0.0, results)
        assert backend.entered.acquire(timeout=30)
        for number, request in enumerate(requests):
            thread.submit(f"{number}", request, 1.0, broken if number == 2 else results)
        backend.gate.release(99)
        healthy, (failed,) = results.wait(4)[1:], broken.wait(1)
    expected = fakes.FakeBackend(MANIFEST).infer(requests)
    for outcome in healthy:
        number = next(n for n, request in enumerate(requests) if request is outcome.request)
        np.testing.assert_array_equal(outcome.motion, expected[number])
    if poison == "raises":
        assert backend.batches == [1, 4, 1, 1, 1, 1]
        assert failed.error.code == "inference_failed"
    else:
        assert backend.batches == [1, 4, 1]
        assert np.isnan(failed.motion).all(), "the session refuses it"


def test_windows_of_a_thread_that_hangs_are_denoised_by_another_and_it_may_come_back(caplog):
    results, gated = Results(), [GatedBackend(MANIFEST), GatedBackend(MANIFEST)]
    requests = {name: request_of(MANIFEST, seed) for seed, name in enumerate("abc")}
    with InferenceThread(gated, clock=lambda: 0.0, hang_looks=3) as thread:
        for name in "xy":
            thread.submit(name, request_of(MANIFEST), 0.0, results)
        for backend in gated:
            assert backend.entered.acquire(timeout=30)
        for name, request in requests.items():
            thread.submit(name, request, 1.0, results)
        gated[0].gate.release()  # it takes two or three of the three with it
        assert gated[0].entered.acquire(timeout=30)
        gated[1].gate.release(99)  # the other one has the rest, and works
        rest = results.wait(2)
        for _ in range(3):
            assert thread.look() == 0
        assert thread.look() == 1 and thread.look() == 1
        outcomes = results.wait(3)
        assert "does not come back" in caplog.text and not thread.all_hang
        gated[0].gate.release(99)
        thread.submit("later", request_of(MANIFEST), 0.0, results)
        results.wait(1)
        while thread.look():
            time.sleep(0.01)  # until it has answered what nobody wants any more
    assert len(rest) >= 2 and len(outcomes) == 6
    for outcome in outcomes[2:5]:
        expected = fakes.FakeBackend(MANIFEST).infer([outcome.request])[0]
        np.testing.assert_array_equal(outcome.motion, expected)


class AwayBackend(fakes.FakeBackend):
    """A fake that asks others, who are away for some calls."""

    def __init__(self, manifest, calls):
        super().__init__(manifest)
        self.away = calls

    def infer(self, requests):
        self.away -= 1
        if self.away >= 0:
            self.batches.append(len(requests))
            raise FaceError("engine_away", "Nobody answers.")
        return super().infer(requests)


def test_who_asks_an_engine_that_is_away_asks_again_until_the_deadline_and_the_batch_stays_together():
    results, backend = Results(), AwayBackend(MANIFEST, 3)
    now_s = iter([0.0] * 2 + [10.0] * 1000)
    thread = InferenceThread(backend, clock=lambda: 0.0, spreads=False)
    for name in "ab":
        thread.submit(name, request_of(MANIFEST), 1.0, results)
    with thread:
        assert all(outcome.error is None for outcome in results.wait(2))
        assert thread.retries == 2 * 3 and backend.batches == [2] * 4
    results, backend = Results(), AwayBackend(MANIFEST, 9)
    with InferenceThread(backend, clock=lambda: next(now_s)) as thread:
        thread.submit("late", request_of(MANIFEST), 1.0, results)
        (outcome,) = results.wait(1)
        assert outcome.error.code == "engine_away" and thread.retries == 0


def test_where_all_threads_hang_everybody_is_told_and_nothing_new_is_taken():
    results, gated = Results(), GatedBackend(MANIFEST)
    with InferenceThread(gated, clock=lambda: 0.0, hang_looks=0) as thread:
        thread.submit("hangs", request_of(MANIFEST), 0.0, results)
        assert gated.entered.acquire(timeout=30)
        thread.submit("waits", request_of(MANIFEST), 0.0, results)
        assert thread.look() == 1 and thread.all_hang
        assert [outcome.error.code for outcome in results.wait(2)] == ["inference_failed"] * 2
        with pytest.raises(FaceError, match="does not answer"):
            thread.submit("new", request_of(MANIFEST), 0.0, results)
        thread.stop()  # does not wait for it
        gated.gate.release()


def test_a_failing_callback_does_not_end_the_thread(caplog):
    results = Results()

    def fails(outcome):
        raise RuntimeError("a bug")

    with InferenceThread(fakes.FakeBackend(MANIFEST)) as thread:
        thread.submit("a", request_of(MANIFEST), 0.0, fails)
        thread.submit("b", request_of(MANIFEST), 1.0, results)
        results.wait(1)
    assert "a callback failed" in caplog.text


def test_a_cancelled_request_is_never_answered():
    results, gated = Results(), GatedBackend(MANIFEST)
    with InferenceThread(gated) as thread:
        thread.submit("in flight", request_of(MANIFEST), 0.0, results)
        assert gated.entered.acquire(timeout=30)
        thread.submit("waiting", request_of(MANIFEST), 0.0, results)
        thread.submit("kept", request_of(MANIFEST), 1.0, results)
        thread.cancel("in flight")
        thread.cancel("waiting")
        gated.gate.release(2)
        results.wait(1)
    assert len(results.outcomes) == 1 and gated.batches == [1, 1]


def test_stopping_answers_what_waits_and_takes_nothing_new():
    results, gated = Results(), GatedBackend(MANIFEST)
    thread = InferenceThread(gated)
    thread.start()
    thread.submit("in flight", request_of(MANIFEST), 0.0, results)
    assert gated.entered.acquire(timeout=30)
    thread.submit("waiting", request_of(MANIFEST), 0.0, results)
    stopper = threading.Thread(target=thread.stop)
    stopper.start()
    gated.gate.release()
    stopper.join(30)
    first, second = results.outcomes
    assert first.error is None and second.error.code == "shutting_down"
    with pytest.raises(FaceError) as caught:
        thread.submit("late", request_of(MANIFEST), 0.0, results)
    assert caught.value.code == "shutting_down"


def test_a_thread_that_was_never_started_can_be_stopped():
    InferenceThread(fakes.FakeBackend(MANIFEST)).stop()
