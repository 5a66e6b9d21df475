"""The inbox: who is live, how much it holds, and when audio came. Time is the test's."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.server.inbox import Inbox
from tests import fakes

CHUNK_S = 0.02
CHUNK = np.zeros(320, np.float32)


class Time:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def speak(inbox: Inbox, time: Time, seconds: float) -> None:
    """Hands over chunks in real time."""
    for _ in range(round(seconds / CHUNK_S)):
        time.now_s += CHUNK_S
        inbox.put(CHUNK)


def burst(inbox: Inbox, seconds: float) -> None:
    for _ in range(round(seconds / CHUNK_S)):
        inbox.put(CHUNK)


def made() -> tuple[Inbox, Time]:
    time = Time()
    return Inbox(16_000, 30.0, time), time


@pytest.mark.parametrize("gap_s", [0.3, 1.0, 4.0])
def test_who_was_held_up_by_the_network_is_live_all_the_same(gap_s: float) -> None:
    inbox, time = made()
    speak(inbox, time, 2)
    time.now_s += gap_s
    burst(inbox, gap_s)
    assert inbox.is_live
    speak(inbox, time, 60)
    assert inbox.is_live


def test_a_sound_card_that_is_a_little_fast_is_live() -> None:
    inbox, time = made()
    for _ in range(60 * 50):
        time.now_s += CHUNK_S / 1.01
        inbox.put(CHUNK)
    assert inbox.is_live


@pytest.mark.parametrize("before_s", [0.0, 5.0])
def test_who_sends_faster_than_real_time_is_not_live_any_more(before_s: float) -> None:
    inbox, time = made()
    speak(inbox, time, before_s)
    burst(inbox, 0.5)
    assert not inbox.is_live
    speak(inbox, time, 60)
    assert not inbox.is_live


def test_a_burst_after_a_long_silence_is_new() -> None:
    inbox, time = made()
    speak(inbox, time, 1)
    time.now_s += 60
    burst(inbox, 6)
    assert not inbox.is_live


def test_what_waits_is_counted_taken_in_slices_and_forgotten_with_the_epoch() -> None:
    inbox, time = made()
    audio = fakes.speech(0.25)
    inbox.put(audio)
    taken = [inbox.take() for _ in range(3)]
    assert [len(part) for part in taken] == [1600, 1600, 800] and not inbox
    np.testing.assert_array_equal(np.concatenate(taken), audio)
    assert inbox.received_samples == 4000
    time.now_s += 1.5
    assert inbox.age_s(0.1) == pytest.approx(1.5)
    inbox.put(audio)
    assert inbox.waiting_s == 0.25 and inbox.age_s(0.3) == 0
    inbox.begin_epoch()
    assert (inbox.received_samples, inbox.waiting_s, inbox.plays_from, bool(inbox)) == (0, 0, None, False)
