"""What a speaker may say besides audio, and every way that a stream ends, on a real port."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import Event, Face, FaceError, Frames, connect

from streamer.contract import wire
from streamer.server import stream
from tests import fakes
from tests.serving import (
    MONO,
    Place,
    everything,
    heard,
    metric,
    motion,
    only,
    play,
    raw,
    refusal,
    say,
    until,
)


def test_interrupt_drops_what_was_received_and_closes_the_mouth(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        long, short = fakes.speech(20), fakes.speech(1)
        async with connect(place.url(), "converse", audio=MONO) as face:
            await say(face, long[:16_000])
            _, before = await until(face, Frames)
            place.backend.gate.clear()
            await say(face, long[16_000:])
            await face.interrupt()
            done, more = await until(face, wire.Interrupted)
            place.backend.gate.set()
            await say(face, short)
            await face.end()
            after = await everything(face)
        old = [event for event in [*before, *more] if isinstance(event, Frames)]
        assert old[-1].flags == wire.FLAG_EASED | wire.FLAG_LAST
        assert not old[-1].values[-1].any()
        assert len(old[-1].values) <= 3  # 100 ms
        assert done == wire.Interrupted(1, old[-1].first_frame + len(old[-1].values) - 1)
        assert done.last_frame < 60  # and not 600
        new = [event for event in after if isinstance(event, Frames)]
        assert {event.epoch for event in new} == {1}
        assert len(motion(new)) == 30
        assert only(after, wire.Ended) == wire.Ended(1, 30, 1.0)
        assert await metric(place, "face_interrupts_total") == 1

    play(scenario, folder)


def test_an_interrupt_after_end_drops_the_tail_and_ends(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "converse", audio=MONO) as face:
            place.backend.gate.clear()
            await say(face, fakes.speech(5))
            await face.end()
            await face.interrupt()
            _, _ = await until(face, wire.Interrupted)
            place.backend.gate.set()
            assert only(await everything(face), wire.Ended) == wire.Ended(1, 0, 0.0)

    play(scenario, folder)


def test_a_style_is_echoed_to_everybody_with_its_first_frame(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "publish", audio=MONO) as speaker, connect(place.url()) as watcher:
            await speaker.set_style({"cheerful": 1.0})
            for face in (speaker, watcher):
                echo, _ = await until(face, wire.StyleEcho)
                assert echo == wire.StyleEcho({"cheerful": 1.0}, 0, 0)
            async with connect(place.url()) as late:
                assert late.welcome.style == {"cheerful": 1.0}

    play(scenario, folder)


def test_the_clock_is_answered_and_stats_come(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "converse", audio=MONO) as face:
            await face.ask_clock(12.5)
            reply, _ = await until(face, wire.ClockReply)
            assert reply.client_time_s == 12.5
            assert reply.server_time_s >= face.welcome.server_time_s
            await say(face, fakes.speech(1))
            while (await until(face, wire.Stats))[0].frames == 0:
                pass

    play(scenario, folder, stats_interval_s=0.01)


def test_a_fast_speaker_is_read_only_as_far_as_the_inbox_reaches(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(60)
        async with (
            connect(place.url(), "publish", audio=MONO) as speaker,
            connect(place.url()) as watcher,
            asyncio.TaskGroup() as tasks,
        ):
            place.backend.gate.clear()
            sending = tasks.create_task(say(speaker, audio, chunk=8000))
            stats = [(await until(watcher, wire.Stats))[0].queue_ms]
            while stats[-1] < 2000:
                stats.append((await until(watcher, wire.Stats))[0].queue_ms)
            for _ in range(5):
                stats.append((await until(watcher, wire.Stats))[0].queue_ms)
            assert max(stats) < 4000
            place.backend.gate.set()
            await sending
            await speaker.end()
            np.testing.assert_array_equal(motion(await everything(watcher)), place.offline(audio))

    play(scenario, folder, read_ahead_s=2.0, stats_interval_s=0.02)


def test_a_model_that_fails_ends_the_stream_with_a_name_and_the_server_lives_on(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "publish", audio=MONO) as speaker, connect(place.url()) as watcher:
            place.backend.fails_with = RuntimeError("out of luck")
            await say(speaker, fakes.speech(1))
            for face in (speaker, watcher):
                with pytest.raises(FaceError, match="out of luck") as failure:
                    await everything(face)
                await face.wait_closed()
                assert (failure.value.code, face.close_code) == ("inference_failed", 1011)
        place.backend.fails_with = None
        async with connect(place.url(), "converse", audio=MONO) as face:
            await say(face, fakes.speech(1))
            await face.end()
            assert len(motion(await everything(face))) == 30

    play(scenario, folder)


def test_while_the_engine_is_away_frames_wait_and_none_is_lost(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(1)
        async with connect(place.url(), "publish", audio=MONO) as speaker, connect(place.url()) as watcher:
            place.backend.fails_with = FaceError("engine_away", "Nobody answers.")
            await say(speaker, audio)
            await speaker.end()
            while await metric(place, "face_windows_given_back_total") < 3:
                await asyncio.sleep(0.01)
            place.backend.fails_with = None
            np.testing.assert_array_equal(motion(await everything(watcher)), place.offline(audio))

    play(scenario, folder)


def test_an_engine_that_stays_away_ends_the_stream_with_its_name(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        place.backend.fails_with = FaceError("engine_away", "Nobody answers.")
        async with connect(place.url(), "converse", audio=MONO) as face:
            await say(face, fakes.speech(1))
            with pytest.raises(FaceError, match="Nobody answers") as told:
                await everything(face)
            assert told.value.code == "engine_away"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_PATIENCE_S", 0.2)
        play(scenario, folder)


def test_a_name_is_free_again_when_its_stream_has_ended(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        for _ in range(3):
            async with connect(place.url(), "converse", audio=MONO) as face:
                await face.end()
                await everything(face)

    play(scenario, folder)


def test_leaving_the_server_tells_everybody_after_their_last_frames(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(3)

        async def watch(face: Face) -> list[Event]:
            events: list[Event] = []
            with pytest.raises(FaceError) as told:
                async for event in face:
                    events.append(event)
            assert told.value.code == "shutting_down"
            return events

        async with (
            connect(place.url(), "publish", audio=MONO) as speaker,
            connect(place.url()) as watcher,
            asyncio.TaskGroup() as tasks,
        ):
            place.backend.gate.clear()
            await say(speaker, audio)
            await heard(speaker)
            watching = [tasks.create_task(watch(face)) for face in (watcher, speaker)]
            stopping = tasks.create_task(place.address.hub.drain())
            while place.address.hub.is_accepting:
                await asyncio.sleep(0)
            with pytest.raises(FaceError) as refused:
                async with connect(place.url("other"), "publish", audio=MONO):
                    pass
            assert refused.value.code == "shutting_down"
            place.backend.gate.set()
            np.testing.assert_array_equal(motion(await watching[0]), place.offline(audio))
            await stopping
            await watching[1]
            assert (watcher.close_code, speaker.close_code) == (1001, 1001)

    play(scenario, folder)


def test_errors_after_many_frames_come_after_those_frames(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with raw(place.url()) as socket:
            await socket.send(wire.encode_message(wire.Hello(1, "converse", audio=MONO)))
            await socket.recv()
            await socket.send(wire.encode_audio(fakes.speech(1), "f32"))
            assert isinstance(await socket.recv(), bytes)
            await socket.send("nonsense")
            assert await refusal(socket) == ("bad_json", 1007)

    play(scenario, folder)
