"""A speaker who is lost and comes back: in every state, and nobody who watches misses or repeats a frame."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import AudioFormat, Event, Face, FaceError, Frames, connect
from websockets.exceptions import ConnectionClosed

from streamer.contract import wire
from streamer.server.doors import Doors, Pass
from tests import fakes
from tests.serving import MONO, Place, everything, heard, metric, motion, only, play, raw, say, until


def vanish(face: Face) -> None:
    """The connection breaks off, as when a cable is pulled: no closing handshake, no ``end``."""
    face._socket.transport.abort()


def continuous(events: Iterable[Event]) -> list[int]:
    """The epochs of all frames, having checked that no sequence number is left out or comes twice."""
    frames = [event for event in events if isinstance(event, Frames)]
    assert [event.seq for event in frames] == list(range(frames[0].seq, frames[0].seq + len(frames)))
    return [event.epoch for event in frames]


AUDIO = fakes.speech(2.0)


@pytest.mark.parametrize("cut", [0, 160, 9_999, 16_000, 31_999], ids=lambda n: f"after {n} samples")
@pytest.mark.parametrize("gate", ["computing", "waiting"])
def test_a_lost_speaker_goes_on_where_the_server_heard_it_last(folder: Path, cut: int, gate: str) -> None:
    async def scenario(running: Place) -> None:
        async with (
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(running.url()) as watcher,
            asyncio.TaskGroup() as tasks,
        ):
            watching = tasks.create_task(everything(watcher))
            if gate == "waiting":
                running.backend.gate.clear()  # a window is out, others wait
            await say(speaker, AUDIO[:cut])
            await heard(speaker)
            vanish(speaker)
            session = speaker.welcome.session
            async with connect(running.url(), "publish", audio=MONO, resume=session) as again:
                assert again.welcome.session == session
                assert again.welcome.received_samples == cut
                running.backend.gate.set()
                await say(again, AUDIO[again.welcome.received_samples :])
                await again.end()
                assert only(await everything(again), wire.Ended).audio_s == 2.0
            events = watching.result()
            np.testing.assert_array_equal(motion(events), running.offline(AUDIO))
            assert set(continuous(events)) == {0}
            assert await metric(running, "face_streams_resumed_total") == 1

    play(scenario, folder)


def test_audio_that_was_on_its_way_when_the_connection_broke_is_sent_again(folder: Path) -> None:
    """What the server's inbox has no room for is not heard; the welcome says from where to go on."""

    async def scenario(running: Place) -> None:
        running.backend.gate.clear()
        async with connect(running.url(), "converse", audio=MONO) as speaker:
            await say(speaker, AUDIO)
            vanish(speaker)
            session = speaker.welcome.session
        async with connect(running.url(), "publish", audio=MONO, resume=session) as again:
            assert again.welcome.session == session
            received = again.welcome.received_samples
            assert 0 < received < len(AUDIO)
            async with connect(running.url()) as watcher, asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(everything(watcher))
                running.backend.gate.set()
                await say(again, AUDIO[received:])
                await again.end()
            np.testing.assert_array_equal(motion(watching.result()), running.offline(AUDIO))

    play(scenario, folder, read_ahead_s=0.5)


def test_a_speaker_lost_after_an_interrupt_goes_on_in_the_new_epoch(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            connect(running.url(), "publish", audio=MONO, seed=3) as speaker,
            connect(running.url()) as watcher,
        ):
            await say(speaker, AUDIO)
            await speaker.interrupt()
            _, before = await until(watcher, wire.Interrupted)
            await heard(speaker)
            vanish(speaker)
            session = speaker.welcome.session
            async with connect(running.url(), "publish", audio=MONO, resume=session) as again:
                assert (again.welcome.epoch, again.welcome.received_samples) == (1, 0)
                await say(again, AUDIO[:8000])
                await again.end()
                events = await everything(watcher)
            epochs = continuous([*before, *events])
            assert epochs == sorted(epochs) and set(epochs) == {0, 1}
            assert len(motion(events)) == 15

    play(scenario, folder)


