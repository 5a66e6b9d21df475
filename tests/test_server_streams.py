"""Speakers and watchers on a real port: who receives what, in every role and every format."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import AudioFormat, Frames, OutputFormat, Passthrough, connect

from streamer.contract import wire
from streamer.server import loop
from streamer.server.stream import PACED_LEAD_S
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
    say,
    until,
)


def test_watchers_receive_every_frame_once_in_order_while_another_is_stalled(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(60)
        async with (
            connect(place.url(), "publish", audio=MONO) as speaker,
            connect(place.url()) as first,
            connect(place.url()) as second,
            raw(place.url(), max_queue=1, sock=_narrow_socket(place)) as stalled,
            asyncio.TaskGroup() as tasks,
        ):
            await stalled.send(wire.encode_message(wire.Hello(1, "watch")))
            assert isinstance(wire.decode_server_message(await stalled.recv()), wire.Welcome)
            watching = [tasks.create_task(everything(face)) for face in (first, second)]
            await say(speaker, audio)
            await speaker.end()
            assert only(await everything(speaker), wire.Ended).frames == 1800
            expected = place.offline(audio)
            for events in [await task for task in watching]:
                np.testing.assert_array_equal(motion(events), expected)
                assert only(events, wire.Ended) == wire.Ended(0, 1800, 60.0)
            assert (first.close_code, second.close_code, speaker.close_code) == (1000, 1000, 1000)
            assert await metric(place, 'face_frames_dropped_total{reason="slow_watcher"}') > 0
            stalled.transport.abort()

    play(scenario, folder)


def _narrow_socket(place: Place) -> socket.socket:
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", place.address.port))
    narrow.setblocking(False)
    return narrow


def test_a_late_watcher_receives_everything_from_then_on(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(4)
        async with connect(place.url(), "converse", audio=MONO) as speaker:
            await say(speaker, audio[:32_000])
            _, _ = await until(speaker, Frames)
            async with connect(place.url()) as late:
                await say(speaker, audio[32_000:])
                await speaker.end()
                events = await everything(late)
        first = next(event for event in events if isinstance(event, Frames)).first_frame
        assert first > 0
        np.testing.assert_array_equal(motion(events, first), place.offline(audio)[first:])

    play(scenario, folder)


def test_a_publisher_that_vanishes_is_still_animated_to_its_last_sample(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(3)
        async with connect(place.url(), "publish", audio=MONO) as speaker, connect(place.url()) as watcher:
            place.backend.gate.clear()
            await say(speaker, audio)
            await heard(speaker)
            speaker._socket.transport.abort()
            place.backend.gate.set()
            events = await everything(watcher)
            np.testing.assert_array_equal(motion(events), place.offline(audio))
            assert only(events, wire.Ended).frames == 90
            assert watcher.close_code == 1000

    play(scenario, folder)


@pytest.mark.parametrize("event_loop", ["uvloop where present", "asyncio's own"])
def test_a_conversation_equals_the_same_audio_offline(
    folder: Path, event_loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if event_loop == "asyncio's own":
        monkeypatch.setitem(sys.modules, "uvloop", None)
        assert loop.loop_factory() is None

    async def scenario(place: Place) -> None:
        audio = fakes.speech(2.5, 48_000)
        form = AudioFormat("f32", 48_000, 1)
        async with connect(
            place.url(), "converse", audio=form, seed=5, lookahead_ms=50, hop_ms=33, style={"tense": 0.5}
        ) as face:
            await say(face, audio, chunk=481)
            await face.end()
            events = await everything(face)
        assert face.welcome.hop_ms == pytest.approx(100 / 3)
        assert face.welcome.style == {"tense": 0.5}
        assert face.welcome.channels == fakes.CHANNELS
        assert face.welcome.face_delay_ms >= face.welcome.hop_ms + face.welcome.lookahead_ms
        np.testing.assert_array_equal(
            motion(events),
            place.offline(
                audio, sample_rate_hz=48_000, seed=5, lookahead_ms=50, hop_ms=33, style={"tense": 0.5}
            ),
        )
        last = [event for event in events if isinstance(event, Frames)][-1]
        assert last.flags & wire.FLAG_LAST

    play(scenario, folder)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5, 1.001])
def test_end_flushes_the_last_syllable(folder: Path, seconds: float) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(seconds)
        async with connect(place.url(), "converse", audio=MONO) as face:
            if len(audio):
                await face.send_audio(audio)
            await face.end()
            events = await everything(face)
        frames = place.bundle.manifest.timing.grid().frames_within(len(audio))
        assert only(events, wire.Ended).frames == frames
        if frames:
            np.testing.assert_array_equal(motion(events), place.offline(audio))

    play(scenario, folder)


def test_stereo_s16_is_mixed_to_mono(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        left, right = (np.round(fakes.speech(1, seed=seed) * 32767).astype(np.int16) for seed in (1, 2))
        async with connect(place.url(), "converse", audio=AudioFormat("s16", 16_000, 2)) as face:
            await face.send_audio(np.stack([left, right], axis=1))
            await face.end()
            events = await everything(face)
        mono = (left.astype(np.float32) / 32768 + right.astype(np.float32) / 32768) / 2
        np.testing.assert_array_equal(motion(events), place.offline(mono.astype(np.float32)))

    play(scenario, folder)


def test_every_output_format_carries_the_same_face(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(2)
        outputs = [
            OutputFormat(kind, dtype)  # type: ignore[arg-type]
            for kind in ("coefficients", "vertices")
            for dtype in ("f32", "f16", "i16")
        ]
        faces = [connect(place.url(), output=output) for output in outputs]
        async with connect(place.url(), "publish", audio=MONO) as speaker, asyncio.TaskGroup() as tasks:
            entered = [await face.__aenter__() for face in faces]
            watching = [tasks.create_task(everything(face)) for face in entered]
            await say(speaker, audio)
            await speaker.end()
            await everything(speaker)
            received = [await task for task in watching]
            for face in faces:
                await face.__aexit__(None, None, None)
        coefficients = place.offline(audio)
        vertices = place.bundle.vertices(coefficients).reshape(len(coefficients), -1)
        for output, face, events in zip(outputs, entered, received, strict=True):
            expected = coefficients if output.kind == "coefficients" else vertices
            welcome = face.welcome
            assert (welcome.kind, welcome.dtype, welcome.width) == (
                output.kind,
                output.dtype,
                expected.shape[1],
            )
            assert welcome.unit == ("weight" if output.kind == "coefficients" else "metre")
            tolerance = {"f32": 0, "f16": 5e-4, "i16": welcome.scale * 0.51}[output.dtype]
            np.testing.assert_allclose(motion(events), expected, rtol=0, atol=tolerance)
            sent = [event for event in events if isinstance(event, Frames)]
            assert [event.seq for event in sent] == list(range(len(sent)))

    play(scenario, folder)


def test_vertices_computed_off_the_loop_stay_in_order(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        place.address.hub._vertices_off_loop = True
        audio = fakes.speech(2)
        async with connect(
            place.url(), "converse", audio=MONO, output=OutputFormat("vertices", "f32")
        ) as face:
            await say(face, audio)
            await face.end()
            events = await everything(face)
        expected = place.bundle.vertices(place.offline(audio)).reshape(60, -1)
        np.testing.assert_allclose(motion(events), expected, atol=1e-7)

    play(scenario, folder)


def test_audio_passes_through_on_the_frames_clock(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        pcm = np.round(fakes.speech(1.5) * 32767).astype(np.int16)
        async with (
            connect(place.url(), "publish", audio=AudioFormat("s16", 16_000, 1)) as speaker,
            connect(place.url(), audio_passthrough=True) as listener,
            connect(place.url()) as watcher,
            asyncio.TaskGroup() as tasks,
        ):
            listening, watching = (
                tasks.create_task(everything(listener)),
                tasks.create_task(everything(watcher)),
            )
            await say(speaker, pcm)
            await speaker.interrupt()
            await say(speaker, pcm)
            await speaker.end()
            await everything(speaker)
            sound = [event for event in await listening if isinstance(event, Passthrough)]
            assert not any(isinstance(event, Passthrough) for event in await watching)
        assert [chunk.seq for chunk in sound] == list(range(len(sound)))
        second = [chunk for chunk in sound if chunk.epoch == 1]
        np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in second]), pcm)
        place_of = 0
        for chunk in second:
            assert chunk.pts_s == pytest.approx(place_of / 16_000)
            assert chunk.sample_rate_hz == 16_000
            place_of += len(chunk.samples)

    play(scenario, folder)


class Time:
    """A clock that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_live_speakers_late_windows_are_denoised_as_one(folder: Path) -> None:
    clock = Time()

    async def scenario(place: Place) -> None:
        audio = fakes.speech(1)
        async with connect(place.url(), "converse", audio=MONO) as face:
            place.backend.gate.clear()
            for start in range(0, len(audio), 1600):
                await face.send_audio(audio[start : start + 1600])
                await heard(face)
                clock.now_s += 0.1
            place.backend.batches.clear()
            place.backend.gate.set()
            await face.end()
            assert len(motion(await everything(face))) == 30
        joined = await metric(place, "face_windows_joined_total")
        assert joined >= 5
        assert len(place.backend.batches) < 12, "where one window each would have been 15"

    play(scenario, folder, clock=clock)


