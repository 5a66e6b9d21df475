"""Two servers behind a real nginx, as it is configured here: a stream's clients meet, and one may die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import FaceError, connect
from websockets.exceptions import ConnectionClosed

from tests import fakes
from tests.processes import ROOT, expected, get, metric, started
from tests.serving import GUARD_S, MONO, everything, motion

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
AUDIO = fakes.speech(1.0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def nginx(folder: Path, pages: list[str]) -> Iterator[str]:
    """The shipped configuration before servers; yields the address."""
    if NGINX is None:
        assert not os.environ.get("CI"), "nginx is missing"
        pytest.skip("needs Debian's nginx-light")
    port = free_port()
    text = (ROOT / "deploy" / "nginx.conf").read_text().replace("127.0.0.1:8600", f"127.0.0.1:{port}")
    for shipped, page in zip(("127.0.0.1:8601", "127.0.0.1:8602"), pages, strict=True):
        assert shipped in text
        text = text.replace(shipped, page.split("/")[2])
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{text}\n}}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"])
    try:
        deadline = time.monotonic() + GUARD_S
        while True:
            assert process.poll() is None and time.monotonic() < deadline
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{port}/v1/streams/"
    finally:
        process.terminate()
        process.wait()


async def meets(url: str) -> str:
    """A speaker and a watcher of one stream; the session in which they met."""
    async with connect(url, "publish", audio=MONO) as speaker, connect(url) as watcher:
        assert watcher.welcome.session == speaker.welcome.session
        await speaker.send_audio(AUDIO)
        await speaker.end()
        assert len(motion(await everything(watcher))) == 30
        return speaker.welcome.session


def test_a_streams_speaker_and_watchers_meet_and_streams_are_spread_over_the_servers(
    folder: Path, tmp_path: Path
) -> None:
    async def scenario(front: str) -> None:
        async with asyncio.timeout(GUARD_S):
            await asyncio.gather(*(meets(f"{front}stream-{number}") for number in range(16)))

    with (
        started(folder, "--max-sessions", "16") as (_, one),
        started(folder, "--max-sessions", "16") as (_, two),
    ):
        with nginx(tmp_path, [one, two]) as front:
            asyncio.run(scenario(front))
            page = front.replace("ws:", "http:").removesuffix("v1/streams/")
            assert get(page, "readyz")[0] == 200
        frames = [metric(page, "face_frames_total") for page in (one, two)]
        assert sum(frames) == 16 * 30 and min(frames) >= 3 * 30


def test_a_server_that_is_killed_moves_its_streams_and_touches_no_other(folder: Path, tmp_path: Path) -> None:
    audio = fakes.speech(3.0)

    async def speak_on(url: str) -> tuple[str, str, float]:
        """Speaks until the server dies, and comes back: both sessions, and how long it took."""
        loop = asyncio.get_running_loop()
        try:
            async with connect(url, "converse", audio=MONO) as face:
                before = face.welcome.session
                await everything(face)
        except ConnectionClosed:
            pass
        lost = loop.time()
        while True:
            try:
                async with connect(url, "converse", audio=MONO, resume=before) as face:
                    took = loop.time() - lost
                    await face.send_audio(AUDIO)
                    await face.end()
                    assert len(motion(await everything(face))) == 30
                    return before, face.welcome.session, took
            except (OSError, FaceError, ConnectionClosed):
                await asyncio.sleep(0.05)
            except Exception as error:  # nginx answers 502 while it finds out
                assert re.search("50[24]", str(error)), error
                await asyncio.sleep(0.05)

    async def untouched(url: str, dead: asyncio.Event) -> None:
        async with connect(url, "converse", audio=MONO) as face:
            await face.send_audio(audio[:16_000])
            await dead.wait()
            await face.send_audio(audio[16_000:])
            await face.end()
            np.testing.assert_array_equal(motion(await everything(face)), expected(folder, audio))

    async def scenario(front: str, homes: list[str], kill: int) -> None:
        dead = asyncio.Event()
        names = [f"{front}stream-{number}" for number in range(8)]
        where = [await home(url, homes) for url in names]
        assert set(where) == {0, 1}
        async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
            mourning = [
                tasks.create_task(speak_on(url)) for url, at in zip(names, where, strict=True) if at == 0
            ]
            for url, at in zip(names, where, strict=True):
                if at == 1:
                    tasks.create_task(untouched(url, dead))
            while metric(homes[0], "face_sessions_active") < len(mourning):
                await asyncio.sleep(0.05)
            os.kill(kill, signal.SIGKILL)
            dead.set()
        for task in mourning:
            before, after, took = task.result()
            assert before != after and took < GUARD_S

    async def home(url: str, homes: list[str]) -> int:
        """Which server a stream is brought to."""
        before = [metric(page, "face_frames_total") for page in homes]
        await meets(url)
        return next(at for at, page in enumerate(homes) if metric(page, "face_frames_total") > before[at])

    with (
        started(folder, "--max-sessions", "16") as (process, one),
        started(folder, "--max-sessions", "16") as (_, two),
        nginx(tmp_path, [one, two]) as front,
    ):
        asyncio.run(scenario(front, [one, two], process.pid))
