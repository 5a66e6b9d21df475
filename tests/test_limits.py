"""What one client may take: the rates with a clock of our own, the refusals over real sockets."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from diffspeaker_client import FaceError, connect, sync
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import InvalidStatus

from streamer.contract import wire
from streamer.core.session import WindowRequest
from streamer.engine.bundle import Bundle
from streamer.engine.capacity import HEADROOM, MOST, capacity, measured_capacity, windows_per_s
from streamer.engine.tuning import requests_of
from streamer.server.doors import Doors, Pass, sign
from streamer.server.limits import FASTEST_PER_S, LONGEST_S, SLOWEST_PER_S, Bucket, Guest, Limits
from tests import fakes
from tests.serving import MONO, Place, everything, heard, motion, play, say


class Clock:
    """Seconds that the test turns."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def limits(clock: Clock, **chosen: int) -> Limits:
    rules = {"max_per_address": None, "connects_per_minute": None, "bytes_per_s": None} | chosen
    return Limits(**rules, clock=clock)


# ---- rates ----


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 300)), max_size=40), st.floats(1, 500))
def test_who_waits_as_told_never_takes_more_than_the_rate(
    steps: list[tuple[float, float]], rate: float
) -> None:
    now_s = used = 0.0
    bucket = Bucket(rate, now_s)
    for pause_s, amount in steps:
        now_s += pause_s
        used += amount
        now_s += bucket.take(amount, now_s)
        assert used <= rate * (10 + now_s) * (1 + 1e-9) + 1e-6


def test_a_bucket_refills_and_holds_ten_seconds_worth() -> None:
    bucket = Bucket(2.0, 0.0)
    assert bucket.try_take(20, 0.0) == 0
    assert bucket.try_take(1, 0.0) == pytest.approx(0.5)
    assert bucket.try_take(1, 0.5) == 0
    assert not bucket.is_full(5.0)
    assert bucket.is_full(1000.0)
    assert bucket.try_take(20, 1000.0) == 0
    assert bucket.try_take(0.1, 1000.0) > 0


def test_an_address_that_comes_back_too_often_is_told_when_to() -> None:
    clock = Clock()
    counted = limits(clock, connects_per_minute=60)
    for _ in range(10):
        counted.knock("10.0.0.1")
    with pytest.raises(FaceError, match="more than 60 times a minute") as caught:
        counted.knock("10.0.0.1")
    assert caught.value.code == "at_capacity" and caught.value.hint == "Try again in 1 s."
    counted.knock("10.0.0.2")
    clock.now_s += 1
    counted.knock("10.0.0.1")


def test_addresses_that_are_long_gone_are_forgotten() -> None:
    clock = Clock()
    counted = limits(clock, connects_per_minute=60, bytes_per_s=1000)
    for number in range(2000):
        counted.knock(f"10.0.{number // 250}.{number % 250}")
        counted.pay(f"10.0.{number // 250}.{number % 250}", 10)
        clock.now_s += 0.1
    assert counted.remembered < 600


def test_who_sends_too_much_is_read_later_and_nobody_else_is() -> None:
    clock = Clock()
    counted = limits(clock, bytes_per_s=1000)
    assert counted.pay("a", 10_000) == 0
    assert counted.pay("a", 500) == pytest.approx(0.5)
    assert counted.pay("b", 500) == 0
    clock.now_s += 2
    assert counted.pay("a", 1500) == 0


def test_handshakes_take_turns_slower_where_the_server_is_full() -> None:
    clock = Clock()
    counted = limits(clock)
    for _ in range(int(FASTEST_PER_S)):
        assert counted.turn(0.0) == 0
    assert counted.turn(1.0) == pytest.approx(1 / SLOWEST_PER_S)
    for _ in range(int(SLOWEST_PER_S * LONGEST_S) - 1):
        last_s = counted.turn(1.0)
    assert last_s == pytest.approx(LONGEST_S)
    for _ in range(1000):  # refused, and those who wait do not wait longer for it
        with pytest.raises(FaceError, match="Too many connect"):
            counted.turn(1.0)
    clock.now_s += 1
    assert counted.turn(1.0) < LONGEST_S


def test_tokens_and_addresses_are_counted_apart_until_they_leave() -> None:
    counted = limits(Clock(), max_per_address=3)
    guest, other = Guest("token 1", 1), Guest("token 2")
    with counted.held("a", guest):
        with pytest.raises(FaceError, match="This token has 1 connections"):
            counted.check("b", guest)
        with counted.held("a", other), counted.held("a", other):
            with pytest.raises(FaceError, match="This address has 3 connections"):
                counted.check("a", other)
            counted.check("b", other)
        assert counted.connections == 1
    counted.check("a", guest)
    assert counted.connections == 0


# ---- capacity ----


def test_capacity_is_a_share_of_what_is_denoised_and_within_bounds() -> None:
    assert capacity(15 * 20 / HEADROOM, 1000 / 15) == 20
    assert capacity(0.1, 66) == 1
    assert capacity(1e9, 66) == MOST


class SlowBackend(fakes.FakeBackend):
    """Counts what it computes."""

    count = 0

    def infer(self, requests: Sequence[WindowRequest]) -> fakes.F32:
        self.count += len(requests)
        return super().infer(requests)


