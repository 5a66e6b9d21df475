"""A real server on a real port, and what the tests of the server do with it.

The bundle is the fake one of ``tests.fakes`` on disk, the backend its few lines of numpy behind a gate that a
test can shut. ``play`` runs a test on the loop that the product would take.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from diffspeaker_client import AudioFormat, Event, Face, Frames
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from streamer.contract import wire
from streamer.core.options import SessionOptions
from streamer.core.session import WindowRequest
from streamer.engine import offline
from streamer.engine.bundle import Bundle
from streamer.engine.inference_thread import InferenceThread
from streamer.server.app import Address, serving
from streamer.server.loop import loop_factory
from streamer.server.settings import Settings
from tests import fakes

GUARD_S = 30.0
MONO = AudioFormat("f32", 16_000, 1)


class GatedBackend(fakes.FakeBackend):
    """The fake backend behind a gate: while it is shut, a window that was begun does not end."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle.manifest)
        self.gate = threading.Event()
        self.gate.set()

    def infer(self, requests: Sequence[WindowRequest]) -> fakes.F32:
        assert self.gate.wait(GUARD_S)
        return super().infer(requests)


@dataclass(frozen=True)
class Place:
    """A running server, as a test sees it."""

    address: Address
    bundle: Bundle
    backend: GatedBackend

    def url(self, name: str = "anna") -> str:
        return self.address.stream(name)

    def offline(self, audio: fakes.F32, **choices: Any) -> fakes.F32:
        """The frames that this audio must give, float32 (n, C), whatever way it takes."""
        options = SessionOptions.choose(self.bundle.manifest, **choices)
        blocks = offline.animate(
            [audio], self.bundle.manifest, fakes.FakeBackend(self.bundle.manifest), options
        )
        return np.concatenate([block.values for block in blocks])


Scenario = Callable[[Place], Coroutine[Any, Any, None]]


def play(scenario: Scenario, folder: Path, *, guard_s: float = GUARD_S, **settings: Any) -> None:
    """Runs a scenario against a server of its own."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_play(scenario, folder, guard_s, settings))


async def _play(scenario: Scenario, folder: Path, guard_s: float, settings: dict[str, Any]) -> None:
    async with asyncio.timeout(guard_s), place(folder, **settings) as running:
        await scenario(running)


@contextlib.asynccontextmanager
async def place(
    folder: Path, *, clock: Callable[[], float] = time.monotonic, **settings: Any
) -> AsyncIterator[Place]:
    """A server with the bundle in ``folder`` on a free port."""
    bundle = Bundle.load(folder)
    backend = GatedBackend(bundle)
    chosen = replace(Settings(port=0, stats_interval_s=60), **settings)
    with InferenceThread(backend) as thread:
        async with serving(chosen, bundle, thread, web_root=folder / "web", clock=clock) as address:
            try:
                yield Place(address, bundle, backend)
            finally:
                backend.gate.set()


# ---- speaking and watching ----


async def say(face: Face, audio: fakes.F32, chunk: int = 1600) -> None:
    """Sends audio in chunks."""
    for start in range(0, len(audio), chunk):
        await face.send_audio(audio[start : start + chunk])


async def heard(face: Face) -> None:
    """Waits until the server has read everything that was sent; what else comes meanwhile is lost."""
    await face.ask_clock(0.0)
    async for event in face:
        if isinstance(event, wire.ClockReply):
            return


async def everything(face: Face) -> list[Event]:
    """Every event until the server closes normally."""
    return [event async for event in face]


async def until(face: Face, wanted: type[Any]) -> tuple[Any, list[Event]]:
    """The first event of a type, and what came before it."""
    before: list[Event] = []
    async for event in face:
        if isinstance(event, wanted):
            return event, before
        before.append(event)
    raise AssertionError(f"the connection ended without {wanted.__name__}")


def motion(events: Iterable[Event], first_frame: int = 0) -> fakes.F32:
    """The values of all frames, having checked that each comes once and in order."""
    blocks = [event for event in events if isinstance(event, Frames)]
    for block in blocks:
        assert block.first_frame == first_frame
        assert abs(block.pts_s - first_frame / 30) < 1e-9
        first_frame += len(block.values)
    return np.concatenate([block.values for block in blocks])


def only(events: Iterable[Event], wanted: type[Any]) -> Any:
    """The one event of a type."""
    (event,) = [event for event in events if isinstance(event, wanted)]
    return event


# ---- below the client: for what it would never send ----


def raw(url: str, **options: Any) -> Any:
    """A bare WebSocket with the right subprotocol."""
    offered = options.pop("subprotocols", [Subprotocol(wire.SUBPROTOCOL)])
    return open_socket(url, subprotocols=offered, compression=None, max_size=None, **options)


async def refusal(socket: ClientConnection) -> tuple[str, int | None]:
    """The error's code and the number that the server closed with, past whatever came before."""
    code = ""
    async for message in _messages(socket):
        if isinstance(message, str):
            event = wire.decode_server_message(message)
            if isinstance(event, wire.ErrorMessage):
                assert event.message and event.hint
                code = event.code
    return code, socket.close_code


async def _messages(socket: ClientConnection) -> AsyncIterator[str | bytes]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await socket.recv()


async def metric(place: Place, name: str) -> float:
    """The value of a line of ``/metrics``."""
    _, _, body = await fetch(place, "/metrics")
    (line,) = [line for line in body.decode().splitlines() if line.startswith(name + " ")]
    return float(line.split()[-1])


async def fetch(
    place: Place, path: str, method: str = "GET", headers: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """An HTTP exchange whose path is sent exactly as it is given."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.address.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body