def test_late_windows_of_a_script_or_where_it_is_not_wanted_are_denoised_one_by_one(folder: Path) -> None:
    async def scenario(place: Place, clock: Time, pace_s: float) -> None:
        audio = fakes.speech(1)
        async with connect(place.url(), "converse", audio=MONO) as face:
            place.backend.gate.clear()
            for start in range(0, len(audio), 1600):
                await face.send_audio(audio[start : start + 1600])
                await heard(face)
                clock.now_s += pace_s
            clock.now_s += 5
            place.backend.gate.set()
            await face.end()
            np.testing.assert_array_equal(motion(await everything(face)), place.offline(audio))
        assert await metric(place, "face_windows_joined_total") == 0

    for clock, pace_s, settings in ((Time(), 0.0, {}), (Time(), 0.1, {"join_late_windows": False})):

        async def run(place: Place, clock: Time = clock, pace_s: float = pace_s) -> None:
            await scenario(place, clock, pace_s)

        play(run, folder, clock=clock, **settings)


def test_a_paced_streams_frames_come_when_they_are_due_and_the_same_ones(folder: Path) -> None:
    clock = Time()

    async def scenario(place: Place) -> None:
        audio = fakes.speech(2)
        async with raw(place.url()) as socket:
            hello = wire.Hello(1, "converse", audio=MONO, paced=True)
            await socket.send(wire.encode_message(hello))
            await socket.recv()
            for start in range(0, len(audio), 1600):
                await socket.send(wire.encode_audio(audio[start : start + 1600], "f32"))
            await socket.send(wire.encode_message(wire.End()))
            values: list[fakes.F32] = []
            reached: list[int] = []
            for second in (0, 1, 2):
                clock.now_s = 100.0 + second
                frames = sum(map(len, values))
                while frames < min(60, 30 * (second + PACED_LEAD_S) - 0.5):
                    message = await socket.recv()
                    if isinstance(message, bytes):
                        values.append(wire.decode_frames(message).values)
                        frames += len(values[-1])
                if second < 2:  # and what is asked now is answered before any further frame
                    await socket.send(wire.encode_message(wire.ClockRequest(0.0)))
                    while isinstance(message := await socket.recv(), bytes):
                        values.append(wire.decode_frames(message).values)
                reached.append(sum(map(len, values)))
            assert reached == [8, 38, 60]
            np.testing.assert_array_equal(np.concatenate(values), place.offline(audio))

    play(scenario, folder, clock=clock)


def test_an_interrupted_paced_stream_begins_anew_with_the_next_audio(folder: Path) -> None:
    clock = Time()

    async def scenario(place: Place) -> None:
        hello = wire.Hello(1, "converse", audio=MONO, paced=True)
        async with raw(place.url()) as socket:
            await socket.send(wire.encode_message(hello))
            await socket.send(wire.encode_audio(fakes.speech(3), "f32"))
            await socket.send(wire.encode_message(wire.Interrupt()))
            epochs = []
            async for message in socket:
                if isinstance(message, bytes):
                    continue
                event = wire.decode_server_message(message)
                if isinstance(event, wire.Interrupted):
                    epochs.append(event.epoch)
                    assert event.last_frame < 30 * PACED_LEAD_S + 3, "little was ahead of its time"
                    clock.now_s += 60
                    await socket.send(wire.encode_audio(fakes.speech(0.2), "f32"))
                    await socket.send(wire.encode_message(wire.End()))
                elif isinstance(event, wire.Ended):
                    assert (event.epoch, event.frames) == (1, 6)
            assert epochs == [1]

    play(scenario, folder, clock=clock)