def test_a_speaker_lost_after_its_end_is_not_waited_for(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        running.backend.gate.clear()
        async with (
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(running.url()) as watcher,
        ):
            await say(speaker, AUDIO)
            await speaker.end()
            await heard(speaker)
            vanish(speaker)
            running.backend.gate.set()
            np.testing.assert_array_equal(motion(await everything(watcher)), running.offline(AUDIO))

    play(scenario, folder, resume_s=3600)


def test_who_is_not_back_in_time_has_ended(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(running.url()) as watcher,
        ):
            await say(speaker, AUDIO)
            await heard(speaker)
            vanish(speaker)
            np.testing.assert_array_equal(motion(await everything(watcher)), running.offline(AUDIO))
        session = speaker.welcome.session
        async with connect(running.url(), "publish", audio=MONO, resume=session) as again:
            assert again.welcome.session != session and again.welcome.received_samples == 0

    play(scenario, folder, resume_s=0.05)


def test_a_connection_that_is_dead_and_does_not_know_it_gives_way(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            connect(running.url(), "converse", audio=MONO) as speaker,
            connect(running.url()) as watcher,
            asyncio.TaskGroup() as tasks,
        ):
            watching = tasks.create_task(everything(watcher))
            await say(speaker, AUDIO[:16_000])
            await heard(speaker)
            session = speaker.welcome.session
            async with connect(running.url(), "converse", audio=MONO, resume=session) as again:
                with pytest.raises((FaceError, ConnectionClosed)) as told:
                    await say(speaker, AUDIO)  # is not heard any more
                    await everything(speaker)
                if isinstance(told.value, FaceError):
                    assert told.value.code == "stream_taken"
                await say(again, AUDIO[16_000:])
                await again.end()
                await everything(again)
            np.testing.assert_array_equal(motion(watching.result()), running.offline(AUDIO))
            assert speaker.close_code == 4409

    play(scenario, folder)


def test_who_begins_anew_gets_the_name_and_the_lost_speakers_watchers_are_told(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(running.url()) as watcher,
        ):
            await say(speaker, AUDIO[:16_000])
            await heard(speaker)
            with pytest.raises(FaceError, match="has a publisher already"):
                async with connect(running.url(), "publish", audio=MONO, resume="another"):
                    pass
            vanish(speaker)
            async with connect(running.url(), "publish", audio=MONO, resume="another") as other:
                assert other.welcome.session != speaker.welcome.session
                events = await everything(watcher)
                assert only(events, wire.Ended).audio_s == 1.0
                np.testing.assert_array_equal(motion(events), running.offline(AUDIO[:16_000]))
                async with connect(running.url()) as newer:
                    assert newer.welcome.session == other.welcome.session
                    await say(other, AUDIO)
                    await other.end()
                    np.testing.assert_array_equal(motion(await everything(newer)), running.offline(AUDIO))

    play(scenario, folder, resume_s=3600)


def test_a_stream_goes_on_at_its_own_rate_only(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with connect(running.url(), "publish", audio=MONO) as speaker:
            vanish(speaker)
            session, fast = speaker.welcome.session, AudioFormat("s16", 48_000, 2)
            with pytest.raises(FaceError, match="goes on at 16000 Hz") as told:
                async with connect(running.url(), "publish", audio=fast, resume=session):
                    pass
            assert told.value.code == "bad_audio_format"
            slow = AudioFormat("s16", 16_000, 2)
            async with connect(running.url(), "converse", audio=slow, resume=session) as again:
                assert again.welcome.session == session

    play(scenario, folder)


def test_who_may_only_watch_cannot_take_a_lost_speakers_seat(folder: Path) -> None:
    gates = Doors(
        passes=(Pass(b"the speaker's own token", "publish"), Pass(b"a token to watch with", "watch"))
    )

    async def scenario(running: Place) -> None:
        speaking, watching = "the speaker's own token", "a token to watch with"
        async with (
            connect(running.url(), "publish", audio=MONO, token=speaking) as speaker,
            connect(running.url(), token=watching) as watcher,
        ):
            vanish(speaker)
            session = watcher.welcome.session  # which is no secret
            with pytest.raises(FaceError) as told:
                async with connect(running.url(), "publish", audio=MONO, token=watching, resume=session):
                    pass
            assert told.value.code == "unauthorized"
            async with connect(running.url(), "publish", audio=MONO, token=speaking, resume=session) as again:
                assert again.welcome.session == session

    play(scenario, folder, doors=gates)


def test_a_server_that_stops_does_not_wait_for_the_lost(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(running.url()) as watcher,
            asyncio.TaskGroup() as tasks,
        ):
            await say(speaker, AUDIO)
            await heard(speaker)
            vanish(speaker)
            stopping = tasks.create_task(running.address.hub.drain())
            events: list[Event] = []
            with pytest.raises(FaceError) as told:
                async for event in watcher:
                    events.append(event)
            assert told.value.code == "shutting_down"
            np.testing.assert_array_equal(motion(events), running.offline(AUDIO))
            await stopping

    play(scenario, folder, resume_s=3600)


@pytest.mark.parametrize("said", ["", '{"type":"hello","version":1,"ro'])
def test_who_vanishes_before_the_welcome_leaves_nothing_behind(folder: Path, said: str) -> None:
    async def scenario(running: Place) -> None:
        socket = await raw(running.url())
        if said:
            await socket.send(said)
        socket.transport.abort()
        await running.address.hub.idle()
        async with connect(running.url(), "publish", audio=MONO) as speaker:
            assert speaker.welcome.received_samples == 0

    play(scenario, folder)
