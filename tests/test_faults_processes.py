"""Processes that are stopped, killed, frozen, or write to a full disk, while others speak and watch.

The rule of all of these: a client that does nothing wrong gets every frame once and in order, and each is
what the same audio gives without the fault.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from diffspeaker_client import FaceError, connect

from streamer.contract import wire
from tests import fakes, faulty_bundles
from tests.processes import Client, client, expected, get, started, stopped, url_of
from tests.serving import GUARD_S, MONO, everything, motion, only

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, as other systems know them")

WATCH = ("watch", "--stream", "me", "-o", "-")


# ---- stopping, dying, coming back ----


def test_sigterm_takes_nothing_new_tells_everybody_after_their_last_frames_and_exits_with_0(
    tmp_path: Path,
) -> None:
    folder = faulty_bundles.write(tmp_path / "bundle", "slow")  # so that draining takes a while
    audio = fakes.speech(4)

    async def scenario(page: str, stop: Callable[[], None]) -> None:
        async with (
            asyncio.timeout(GUARD_S),
            connect(url_of(page, "a"), "publish", audio=MONO) as speaker,
            connect(url_of(page, "a")) as watcher,
        ):
            await speaker.send_audio(audio)
            first = await watcher.receive()
            stop()
            frames = [first]
            with pytest.raises(FaceError) as told:
                async for event in watcher:
                    frames.append(event)
                    if len(frames) == 3:
                        assert get(page, "readyz")[0] == 503
                        with pytest.raises(FaceError) as refusal:
                            async with connect(url_of(page, "b"), "publish", audio=MONO):
                                pass
                        assert refusal.value.code == "shutting_down"
            assert told.value.code == "shutting_down"
            np.testing.assert_array_equal(motion(frames), expected(folder, audio))

    with started(folder) as (process, page):
        asyncio.run(scenario(page, lambda: process.send_signal(signal.SIGTERM)))
        assert stopped(process) == (0, "", "")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def test_after_a_sigkill_clients_come_back_by_themselves_and_say_how_long_it_took(
    folder: Path, tmp_path: Path
) -> None:
    port = str(free_port())
    soundfile.write(tmp_path / "long.wav", fakes.speech(60), 16_000)
    server = f"ws://127.0.0.1:{port}"

    async def until_told(clients: Sequence[Client], words: str) -> None:
        async with asyncio.timeout(GUARD_S):
            for one in clients:
                await one.saying(words)

    with (
        client(
            tmp_path, "speaker", "publish", str(tmp_path / "long.wav"), "--stream", "me", "--server", server
        ) as speaker,
        client(tmp_path, "watcher", *WATCH, "--server", server) as watcher,
    ):
        with started(folder, "--port", port) as (process, _):
            asyncio.run(until_told([speaker], "speaks as"))
            asyncio.run(until_told([watcher], "Watching"))
            process.send_signal(signal.SIGKILL)
            asyncio.run(until_told([speaker, watcher], "Trying again"))
        with started(folder, "--port", port):
            asyncio.run(until_told([speaker, watcher], "Back after"))
            seen = len(watcher.out.read_bytes())

            async def more() -> None:
                async with asyncio.timeout(GUARD_S):
                    while len(watcher.out.read_bytes()) == seen:
                        await asyncio.sleep(0.05)

            asyncio.run(more())
        for one in (speaker, watcher):
            assert re.search(r"Back after \d+\.\d s\.", one.said())
            assert one.process.poll() is None


def test_a_speakers_process_that_is_killed_is_waited_for_and_then_has_ended(
    folder: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "long.wav", fakes.speech(60), 16_000)

    async def scenario(page: str, speaker: Client) -> None:
        async with asyncio.timeout(GUARD_S):
            await speaker.saying("speaks as")
            async with connect(url_of(page, "me")) as watcher:
                first = await watcher.receive()
                speaker.process.send_signal(signal.SIGKILL)
                frames = [first, *await everything(watcher)]
                ended = only(frames, wire.Ended)
                assert len(motion(frames, first.first_frame)) == ended.frames - first.first_frame

    with (
        started(folder, "--resume-s", "0.2") as (_, page),
        client(
            tmp_path, "speaker", "publish", str(tmp_path / "long.wav"), "--stream", "me", "--server", page
        ) as speaker,
    ):
        asyncio.run(scenario(page, speaker))


# ---- those who watch ----


def table(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)


def test_watchers_that_stall_die_or_come_late_cost_the_others_nothing(folder: Path, tmp_path: Path) -> None:
    audio = fakes.speech(4)

    async def scenario(page: str) -> None:
        url = url_of(page, "me")
        with (
            client(tmp_path, "whole", *WATCH, "--once", "--server", page) as whole,
            client(tmp_path, "stalled", *WATCH, "--once", "--server", page) as stalled,
            client(tmp_path, "killed", *WATCH, "--once", "--server", page) as killed,
        ):
            async with asyncio.timeout(GUARD_S):
                speaking = asyncio.create_task(
                    spoken_once_watched(url, audio, [whole, stalled, killed], middle(stalled, killed))
                )
                frames = await speaking
                stalled.process.send_signal(signal.SIGCONT)
                for one in (whole, stalled):
                    assert await asyncio.to_thread(one.process.wait) == 0
        np.testing.assert_array_equal(frames, expected(folder, audio))
        rows = table(whole.out)
        np.testing.assert_allclose(rows[:, 1:], frames, atol=1e-6)
        np.testing.assert_allclose(rows[:, 0], np.arange(len(frames)) / 30, atol=1e-6)
        # The one that was stopped for a while had room in its outbox, and missed nothing either.
        np.testing.assert_allclose(table(stalled.out), rows, atol=1e-9)

    def middle(stalled: Client, killed: Client) -> Callable[[str], AsyncIterator[None]]:
        async def run(url: str) -> AsyncIterator[None]:
            stalled.process.send_signal(signal.SIGSTOP)
            killed.process.send_signal(signal.SIGKILL)
            async with connect(url) as late:
                first = await late.receive()
                assert first.first_frame > 0
                yield
                frames = [first, *await everything(late)]
                all_of_them = expected(folder, audio)
                np.testing.assert_array_equal(
                    motion(frames, first.first_frame), all_of_them[first.first_frame :]
                )

        return run

    async def spoken_once_watched(
        url: str,
        audio: fakes.F32,
        watchers: Sequence[Client],
        in_the_middle: Callable[[str], AsyncIterator[None]],
    ) -> fakes.F32:
        async with connect(url, "converse", audio=MONO) as face, asyncio.TaskGroup() as tasks:
            for one in watchers:
                await one.saying("Watching")
            half = len(audio) // 2
            await face.send_audio(audio[:half])
            first = await face.receive()  # or the late one may come before any frame, and not be late
            listening = tasks.create_task(everything(face))
            events = in_the_middle(url)
            opening = tasks.create_task(anext(events))
            rest = audio[half:]
            for start in range(0, len(rest), 320):
                await asyncio.sleep(320 / 16_000)
                await face.send_audio(rest[start : start + 320])
            await opening
            await face.end()
            with pytest.raises(StopAsyncIteration):
                await anext(events)
        return motion([first, *listening.result()])

    with started(folder, "--late-windows", "each") as (_, page):
        asyncio.run(scenario(page))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("out", ["-", "/dev/full"])
def test_a_disk_that_is_full_while_recording_is_said_and_nobody_else_loses_a_frame(
    folder: Path, tmp_path: Path, out: str
) -> None:
    audio = fakes.speech(2)

    async def scenario(page: str) -> fakes.F32:
        words = ("watch", "--stream", "me", "-o", out, "--server", page)
        full = client(tmp_path, "full", *words, out=Path("/dev/full"))
        with full as recorder:
            async with (
                asyncio.timeout(GUARD_S),
                connect(url_of(page, "me"), "converse", audio=MONO) as face,
                asyncio.TaskGroup() as tasks,
            ):
                await recorder.saying("Watching")
                listening = tasks.create_task(everything(face))
                await face.send_audio(audio)
                code = await asyncio.to_thread(recorder.process.wait)
                await face.end()
            assert code == 2
            assert "The table cannot be written: No space left on device." in recorder.said()
            assert "Traceback" not in recorder.said() and "Trying again" not in recorder.said()
        return motion(listening.result())

    with started(folder) as (_, page):
        np.testing.assert_array_equal(asyncio.run(scenario(page)), expected(folder, audio))
