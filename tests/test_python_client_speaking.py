"""Speaking on a stream and watching one: sound files, a microphone, tables, and a server that is real."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from diffspeaker_client import FaceError, Frames, connect
from diffspeaker_client.exchange import encode_pcm
from diffspeaker_client.microphone import Microphone
from diffspeaker_client.publish import Publisher, Speech, level_db
from diffspeaker_client.sound_file import SoundFile
from diffspeaker_client.status import Status
from diffspeaker_client.watch import Glance, Table, Watcher

from streamer.contract import wire
from tests import fakes
from tests.cables import cable
from tests.serving import MONO, Place, everything, motion, only, play


class Screen(io.StringIO):
    """Where a command's sentences go; a test can wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived = asyncio.Event()

    def write(self, text: str) -> int:
        self._arrived.set()
        return super().write(text)

    async def saying(self, words: str, times: int = 1) -> None:
        while self.getvalue().count(words) < times:
            self._arrived.clear()
            await self._arrived.wait()


def quiet() -> Status:
    return Status(io.StringIO())


# ---- speaking ----


def write_wav(path: Path, audio: fakes.F32, rate_hz: int = 16_000) -> Path:
    soundfile.write(path, audio, rate_hz, subtype="PCM_16")
    return path


def test_a_sound_file_is_heard_in_full_and_then_the_command_ends(folder: Path, tmp_path: Path) -> None:
    async def scenario(running: Place) -> None:
        path = write_wav(tmp_path / "a.wav", fakes.speech(0.5))
        screen = io.StringIO()
        async with asyncio.TaskGroup() as tasks:
            with SoundFile(path) as source:
                publisher = Publisher(Speech(running.url(), style={"tense": 1.0}), source, Status(screen))
                speaking = tasks.create_task(publisher.run())
                watched = await first_welcome(running)
                assert watched.style == {"tense": 1.0}
                await speaking
        assert f"{path} speaks as 'anna'" in screen.getvalue()

    play(scenario, folder)


async def first_welcome(running: Place) -> wire.Welcome:
    """Watches as soon as somebody speaks; ends with the stream."""
    while True:
        try:
            async with connect(running.url()) as watcher:
                events = await everything(watcher)
                assert only(events, wire.Ended).audio_s == 0.5
                return watcher.welcome
        except FaceError as error:
            assert error.code == "unknown_stream"


def test_a_file_whose_connection_broke_goes_on_behind_what_was_heard_and_says_how_long_it_took(
    folder: Path, tmp_path: Path
) -> None:
    async def scenario(running: Place) -> None:
        audio = fakes.speech(1.5)
        screen = Screen()
        with SoundFile(write_wav(tmp_path / "a.wav", audio)) as source:
            async with cable(running.address.port) as laid, asyncio.TaskGroup() as tasks:
                publisher = Publisher(Speech(laid.url()), source, Status(screen))
                speaking = tasks.create_task(publisher.run())
                await screen.saying("speaks as 'anna'")
                async with connect(running.url()) as watcher:
                    events = [await anext(aiter(watcher))]
                    laid.pull()
                    events += await everything(watcher)
                await speaking
        pcm = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
        heard = wire.decode_audio(encode_pcm(pcm, "s16"), wire.AudioFormat("s16", 16_000, 1))
        first = events[0].first_frame if isinstance(events[0], Frames) else 0
        np.testing.assert_array_equal(motion(events, first), running.offline(heard)[first:])
        assert only(events, wire.Ended).audio_s == 1.5
        assert "was lost. Trying again." in screen.getvalue()
        assert re.search(r"\nBack after \d+\.\d s\.\n", screen.getvalue())

    play(scenario, folder)


