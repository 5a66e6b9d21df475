"""Two servers behind real balancers, as configured here: a stream's clients meet, and a server may die."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.balancer import BALANCERS, Balancer, envoy, first_is_killed, haproxy, meets
from tests.processes import get, metric, started
from tests.serving import GUARD_S

each = pytest.mark.parametrize("balancer", BALANCERS, ids=[one.__name__ for one in BALANCERS])


@each
def test_a_streams_speaker_and_watchers_meet_and_streams_are_spread_over_the_servers(
    balancer: Balancer, folder: Path, tmp_path: Path
) -> None:
    async def scenario(front: str) -> None:
        async with asyncio.timeout(GUARD_S):
            await asyncio.gather(*(meets(f"{front}stream-{number}") for number in range(16)))

    with (
        started(folder, "--max-sessions", "16") as (_, one),
        started(folder, "--max-sessions", "16") as (_, two),
    ):
        with balancer(tmp_path, [one, two]) as front:
            asyncio.run(scenario(front))
            page = front.replace("ws:", "http:").removesuffix("v1/streams/")
            assert get(page, "readyz")[0] == 200
        frames = [metric(page, "face_frames_total") for page in (one, two)]
        assert sum(frames) == 16 * 30 and min(frames) >= 3 * 30


@each
def test_a_server_that_is_killed_moves_its_streams_and_touches_no_other(
    balancer: Balancer, folder: Path, tmp_path: Path
) -> None:
    with (
        started(folder, "--max-sessions", "16") as (process, one),
        started(folder, "--max-sessions", "16") as (_, two),
        balancer(tmp_path, [one, two]) as front,
    ):
        asyncio.run(first_is_killed(folder, front, [one, two], process.pid))


class Readiness(http.server.BaseHTTPRequestHandler):
    """Answers with its server's port, and for ``/readyz`` whether it takes new streams."""

    ready = True

    def do_GET(self) -> None:
        self.send_response(200 if self.ready or self.path != "/readyz" else 503)
        self.end_headers()
        self.wfile.write(str(self.server.server_port).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def readiness() -> Iterator[tuple[str, type[Readiness]]]:
    class Own(Readiness):
        pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", Own
        server.shutdown()


@pytest.mark.parametrize("balancer", [haproxy, envoy], ids=["haproxy", "envoy"])
def test_a_server_that_is_not_ready_gets_nobody_new(balancer: Balancer, tmp_path: Path) -> None:
    with (
        readiness() as (one, first),
        readiness() as (two, _),
        balancer(tmp_path, [one, two]) as front,
    ):
        page = front.replace("ws:", "http:").removesuffix("v1/streams/")

        def until(wanted: set[str]) -> None:
            deadline = time.monotonic() + GUARD_S
            while {get(page, f"v1/streams/stream-{number}")[1].strip() for number in range(20)} != wanted:
                assert time.monotonic() < deadline
                time.sleep(0.1)

        ports = [one.split(":")[2].rstrip("/"), two.split(":")[2].rstrip("/")]
        until(set(ports))
        first.ready = False
        until({ports[1]})
        first.ready = True
        until(set(ports))
