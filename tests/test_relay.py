"""Relays: the upstream's frames, byte for byte, for many; what breaks off and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffspeaker_client import Event, FaceError, OutputFormat, connect
from websockets.asyncio.client import ClientConnection

from streamer.contract import wire
from streamer.engine.bundle import Bundle
from streamer.server.app import Address, relaying
from streamer.server.doors import Doors, Pass
from streamer.server.settings import Settings
from tests import fakes
from tests.cables import cable
from tests.processes import started, url_of
from tests.serving import MONO, Place, everything, motion, only, play, raw, say

AUDIO = fakes.speech(2.0)


@contextlib.asynccontextmanager
async def relay(
    folder: Path,
    upstream: str,
    token: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> AsyncIterator[Address]:
    chosen = Settings(port=0, stats_interval_s=60, **settings)
    web = folder / "web"
    async with relaying(chosen, Bundle.load(folder), upstream, token, web_root=web, clock=clock) as address:
        yield address


def upstream_of(address: Address) -> str:
    return address.page.replace("http", "ws", 1)


async def messages(socket: ClientConnection) -> list[bytes]:
    """Every binary message until the connection is closed."""
    return [message async for message in socket if isinstance(message, bytes)]


def test_two_relays_pass_on_every_frame_byte_for_byte_in_each_format_asked_for(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        hello = wire.encode_message(wire.Hello(1, "watch"))
        async with (
            relay(folder, upstream_of(running.address)) as near,
            relay(folder, upstream_of(near)) as far,
            connect(running.url(), "publish", audio=MONO) as speaker,
            raw(running.url()) as direct,
            raw(far.stream("anna")) as relayed,
            connect(far.stream("anna"), output=OutputFormat("vertices", "i16")) as other,
            connect(far.stream("anna"), audio_passthrough=True) as listener,
            asyncio.TaskGroup() as tasks,
        ):
            for socket in (direct, relayed):
                await socket.send(hello)
                welcome = wire.decode_server_message(await socket.recv())
                assert isinstance(welcome, wire.Welcome) and welcome.session == speaker.welcome.session
            watching = [tasks.create_task(messages(socket)) for socket in (direct, relayed)]
            others = [tasks.create_task(everything(face)) for face in (other, listener)]
            await say(speaker, AUDIO)
            await speaker.set_style({"tense": 1.0})
            await speaker.end()
        first, second = (task.result() for task in watching)
        assert first == second and len(first) == 30
        vertices, heard = (task.result() for task in others)
        assert motion(vertices).shape == (60, 3 * fakes.VERTICES)
        assert only(vertices, wire.Ended).frames == 60 and only(heard, wire.StyleEcho).style == {"tense": 1.0}
        passed = np.concatenate([e.samples for e in heard if isinstance(e, wire.Passthrough)])
        assert len(passed) == len(AUDIO)
        direct_values = np.concatenate([wire.decode_frames(message).values for message in first])
        np.testing.assert_array_equal(motion(heard), direct_values)

    play(scenario, folder)


def test_the_upstream_is_watched_once_however_many_watch_here_and_not_at_all_when_they_left(
    folder: Path,
) -> None:
    async def scenario(running: Place) -> None:
        async with (
            relay(folder, upstream_of(running.address)) as near,
            connect(running.url(), "publish", audio=MONO),
        ):
            async with contextlib.AsyncExitStack() as watchers:
                for _ in range(5):
                    await watchers.enter_async_context(connect(near.stream("anna")))
                assert running.address.hub.limits.connections == 2, "the speaker, and one for all"
            while running.address.hub.limits.connections > 1:
                await asyncio.sleep(0.01)
            assert not near.hub.is_busy

    play(scenario, folder)


def test_what_the_upstream_refuses_is_passed_on_and_speaking_is_refused(folder: Path) -> None:
    gates = Doors(passes=(Pass(b"a token for the relay", "watch"),))

    async def scenario(running: Place) -> None:
        upstream = upstream_of(running.address)
        async with relay(folder, upstream) as blind, relay(folder, upstream, "a token for the relay") as near:
            for address, code in ((blind, "unauthorized"), (near, "unknown_stream")):
                with pytest.raises(FaceError) as told:
                    async with connect(address.stream("anna")):
                        pass
                assert told.value.code == code
            with pytest.raises(FaceError, match="for watching") as told:
                async with connect(near.stream("anna"), "publish", audio=MONO):
                    pass
            assert told.value.code == "not_allowed"
            assert not near.hub.is_busy and not blind.hub.is_busy

    play(scenario, folder, doors=gates)


def test_a_cable_to_the_upstream_that_is_pulled_costs_those_who_watch_here_no_connection(
    folder: Path,
) -> None:
    async def scenario(running: Place) -> None:
        async with (
            cable(running.address.port) as laid,
            relay(folder, f"ws://127.0.0.1:{laid.port}") as near,
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(near.stream("anna")) as watcher,
        ):
            await say(speaker, AUDIO[:16_000])
            before: list[Event] = [await watcher.receive()]
            laid.pull()
            for there in (1, 2):  # the relay is gone, and back
                while running.address.hub.limits.connections != there:
                    await asyncio.sleep(0.001)
            await say(speaker, AUDIO[16_000:])
            await speaker.end()
            events = before + await everything(watcher)
            frames = [event for event in events if isinstance(event, wire.Frames)]
            assert [event.seq for event in frames] == sorted({event.seq for event in frames}), "none twice"
            assert frames[-1].first_frame + len(frames[-1].values) == 60
            assert only(events, wire.Ended).frames == 60

    play(scenario, folder)


def test_frames_that_are_late_when_they_come_are_not_passed_on_but_counted(folder: Path) -> None:
    late_s = 0.0

    def clock() -> float:  # the relay's; after its question for the upstream's, that one seems ahead as well
        return time.monotonic() + late_s

    async def scenario(running: Place) -> None:
        nonlocal late_s
        async with (
            relay(folder, upstream_of(running.address), clock=clock) as near,
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(near.stream("anna"), audio_passthrough=True) as watcher,
        ):
            metrics = near.hub.metrics
            counted = [metrics.frames, metrics.frames_dropped.labels("slow_relay")]

            async def handled(frames: int) -> None:
                while sum(count._value.get() for count in counted) < frames:
                    await asyncio.sleep(0.001)

            await say(speaker, AUDIO[:16_000])
            await handled(26)  # what one second of audio gives before its lookahead ends
            passed = counted[0]._value.get()
            late_s = 5.0
            await say(speaker, AUDIO[16_000:24_000])
            await handled(42)
            late_s = 0.0
            await say(speaker, AUDIO[24_000:])
            await speaker.end()
            events = await everything(watcher)
            frames = [event for event in events if isinstance(event, wire.Frames)]
            lost = 60 - sum(len(event.values) for event in frames)
            assert lost == counted[1]._value.get() >= 42 - passed > 0
            assert frames[-1].first_frame + len(frames[-1].values) == 60, "it goes on where it is in time"
            assert only(events, wire.Ended).frames == 60
            heard = sum(len(event.samples) for event in events if isinstance(event, wire.Passthrough))
            assert 0 < heard < len(AUDIO), "late audio is not passed on either"

    play(scenario, folder)


def test_a_stream_that_was_begun_anew_ends_for_those_who_watch_here(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            cable(running.address.port) as laid,
            relay(folder, f"ws://127.0.0.1:{laid.port}") as near,
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(near.stream("anna")) as watcher,
        ):
            speaker._socket.transport.abort()
            while not running.address.hub.find("anna").seat.is_kept:
                await asyncio.sleep(0.001)
            async with connect(running.url(), "publish", audio=MONO):
                laid.pull()
                with pytest.raises(FaceError) as told:
                    await everything(watcher)
                    raise FaceError("shutting_down", "It had ended before the cable broke.")
                assert told.value.code == "shutting_down"

    play(scenario, folder)


def test_a_relay_that_stops_tells_those_who_watch(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            connect(running.url(), "publish", audio=MONO),
            relay(folder, upstream_of(running.address)) as near,
            connect(near.stream("anna")) as watcher,
            asyncio.TaskGroup() as tasks,
        ):
            stopping = tasks.create_task(near.hub.drain())
            with pytest.raises(FaceError) as told:
                await everything(watcher)
            assert told.value.code == "shutting_down"
            await stopping

    play(scenario, folder)


def test_a_relay_is_a_command_and_its_clock_is_the_upstreams(folder: Path) -> None:
    async def scenario(up: str, down: str) -> None:
        async with (
            asyncio.timeout(30),
            connect(url_of(up, "me"), "publish", audio=MONO) as speaker,
            connect(url_of(down, "me")) as watcher,
        ):
            await watcher.ask_clock(1.0)
            await speaker.ask_clock(2.0)
            replies = [await face.receive() for face in (watcher, speaker)]
            assert all(isinstance(reply, wire.ClockReply) for reply in replies)
            assert abs(replies[0].server_time_s - replies[1].server_time_s) < 5  # type: ignore[union-attr]

    with started(folder) as (_, up):
        address = up.replace("http", "ws").rstrip("/")
        with started(folder, "--upstream", address, command="relay") as (_, down):
            asyncio.run(scenario(up, down))


@pytest.mark.parametrize(
    ("words", "said"), [([], "whose streams"), (["--upstream", "x"], "no server's address")]
)
def test_a_relay_of_nothing_is_one_sentence(words: list[str], said: str) -> None:
    from streamer.cli import relay as command

    with pytest.raises(FaceError, match=said):
        command.run(words)
