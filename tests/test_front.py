"""Several processes behind one port: streams meet, one may die, and they start and stop as one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from diffspeaker_client import FaceError, connect
from websockets.exceptions import ConnectionClosed

from streamer.server.front import Front, open_port
from streamer.server.settings import Settings
from tests import fakes
from tests.processes import expected, get, refused, spoken, started, stopped, url_of
from tests.serving import GUARD_S, MONO, everything, motion

pytestmark = pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="sockets cannot be handed over here")
AUDIO = fakes.speech(2.0)
PLACES = ("--processes", "2", "--max-sessions", "16", "--late-windows", "each")


def by_process(page: str, name: str) -> list[float]:
    """A metric of each process."""
    lines = get(page, "metrics")[1].splitlines()
    return [float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{process=")]


def members(front: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(front.pid).children()


def serving(folder: Path) -> list[str]:
    return ["serve", "--bundle", str(folder), "--max-sessions", "3"]


def serving_now() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "streamer.cli.member" in one.cmdline()]


@contextlib.asynccontextmanager
async def fronted(words: Callable[[int], list[str]]) -> AsyncIterator[tuple[Front, tuple[str, int]]]:
    """A front of one process, and its address; ``words``: its command, by how often it was started."""
    port, starts = open_port(Settings(port=0)), itertools.count()

    def command(listening: int, channel: int) -> list[str]:
        found = words(next(starts))
        member = ["-m", "streamer.cli.member", str(listening), str(channel)] if found[0] == "serve" else []
        return [sys.executable, *member, *found]

    front = Front(port, command, 1, takes_turns=False, patience_s=5.0)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        served = tasks.create_task(front.serve_until(stop, ready.set_result))
        assert await ready == 3
        yield front, port.getsockname()
        stop.set()
    assert served.result() in (0, signal.SIGTERM)


def test_streams_meet_are_spread_over_the_processes_and_each_frame_is_as_from_one(folder: Path) -> None:
    async def watched(page: str, name: str) -> None:
        async with (
            connect(url_of(page, name), "publish", audio=MONO) as speaker,
            connect(url_of(page, name)) as watcher,
        ):
            assert watcher.welcome.session == speaker.welcome.session
            await speaker.send_audio(AUDIO)
            await speaker.end()
            np.testing.assert_array_equal(motion(await everything(watcher)), whole)

    async def scenario(page: str) -> None:
        async with asyncio.timeout(GUARD_S):
            await asyncio.gather(*(watched(page, f"stream-{number}") for number in range(12)))

    whole = expected(folder, AUDIO)
    with started(folder, *PLACES) as (process, page):
        asyncio.run(scenario(page))
        frames = by_process(page, "face_frames_total")
        assert sum(frames) == 12 * 60 and min(frames) >= 3 * 60
        assert by_process(page, "face_sessions_capacity") == [16.0, 16.0]
        assert (get(page, "readyz"), get(page, "healthz")) == ((200, "ready\n"), (200, "ok\n"))
        assert "<html" in get(page, "")[1] and get(page, "nothing")[0] == 404
        process.send_signal(signal.SIGINT)
        code, said, failed = stopped(process)
        assert (code, said, failed) == (0, "", "")


def test_a_process_that_is_killed_is_started_again_and_the_other_ones_streams_notice_nothing(
    folder: Path,
) -> None:
    async def until_lost(url: str) -> float:
        """Speaks until its process dies, and again as soon as it is back: how long that took."""
        with contextlib.suppress(ConnectionClosed):
            async with connect(url, "converse", audio=MONO) as face:
                await everything(face)
        lost = time.monotonic()
        async with connect(url, "converse", audio=MONO) as face:
            took = time.monotonic() - lost
            await face.send_audio(AUDIO)
            await face.end()
            np.testing.assert_array_equal(motion(await everything(face)), whole)
        return took

    async def untouched(url: str, dead: asyncio.Event) -> None:
        async with connect(url, "converse", audio=MONO) as face:
            await face.send_audio(AUDIO[:16_000])
            await dead.wait()
            await face.send_audio(AUDIO[16_000:])
            await face.end()
            np.testing.assert_array_equal(motion(await everything(face)), whole)

    async def home(page: str, name: str) -> int:
        before = by_process(page, "face_frames_total")
        await spoken(url_of(page, name), AUDIO[:3200])
        after = by_process(page, "face_frames_total")
        return next(at for at in (0, 1) if after[at] > before[at])

    async def scenario(front: subprocess.Popen[str], page: str) -> None:
        at = {name: await home(page, name) for name in (f"s{number}" for number in range(8))}
        assert set(at.values()) == {0, 1}
        dead = asyncio.Event()
        first = min(members(front), key=lambda member: member.pid)
        async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
            lost = [tasks.create_task(until_lost(url_of(page, name))) for name in at if at[name] == 0]
            for name in at:
                if at[name] == 1:
                    tasks.create_task(untouched(url_of(page, name), dead))
            while sum(by_process(page, "face_sessions_active")) < len(at):
                await asyncio.sleep(0.05)
            first.kill()
            dead.set()
        assert all(task.result() < GUARD_S for task in lost)
        assert len(members(front)) == 2 and first not in members(front)

    whole = expected(folder, AUDIO)
    with started(folder, *PLACES) as (process, page):
        asyncio.run(scenario(process, page))
        process.send_signal(signal.SIGTERM)
        code, _, failed = stopped(process)
        assert code == 0 and "process ended, started again  number=0 code=-9" in failed


@pytest.mark.parametrize("told_too", [False, True], ids=["the front alone", "all, as systemd does"])
def test_a_front_that_is_told_to_stop_lets_every_process_finish_what_it_heard(
    folder: Path, told_too: bool
) -> None:
    async def told(page: str, name: str, stop: asyncio.Event) -> None:
        async with connect(url_of(page, name), "converse", audio=MONO) as face:
            await face.send_audio(AUDIO)
            stop.set()
            with pytest.raises(FaceError) as last:
                frames = []
                while True:
                    frames.append(await face.receive())
            assert last.value.code == "shutting_down"
            np.testing.assert_array_equal(motion(frames), expected(folder, AUDIO))

    async def scenario(front: subprocess.Popen[str], page: str) -> None:
        stops = [asyncio.Event() for _ in range(6)]
        async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
            for number, stop in enumerate(stops):
                tasks.create_task(told(page, f"s{number}", stop))
            for stop in stops:
                await stop.wait()
            while sum(by_process(page, "face_sessions_active")) < len(stops):
                await asyncio.sleep(0.01)
            for member in members(front) if told_too else ():
                member.send_signal(signal.SIGTERM)
            front.send_signal(signal.SIGTERM)

    with started(folder, *PLACES) as (process, page):
        asyncio.run(scenario(process, page))
        assert stopped(process) == (0, "", "")


def test_processes_whose_front_is_gone_stop_by_themselves(folder: Path) -> None:
    with started(folder, *PLACES) as (process, _):
        left = members(process)
        assert len(left) == 2
        process.kill()
        gone, alive = psutil.wait_procs(left, timeout=GUARD_S)
        assert len(gone) == 2 and not alive


def test_watchers_of_one_stream_are_spread_over_a_relays_processes(folder: Path) -> None:
    async def scenario(up: str, down: str) -> None:
        async with asyncio.timeout(GUARD_S), contextlib.AsyncExitStack() as stack:
            speaker = await stack.enter_async_context(connect(url_of(up, "me"), "publish", audio=MONO))
            watchers = [await stack.enter_async_context(connect(url_of(down, "me"))) for _ in range(6)]
            assert by_process(down, "face_watchers_active") == [3.0, 3.0]
            await speaker.send_audio(AUDIO)
            await speaker.end()
            for watcher in watchers:
                np.testing.assert_array_equal(motion(await everything(watcher)), expected(folder, AUDIO))

    with started(folder) as (_, up):
        upstream = ("--upstream", up.replace("http", "ws").rstrip("/"))
        with started(folder, *upstream, "--processes", "2", command="relay") as (_, down):
            asyncio.run(scenario(up, down))


def test_a_request_that_comes_in_pieces_is_understood_and_one_that_does_not_end_is_cut_off(
    folder: Path,
) -> None:
    async def scenario() -> None:
        async with fronted(lambda number: serving(folder)) as (_, place):
            reader, writer = await asyncio.open_connection(*place)
            for piece in (b"G", b"ET /hea", b"lthz HTT", b"P/1.1\r\nHo", b"st: me\r\n\r\n"):
                writer.write(piece)
                await asyncio.sleep(0.05)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.close()
            for rude in (b"", b"GET /healthz", b"x" * 9000, b"\xff \0 \n", b"\n", b"GET //[ HTTP/1.1\r\n"):
                reader, writer = await asyncio.open_connection(*place)
                writer.write(rude)
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()

    asyncio.run(scenario())


def test_who_is_on_the_way_to_a_process_that_dies_is_served_by_the_next_and_503_is_told_where_none_comes(
    folder: Path,
) -> None:
    async def asked(place: tuple[str, int]) -> bytes:
        reader, writer = await asyncio.open_connection(*place)
        writer.write(b"GET / HTTP/1.1\r\nHost: me\r\n\r\n")
        told = await reader.read()
        writer.close()
        return told

    async def scenario() -> None:
        never = ["-c", "import time; time.sleep(60)"]
        async with fronted(lambda number: serving(folder) if number < 2 else never) as (front, place):
            (only,) = front._members
            (process,) = serving_now()
            process.suspend()
            page = asyncio.create_task(asked(place))
            while not only._on_the_way:
                await asyncio.sleep(0.01)
            process.kill()
            assert (await page).startswith(b"HTTP/1.1 200 OK\r\n")
            (process,) = serving_now()
            process.kill()
            told = await asked(place)
            assert told.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") and b"is starting" in told

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--microphone"], "A microphone is heard by one process."),
        (["--certificate", "here.pem"], "let a proxy speak TLS"),
        (["--bundle", "/nowhere"], "/nowhere"),
        (["--max-batch", "0"], "max-batch"),
    ],
)
def test_what_cannot_be_served_by_several_is_one_sentence(words: list[str], said: str) -> None:
    done = refused("--processes", "2", "--port", "0", *words)
    assert done.returncode in (2, 4) and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_processes_that_do_not_start_end_the_server_with_their_own_exit_code(folder: Path) -> None:
    done = refused("--processes", "2", "--port", "0", "--bundle", str(folder), "--style", "nobody-has-this")
    assert done.returncode == 2 and "nobody-has-this" in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = refused("--processes", "2", "--port", str(taken.getsockname()[1]), "--bundle", str(folder))
    assert done.returncode == 5 and "is in use" in done.stderr and len(done.stderr.splitlines()) == 1