def test_capacity_is_measured_with_all_workers_at_once(folder: Path) -> None:
    bundle = Bundle.load(folder)
    backends = [SlowBackend(bundle.manifest) for _ in range(2)]
    rate = windows_per_s(backends, requests_of(bundle, 2), 0.05)
    assert rate > 0 and all(backend.count >= 4 for backend in backends)
    assert 1 <= measured_capacity(backends, bundle, 4, 66.7, 0.02) <= MOST


def test_a_backend_that_fails_is_said_and_nobody_waits_for_it(folder: Path) -> None:
    bundle = Bundle.load(folder)

    class Broken(SlowBackend):
        def infer(self, requests: Sequence[WindowRequest]) -> fakes.F32:
            raise FaceError("inference_failed", "The card is gone.")

    with pytest.raises(FaceError, match="The card is gone"):
        windows_per_s([SlowBackend(bundle.manifest), Broken(bundle.manifest)], requests_of(bundle, 1), 5.0)


# ---- over sockets ----


def test_five_times_as_many_knock_and_those_inside_lose_no_frame(folder: Path) -> None:
    places = 3

    async def scenario(place: Place) -> None:
        audio = fakes.speech(3)

        async def speak(number: int) -> fakes.F32:
            async with connect(place.url(f"in-{number}"), "converse", audio=MONO) as face:
                inside.release()
                await say(face, audio[: len(audio) // 2])
                await knocked.wait()
                await say(face, audio[len(audio) // 2 :])
                await face.end()
                return motion(await everything(face))

        async def knock(number: int) -> None:
            for _ in range(3):
                with pytest.raises(FaceError, match=f"All {places} places") as caught:
                    async with connect(place.url(f"out-{number}"), "publish", audio=MONO):
                        pass
                assert caught.value.code == "at_capacity" and "Try again in 5 s" in caught.value.hint

        inside, knocked = asyncio.Semaphore(0), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            speakers = [tasks.create_task(speak(number)) for number in range(places)]
            for _ in range(places):
                await inside.acquire()
            await asyncio.gather(*(knock(number) for number in range(5 * places)))
            knocked.set()
        for speaker in speakers:
            np.testing.assert_array_equal(speaker.result(), place.offline(audio))
        async with connect(place.url("next"), "publish", audio=MONO):  # a place is free again
            pass

    play(scenario, folder, max_sessions=places)


def test_a_speaker_with_a_shorter_hop_counts_as_more(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        usual = place.bundle.manifest.timing.hop.default_frames
        assert usual > 1
        shortest_ms = 1000 / place.bundle.manifest.timing.frame_rate_hz
        async with connect(place.url("a"), "publish", audio=MONO, hop_ms=shortest_ms) as face:
            with pytest.raises(FaceError, match="places"):
                async with connect(place.url("b"), "publish", audio=MONO):
                    pass
            await face.end()
            await everything(face)
        for name in ("c", "d"):
            async with connect(place.url(name), "publish", audio=MONO) as face:
                await heard(face)

    play(scenario, folder, max_sessions=2)


def test_a_token_has_so_many_connections_and_no_more(folder: Path) -> None:
    key = b"0123456789abcdef0123456789abcdef"
    listed = Doors(passes=(Pass(b"speaker-speaker-1", "any", "*", 1),), signing_key=key)

    async def scenario(place: Place) -> None:
        signed = sign(key, "any", "*", 60, listed.clock())
        async with connect(place.url(), "publish", audio=MONO, token="speaker-speaker-1"):
            with pytest.raises(FaceError, match="This token has 1 connections already"):
                async with connect(place.url(), token="speaker-speaker-1"):
                    pass
            async with connect(place.url(), token=signed):
                pass

    play(scenario, folder, doors=listed)


def test_an_address_that_reconnects_without_end_is_refused_before_the_handshake(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        for _ in range(2):
            async with connect(place.url("a"), "publish", audio=MONO):
                pass
        with pytest.raises(InvalidStatus) as caught:
            async with open_socket(place.url("a")):
                pass
        response = caught.value.response
        assert response.status_code == 429 and response.headers["Retry-After"] == "5"
        assert response.body is not None and b"more than 12 times a minute" in response.body

        with pytest.raises(
            FaceError, match="more than 12 times a minute"
        ) as refused:  # as our client says it
            async with connect(place.url("a")):
                pass
        assert refused.value.code == "at_capacity"

        def blocking() -> None:
            with pytest.raises(FaceError, match="more than 12 times"), sync.connect(place.url("a")):
                pass

        await asyncio.to_thread(blocking)

        def page() -> int:  # the page is not a speaker
            url = urlsplit(place.url())
            asked = http.client.HTTPConnection(url.hostname or "", url.port)
            asked.request("GET", "/healthz")
            return asked.getresponse().status

        assert await asyncio.to_thread(page) == 200

    play(scenario, folder, connects_per_minute=12)


def test_who_sends_more_than_agreed_is_still_heard_whole(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(2)  # 128,000 bytes, and 10 s of 12,000 are there at once
        async with connect(place.url("a"), "converse", audio=MONO) as face:
            await say(face, audio)
            await face.end()
            events = await everything(face)
        np.testing.assert_array_equal(motion(events), place.offline(audio))
        assert any(isinstance(event, wire.Ended) for event in events)
        assert place.address.hub.limits.remembered == 1

    play(scenario, folder, bytes_per_s=12_000)