def test_two_channels_of_many_are_sent_and_other_files_are_refused(tmp_path: Path) -> None:
    wide = np.stack([fakes.speech(0.1)] * 3, 1)
    with SoundFile(write_wav(tmp_path / "wide.wav", wide, 44_100)) as source:
        assert source.format == wire.AudioFormat("s16", 44_100, 2)

        async def heard() -> fakes.F32:
            return np.concatenate([chunk async for chunk in source.chunks()])

        np.testing.assert_allclose(asyncio.run(heard()), wide[:, :2], atol=1e-4)
    for name in ("no.wav", "no.raw"):
        (tmp_path / name).write_text("not sound")
    missing = ("none.wav", "there is no such file")
    for name, words in (missing, ("no.wav", "cannot be read"), ("no.raw", "samplerate")):
        with pytest.raises(FaceError, match=words) as told:
            SoundFile(tmp_path / name)
        assert told.value.code == "bad_audio_file"
    with pytest.raises(FaceError, match="4000 Hz"):
        SoundFile(write_wav(tmp_path / "low.wav", fakes.speech(0.1), 4000))


class FakePortAudioError(Exception):
    pass


class FakeStream:
    """Stands in for the sound library's stream: calls back from a thread of its own when a test says so."""

    newest: FakeStream

    def __init__(
        self, callback: Callable[..., None], finished_callback: Callable[[], None], **_: Any
    ) -> None:
        self.samplerate = 16_000.0
        self.callback, self.finished = callback, finished_callback
        self.closed = False
        FakeStream.newest = self

    def start(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def speak(self, audio: fakes.F32) -> None:
        def run() -> None:
            buffer = np.zeros((320, 1), np.float32)  # PortAudio reuses its memory
            for start in range(0, len(audio), 320):
                piece = audio[start : start + 320]
                buffer[: len(piece), 0] = piece
                self.callback(buffer[: len(piece)], len(piece), None, None)
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
def test_a_microphone_is_a_speaker_until_it_is_gone(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        audio = fakes.speech(1)
        screen = Screen()
        with Microphone() as microphone:
            publisher = Publisher(Speech(running.url()), microphone, Status(screen))
            speaking = asyncio.ensure_future(publisher.run())
            await screen.saying("speaks as")
            async with connect(running.url()) as watcher:
                FakeStream.newest.speak(audio)
                with pytest.raises(FaceError, match="is gone") as told:
                    await speaking
                events = await everything(watcher)
        assert told.value.code == "no_audio_device" and FakeStream.newest.closed
        sent = np.rint(audio * 32_767) / np.float32(32_768)
        np.testing.assert_array_equal(motion(events), running.offline(sent.astype(np.float32)))
        assert "A microphone speaks as 'anna'" in screen.getvalue()

    play(scenario, folder)


@pytest.mark.usefixtures("device")
def test_what_a_microphone_hears_while_nobody_listens_is_forgotten() -> None:
    async def scenario() -> None:
        with Microphone("3") as microphone:
            FakeStream.newest.speak(fakes.speech(10))
            assert len(microphone._blocks) == 64
            with pytest.raises(FaceError):
                _ = [chunk async for chunk in microphone.chunks()]
            assert not microphone._blocks

    asyncio.run(scenario())


@pytest.mark.usefixtures("device")
def test_no_microphone_has_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise FakePortAudioError("Error querying device -1")

    monkeypatch.setattr(sys.modules["sounddevice"], "query_devices", refuse)

    async def scenario() -> None:
        with pytest.raises(FaceError, match="querying device -1.*--device"), Microphone():
            pass

    asyncio.run(scenario())


def test_a_name_that_the_server_still_holds_for_us_is_waited_for_and_anothers_is_not(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with connect(running.url(), "publish", audio=MONO):
            source = SimpleNamespace(name="x", format=MONO, is_endless=True, chunks=None)
            with pytest.raises(FaceError) as refusal:
                await Publisher(Speech(running.url()), source, quiet()).run()
            assert refusal.value.code == "stream_taken"

    play(scenario, folder)


def test_silence_and_full_scale_have_a_level() -> None:
    assert level_db(np.zeros((320, 1), np.float32)) == -90
    assert level_db(np.ones((320, 1), np.float32)) == pytest.approx(0)
    assert level_db(np.zeros((0, 1), np.float32)) == -90


# ---- watching ----


def test_a_table_holds_every_frame_and_its_time_only_grows(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        written, screen = io.StringIO(), Screen()
        watcher = Watcher(running.url(), None, Table(written), Status(screen), once=True)
        async with (
            connect(running.url(), "publish", audio=MONO) as speaker,
            connect(running.url()) as beside,
            asyncio.TaskGroup() as tasks,
        ):
            watching = tasks.create_task(watcher.run())
            await screen.saying("Watching")
            await speaker.send_audio(fakes.speech(1))
            await speaker.interrupt()
            await speaker.send_audio(fakes.speech(1, seed=1))
            await speaker.end()
            blocks = [event for event in await everything(beside) if isinstance(event, Frames)]
            await watching
        head, *rows = written.getvalue().splitlines()
        assert head.split(",") == ["time_s", *fakes.CHANNELS]
        table = np.array([row.split(",") for row in rows], float)
        np.testing.assert_allclose(table[:, 1:], np.concatenate([b.values for b in blocks]), atol=1e-6)
        np.testing.assert_allclose(table[:, 0], np.arange(len(rows)) / 30, atol=1e-6)
        assert blocks[-1].epoch == 1 and len(rows) >= 30

    play(scenario, folder)


def test_a_table_does_not_change_its_columns() -> None:
    table = Table(io.StringIO())
    one = np.zeros((1, 1), np.float32)
    table.write(["jawOpen"], np.zeros(1), one)
    with pytest.raises(FaceError, match="other channels"):
        table.write(["mouthClose"], np.zeros(1), one)


class Gone(io.StringIO):
    """Standard output whose reader went away, or a disk that is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (BrokenPipeError(32, "Broken pipe"), BrokenPipeError),
        (OSError(28, "No space left on device"), FaceError),
    ],
)
def test_a_table_that_cannot_be_written_is_not_taken_for_a_server_that_is_away(
    folder: Path, error: OSError, raised: type[Exception]
) -> None:
    async def scenario(running: Place) -> None:
        screen = Screen()
        async with connect(running.url(), "publish", audio=MONO) as speaker:
            watcher = Watcher(running.url(), None, Table(Gone(error)), Status(screen), once=False)
            watching = asyncio.ensure_future(watcher.run())
            await screen.saying("Watching")
            await speaker.send_audio(fakes.speech(1))
            with pytest.raises(raised):
                await watching
        assert "Trying again" not in screen.getvalue()

    play(scenario, folder)


def test_a_stream_that_is_over_is_waited_for_without_a_second_word(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        screen, seen = Screen(), io.StringIO()
        watching = asyncio.ensure_future(
            Watcher(running.url(), None, Glance(seen), Status(screen), once=False).run()
        )
        await screen.saying("Trying again")
        for round_ in (1, 2):
            async with connect(running.url(), "publish", audio=MONO) as speaker:
                await screen.saying("Watching", times=round_)
                await speaker.end()
                await everything(speaker)
            await screen.saying("is over. Waiting", times=round_)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert screen.getvalue().count("Trying again") == 1

    play(scenario, folder)


def test_a_glance_names_what_is_open_widest() -> None:
    seen = io.StringIO()
    values = np.array([[0, 0, 0], [0.25, 0.01, 0.5]], np.float32)
    Glance(seen).write(["jawOpen", "mouthClose", "tongueOut"], np.array([1.0, 2.5]), values)
    Glance(seen).write(["jawOpen"], np.array([3.0]), np.zeros((1, 1), np.float32))
    assert seen.getvalue() == "    2.500 s  tongueOut 0.50  jawOpen 0.25\n    3.000 s  at rest\n"
