"""Clocks that step and networks that break, under real processes.

The rule of all of these: a client that does nothing wrong gets every frame once and in order, and each is
what the same audio gives without the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
from diffspeaker_client import connect
from diffspeaker_client.exchange import encode_pcm

from streamer.contract import wire
from tests import fakes
from tests.cables import cable
from tests.processes import Client, client, expected, metric, started, url_of
from tests.serving import GUARD_S, MONO, everything, motion, only

if sys.platform != "win32":
    from tests.lossy_line import HERE, lossy_line

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, as other systems know them")


# ---- the clock and the network ----


def test_steps_of_the_wall_clock_do_not_touch_a_stream(folder: Path, tmp_path: Path) -> None:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        assert not os.environ.get("CI"), "faketime is missing"
        pytest.skip("needs Debian's faketime")
    wall = tmp_path / "wall"
    wall.write_text("+0\n")
    environment = {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(wall),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    audio = fakes.speech(3)

    def year(page: str) -> str:
        with urllib.request.urlopen(page + "healthz", timeout=GUARD_S) as answer:
            return str(answer.headers["Date"].split()[3])

    async def scenario(page: str) -> fakes.F32:
        async with (
            asyncio.timeout(GUARD_S),
            connect(url_of(page, "me"), "converse", audio=MONO) as face,
            asyncio.TaskGroup() as tasks,
        ):
            listening = tasks.create_task(everything(face))
            years = []
            for number, step in enumerate(("+0", "+1000d", "-1000d")):
                wall.write_text(f"{step}\n")
                years.append(await asyncio.to_thread(year, page))
                part = audio[number * 16_000 : (number + 1) * 16_000]
                for start in range(0, len(part), 320):
                    await asyncio.sleep(320 / 16_000)
                    await face.send_audio(part[start : start + 320])
            assert int(years[1]) - int(years[0]) >= 2 and int(years[0]) - int(years[2]) >= 2
            await face.end()
        return motion(listening.result())

    with started(folder, "--late-windows", "each", environment=environment) as (_, page):
        np.testing.assert_array_equal(asyncio.run(scenario(page)), expected(folder, audio))


def test_a_cable_that_is_pulled_again_and_again_costs_no_frame(folder: Path, tmp_path: Path) -> None:
    audio = fakes.speech(6)
    soundfile.write(tmp_path / "long.wav", audio, 16_000, subtype="PCM_16")

    async def scenario(page: str) -> None:
        port = int(page.rsplit(":", 1)[1].rstrip("/"))
        async with asyncio.timeout(GUARD_S), cable(port) as laid:
            server = f"ws://127.0.0.1:{laid.port}"
            with client(
                tmp_path,
                "speaker",
                "publish",
                str(tmp_path / "long.wav"),
                "--stream",
                "me",
                "--server",
                server,
            ) as one:
                await one.saying("speaks as")
                async with connect(url_of(page, "me")) as watcher, asyncio.TaskGroup() as tasks:
                    watching = tasks.create_task(everything(watcher))
                    for times in (1, 2, 3):
                        laid.pull()
                        await one.saying("Back after", times)
                assert await asyncio.to_thread(one.process.wait) == 0
            frames = watching.result()
            first = next(event for event in frames if isinstance(event, wire.Frames))
            assert len(motion(frames, first.first_frame)) == 180 - first.first_frame
            assert only(frames, wire.Ended).audio_s == 6.0

    with started(folder) as (_, page):
        asyncio.run(scenario(page))
        assert metric(page, "face_streams_resumed_total") == 3


@pytest.mark.slow
def test_through_a_network_that_loses_and_delays_every_frame_comes_once_and_in_order(
    folder: Path, tmp_path: Path
) -> None:
    audio = fakes.speech(6)
    soundfile.write(tmp_path / "speech.wav", audio, 16_000, subtype="PCM_16")
    token = "for this test alone"
    with contextlib.ExitStack() as leaving:
        try:
            here, there = leaving.enter_context(lossy_line())
        except (FileNotFoundError, PermissionError) as error:
            assert not os.environ.get("CI"), error
            pytest.skip(f"no network namespaces here: {error}")
        serving = started(folder, "--host", HERE, "--late-windows", "each", "--token", token, before=here)
        _, page = leaving.enter_context(serving)
        where = ("--stream", "me", "--server", page, "--token", token)
        watching = client(tmp_path, "watcher", "watch", "--once", "-o", "-", *where, before=there)
        talking = client(tmp_path, "speaker", "publish", str(tmp_path / "speech.wav"), *where, before=there)
        speaker = leaving.enter_context(talking)

        async def scenario() -> Client:
            async with asyncio.timeout(60):
                await speaker.saying("speaks as")
                watcher = leaving.enter_context(watching)
                await watcher.saying("Watching")
                for one in (speaker, watcher):
                    assert await asyncio.to_thread(one.process.wait) == 0, one.said()
                return watcher

        watcher = asyncio.run(scenario())
        rows = np.loadtxt(watcher.out, delimiter=",", skiprows=1)
        assert "Trying again" not in speaker.said() + watcher.said().split("Watching")[1]
    pcm = soundfile.read(tmp_path / "speech.wav", dtype="float32")[0]
    frames = expected(folder, wire.decode_audio(encode_pcm(pcm, "s16"), wire.AudioFormat("s16", 16_000, 1)))
    first = round(rows[0, 0] * 30)
    np.testing.assert_allclose(rows[:, 0], np.arange(first, len(frames)) / 30, atol=1e-6)
    np.testing.assert_allclose(rows[:, 1:], frames[first:], atol=1e-6)
