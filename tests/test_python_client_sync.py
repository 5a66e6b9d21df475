"""The blocking client: the same server, the same frames, and a program that simply waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import Event, FaceError, Frames, sync
from websockets.exceptions import ConnectionClosed

from streamer.contract import wire
from tests import fakes
from tests.serving import MONO, Place, motion, only, play


def blocking(program: Callable[[Place], None], folder: Path) -> None:
    """Runs a program without an event loop of its own against a server."""

    async def scenario(running: Place) -> None:
        await asyncio.to_thread(program, running)

    play(scenario, folder)


def test_a_script_sends_a_whole_file_and_then_reads_every_frame(folder: Path) -> None:
    def program(running: Place) -> None:
        audio = fakes.speech(4)
        with sync.connect(running.url(), "converse", audio=MONO, style={"tense": 1.0}) as face:
            assert face.welcome.style == {"tense": 1.0}
            for start in range(0, len(audio), 1600):
                face.send_audio(audio[start : start + 1600])
            face.end()
            events = list(face)
            assert face.close_code == 1000
        np.testing.assert_array_equal(motion(events), running.offline(audio, style={"tense": 1.0}))
        assert only(events, wire.Ended).frames == 120

    blocking(program, folder)


def test_one_thread_sends_while_another_watches(folder: Path) -> None:
    def program(running: Place) -> None:
        audio = fakes.speech(1)
        with sync.connect(running.url(), "publish", audio=MONO) as speaker:
            seen: list[Event] = []
            watching = threading.Event()

            def watch() -> None:
                with sync.connect(running.url()) as watcher:
                    watching.set()
                    seen.extend(watcher)

            thread = threading.Thread(target=watch)
            thread.start()
            assert watching.wait(30)
            speaker.send_audio(audio)
            speaker.end()
            assert only(list(speaker), wire.Ended).frames == 30
            thread.join(30)
        np.testing.assert_array_equal(motion(seen), running.offline(audio))

    blocking(program, folder)


def test_integers_and_floats_are_converted_to_what_the_hello_named(folder: Path) -> None:
    def program(running: Place) -> None:
        whole = (fakes.speech(1) * 20_000).astype(np.int16)
        with sync.connect(running.url(), "converse", audio=MONO) as face:
            face.send_audio(whole)
            face.end()
            events = list(face)
        audio = whole.astype(np.float32) / np.float32(32_768)
        np.testing.assert_array_equal(motion(events), running.offline(audio))

    blocking(program, folder)


def test_an_interrupt_a_style_and_the_clock_are_answered(folder: Path) -> None:
    def program(running: Place) -> None:
        with sync.connect(running.url(), "converse", audio=MONO) as face:
            face.ask_clock(12.5)
            answer = next(event for event in face if isinstance(event, wire.ClockReply))
            assert answer.client_time_s == 12.5
            face.set_style({"cheerful": 1.0})
            face.send_audio(fakes.speech(1))
            face.interrupt()
            face.end()
            events = list(face)
        assert only(events, wire.Interrupted).epoch == 1
        assert only(events, wire.Ended).epoch == 1

    blocking(program, folder)


def test_nothing_to_receive_is_a_timeout_and_a_closed_connection_says_so(folder: Path) -> None:
    def program(running: Place) -> None:
        with sync.connect(running.url(), "converse", audio=MONO) as face:
            with pytest.raises(TimeoutError):
                face.receive(0)
            face.close()
            with pytest.raises(ConnectionClosed):
                face.receive()

    blocking(program, folder)


def test_what_the_server_refuses_is_raised_with_its_name(folder: Path) -> None:
    def program(running: Place) -> None:
        with pytest.raises(FaceError) as refusal, sync.connect(running.url("nobody")):
            pass
        assert refusal.value.code == "unknown_stream"

    blocking(program, folder)


def test_an_error_of_the_program_closes_the_connection_and_the_stream_is_free_again(folder: Path) -> None:
    class Mistake(Exception):
        pass

    def program(running: Place) -> None:
        with pytest.raises(Mistake), sync.connect(running.url(), "publish", audio=MONO):
            raise Mistake
        # The server ends the stream when it sees the connection go; a watcher of it then ends as well.
        with pytest.raises(FaceError) as refusal, sync.connect(running.url()) as watcher:
            assert not any(isinstance(event, Frames) for event in watcher)
            raise FaceError("unknown_stream", "it ended while it was watched")
        assert refusal.value.code == "unknown_stream"

    blocking(program, folder)


def test_no_server_is_an_os_error() -> None:
    with pytest.raises(OSError), sync.connect("ws://127.0.0.1:1/v1/streams/a"):
        pass
