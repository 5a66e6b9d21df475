"""The microphone's way into a stream, with a stand-in for the sound library: no test needs a device."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diffspeaker_client import FaceError, connect

from streamer.contract import wire
from streamer.server.microphone import STREAM_NAME, Microphone
from tests import fakes
from tests.serving import Place, everything, motion, only, play

RATE_HZ = 44_100


class FakePortAudioError(Exception):
    pass


class FakeStream:
    """Calls back from a thread of its own, as PortAudio does, when it is told to."""

    newest: FakeStream

    def __init__(
        self, callback: Callable[..., None], finished_callback: Callable[[], None], **_: Any
    ) -> None:
        self.samplerate = float(RATE_HZ)
        self.callback, self.finished = callback, finished_callback
        self.closed = False
        FakeStream.newest = self

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def speak(self, audio: fakes.F32, block: int = 441) -> None:
        def run() -> None:
            buffer = np.zeros((block, 1), np.float32)  # PortAudio reuses its memory
            for start in range(0, len(audio), block):
                piece = audio[start : start + block]
                buffer[: len(piece), 0] = piece
                self.callback(buffer[: len(piece)], len(piece), None, None)
            buffer[:] = 9
            self.finished()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(
        InputStream=FakeStream,
        PortAudioError=FakePortAudioError,
        query_devices=lambda device, kind: {"name": "A microphone"},
    )
    monkeypatch.setitem(sys.modules, "sounddevice", library)


@pytest.mark.usefixtures("device")
def test_what_the_microphone_hears_is_a_stream_like_any_other(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        audio = fakes.speech(2, RATE_HZ)
        with Microphone() as microphone:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(microphone.publish(place.address.hub))
                await asyncio.sleep(0)
                async with connect(place.url(STREAM_NAME)) as watcher:
                    FakeStream.newest.speak(audio)
                    events = await everything(watcher)
        assert FakeStream.newest.closed
        np.testing.assert_array_equal(motion(events), place.offline(audio, sample_rate_hz=RATE_HZ))
        assert only(events, wire.Ended).frames == 60

    play(scenario, folder)


@pytest.mark.usefixtures("device")
def test_the_microphones_stream_ends_when_the_server_stops(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        with Microphone() as microphone:
            async with asyncio.TaskGroup() as tasks:
                publishing = tasks.create_task(microphone.publish(place.address.hub))
                await asyncio.sleep(0)
                await place.address.hub.drain()
                publishing.cancel()

    play(scenario, folder)


@pytest.mark.parametrize(
    ("library", "sentence"),
    [
        (None, "captured"),
        (FakePortAudioError("Error querying device -1"), "Error querying device -1"),
        (ValueError("No input device matching 'x'"), "No input device matching 'x'"),
    ],
)
def test_no_device_has_a_name_and_a_sentence(
    library: Exception | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        assert library is not None
        raise library

    class Missing:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    if library is None:
        monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    else:
        stand_in = SimpleNamespace(query_devices=refuse, PortAudioError=FakePortAudioError)
        monkeypatch.setitem(sys.modules, "sounddevice", stand_in)

    async def enter() -> None:
        with Microphone("x"):
            pass

    with pytest.raises(FaceError, match=sentence) as refused:
        asyncio.run(enter())
    assert (refused.value.code, refused.value.exit_code) == ("no_audio_device", 3)
