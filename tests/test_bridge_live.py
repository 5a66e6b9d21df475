"""Whole bridges: a real server, a stream that is spoken on, real UDP, and receivers that we did not write.

Audio is spoken at the pace of real time (``paced``), because a bridge shows a stream as it is lived; every
face that arrives must be one of the stream's frames, bit for bit, in order, and the last one at rest. How
many of them a busy machine sends late is nobody's business here.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffspeaker_client import FaceError, Frames, connect
from diffspeaker_client.adjust import Adjust
from diffspeaker_client.bridge.destination import Destination
from diffspeaker_client.bridge.ifacialmocap import GREETING, IFacialMocap
from diffspeaker_client.bridge.livelink import LiveLink
from diffspeaker_client.bridge.outlet import Direct, Outlet, Phone
from diffspeaker_client.bridge.run import Bridge, Plan
from diffspeaker_client.channels import ARKIT, channels_of
from diffspeaker_client.reconnect import Unreachable
from diffspeaker_client.status import Status

from streamer.contract import wire
from tests import fakes
from tests.serving import MONO, Place, everything, place, play
from tests.test_bridge_outlets import free_port, send
from tests.test_bridge_protocols import read_text
from tests.test_python_client_speaking import Screen

pythonosc = pytest.importorskip("pythonosc", reason="python-osc is in the extra `dev`")
pylivelinkface = pytest.importorskip("pylivelinkface", reason="PyLiveLinkFace is in the extra `dev`")

STOP = b"#bundle\0" + bytes(7) + b"\1"  # an empty bundle: after it, everything that was sent has arrived


class Datagrams(asyncio.DatagramProtocol):
    """A UDP receiver that keeps everything, until a ``STOP``."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.stopped = asyncio.Event()
        self.came = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data == STOP:
            self.stopped.set()
        else:
            self.received.append(data)
            self.came.set()


@contextlib.asynccontextmanager
async def receiving(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[Datagrams, int]]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, local_addr=(host, port)
    )
    try:
        yield protocol, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def bridged(
    running: Place, outlet: Outlet, *, seconds: float = 1.0, **choices: Any
) -> tuple[list[Frames], str]:
    """Speaks while a bridge carries the stream; the stream's frames, and what the bridge said."""
    screen = Screen()
    bridge = Bridge(Plan(running.url(), once=True, **choices), outlet, Status(screen))
    async with (
        connect(running.url(), "publish", audio=MONO, paced=True) as speaker,
        connect(running.url()) as watcher,
        asyncio.TaskGroup() as tasks,
    ):
        carrying = tasks.create_task(bridge.run())
        await screen.saying("goes to")
        await speaker.send_audio(fakes.speech(seconds))
        await speaker.end()
        events = await everything(watcher)
        await carrying
    return [event for event in events if isinstance(event, Frames)], screen.getvalue()


def check_story(faces: list[fakes.F32], blocks: list[Frames], adjust: Adjust | None = None) -> None:
    """Frames of the stream in order, then the way to rest, then rest."""
    adjust = adjust or Adjust(ARKIT)
    motion = np.stack([adjust.apply(values) for block in blocks for values in block.values])
    place = -1
    rest = len(faces)
    for index, face in enumerate(faces):
        later = [at for at in range(max(place, 0), len(motion)) if np.array_equal(motion[at], face)]
        if not later:
            rest = index
            break
        place = later[0]
    assert len({face.tobytes() for face in faces[:rest]}) >= 5, "hardly a frame of the stream has arrived"
    loud = [float(face.sum()) for face in faces[rest:]]
    assert loud == sorted(loud, reverse=True) and not faces[-1].any()


# ---- one receiver of each kind ----


def test_python_osc_receives_a_streams_every_face_under_arkits_names(folder: Path) -> None:
    from diffspeaker_client.bridge.vmc import Vmc
    from pythonosc.dispatcher import Dispatcher
    from pythonosc.osc_server import AsyncIOOSCUDPServer

    async def scenario(running: Place) -> None:
        gathered: dict[str, float] = {}
        faces, times, said_ok = [], [], []

        def apply(*_: Any) -> None:
            faces.append(np.array([gathered[name] for name in ARKIT], np.float32))
            gathered.clear()  # a bundle must name all of them

        dispatcher = Dispatcher()
        dispatcher.map("/VMC/Ext/OK", lambda _, loaded: said_ok.append(loaded))
        dispatcher.map("/VMC/Ext/T", lambda _, time_s: times.append(time_s))
        dispatcher.map("/VMC/Ext/Blend/Val", lambda _, name, value: gathered.update({name: value}))
        dispatcher.map("/VMC/Ext/Blend/Apply", apply)
        loop: Any = asyncio.get_running_loop()
        server = AsyncIOOSCUDPServer(("127.0.0.1", 0), dispatcher, loop)
        transport, _ = await server.create_serve_endpoint()
        port = transport.get_extra_info("sockname")[1]
        outlet = Direct(Vmc("arkit"), Destination("127.0.0.1", port))
        blocks, said = await bridged(running, outlet)
        stopped = asyncio.Event()
        dispatcher.map("/stop", lambda *_: stopped.set())
        send(b"/stop\0\0\0,\0\0\0", port)
        await stopped.wait()
        transport.close()
        check_story(faces, blocks)
        assert len(faces) == len(times) == len(said_ok) and set(said_ok) == {1}
        assert times == sorted(set(times))
        assert f"127.0.0.1:{port} by VMC, 30 faces a second" in said

    play(scenario, folder)


def test_pylivelinkface_receives_a_streams_every_face(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with receiving() as (datagrams, port):
            outlet = Direct(LiveLink("Anna"), Destination("localhost", port))
            blocks, _ = await bridged(running, outlet)
            send(STOP, port)
            await datagrams.stopped.wait()
        read = [pylivelinkface.PyLiveLinkFace.decode(packet) for packet in datagrams.received]
        assert all(found and face.name == "Anna" and face.fps == 30 for found, face in read)
        check_story([np.array(face._blend_shapes[:52], np.float32) for _, face in read], blocks)
        times = [face._frames + face._sub_frame for _, face in read]
        assert all(later != earlier for earlier, later in zip(times, times[1:], strict=False))

    play(scenario, folder)


def test_a_receiver_of_iface_text_gets_the_mouth_alone_where_only_it_is_sent(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with receiving() as (datagrams, port):
            outlet = Direct(IFacialMocap(), Destination("127.0.0.1", port))
            blocks, _ = await bridged(running, outlet, only=("mouth",), gains={"jawOpen": 0.5}, mirror=True)
            send(STOP, port)
            await datagrams.stopped.wait()
        faces = [np.array(list(read_text(text)[0].values())) for text in datagrams.received]
        adjust = Adjust(ARKIT, only=("mouth",), gains={"jawOpen": 0.5}, mirror=True)
        motion = [adjust.apply(values) for block in blocks for values in block.values]
        frames = {np.rint(100 * values).astype(int).tobytes() for values in motion}
        assert sum(face.tobytes() in frames for face in faces) >= 5
        silent = [place for place, name in enumerate(ARKIT) if name not in channels_of("mouth")]
        assert not any(face[silent].any() for face in faces) and not faces[-1].any()

    play(scenario, folder)


def test_a_bridge_that_is_a_phone_answers_whoever_greets_it_in_the_version_asked_for(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with receiving() as (datagrams, port):
            phone = Phone("127.0.0.1", 0, reply_port=port)
            send(b"is anybody there?", phone.port)
            send(GREETING, phone.port)
            _, said = await bridged(running, phone)
            send(STOP, port)
            await datagrams.stopped.wait()
        assert "127.0.0.1 has greeted" in said and "whoever greets port" in said
        assert len(datagrams.received) == phone.sent > 5
        for text in datagrams.received:
            read_text(text, "-")

    play(scenario, folder)


def test_twice_the_frame_rate_is_asked_for_and_said(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with receiving() as (datagrams, port):
            outlet = Direct(LiveLink("a"), Destination("127.0.0.1", port))
            blocks, said = await bridged(running, outlet, fps=60)
        assert "60 faces a second" in said
        assert outlet.sent > len(blocks)

    play(scenario, folder)


# ---- what goes wrong ----


def test_a_server_that_comes_later_is_waited_for_and_so_is_the_speaker(folder: Path) -> None:
    async def scenario() -> None:
        port = free_port(socket.SOCK_STREAM)
        screen = Screen()
        async with receiving() as (datagrams, udp):
            outlet = Direct(LiveLink("a"), Destination("127.0.0.1", udp))
            bridge = Bridge(Plan(f"ws://127.0.0.1:{port}/v1/streams/anna"), outlet, Status(screen))
            carrying = asyncio.ensure_future(bridge.run())
            await screen.saying("nothing listens there. Start it with `diffspeaker serve`")
            async with place(folder, port=port) as running:
                await screen.saying("Start the publisher first")
                async with connect(running.url(), "publish", audio=MONO, paced=True) as speaker:
                    await screen.saying("goes to")
                    await speaker.send_audio(fakes.speech(0.5))
                    await datagrams.came.wait()
                    await speaker.end()
                    await everything(speaker)
                await screen.saying("Waiting for it to be spoken on again")
            await screen.saying("nothing listens there", times=2)  # once for each outage
            carrying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await carrying
        assert screen.getvalue().count("nothing listens there") == 2

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_cancelled_bridge_leaves_the_face_at_rest(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        screen = Screen()
        async with (
            receiving() as (datagrams, port),
            connect(running.url(), "publish", audio=MONO, paced=True) as speaker,
        ):
            outlet = Direct(LiveLink("a"), Destination("127.0.0.1", port))
            carrying = asyncio.ensure_future(Bridge(Plan(running.url()), outlet, Status(screen)).run())
            await screen.saying("goes to")
            await speaker.send_audio(fakes.speech(2))
            await datagrams.came.wait()
            carrying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await carrying
            send(STOP, port)
            await datagrams.stopped.wait()
        _, first = pylivelinkface.PyLiveLinkFace.decode(datagrams.received[0])
        _, last = pylivelinkface.PyLiveLinkFace.decode(datagrams.received[-1])
        assert any(first._blend_shapes) and not any(last._blend_shapes)

    play(scenario, folder)


def test_what_waiting_does_not_mend_is_raised_at_once(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        outlet = Direct(LiveLink("a"), Destination("127.0.0.1", 9))
        with pytest.raises(FaceError) as refusal:
            await Bridge(Plan(running.url("x" * 65)), outlet, Status(io.StringIO())).run()
        assert refusal.value.code == "bad_stream_name"

    play(scenario, folder)


def test_a_stream_without_the_channels_that_are_wanted_is_a_mistake(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with connect(running.url(), "publish", audio=MONO):
            outlet = Direct(LiveLink("a"), Destination("127.0.0.1", 9))
            bridge = Bridge(Plan(running.url(), only=()), outlet, Status(io.StringIO()))
            with pytest.raises(FaceError, match="none of the channels"):
                await bridge.run()

    play(scenario, folder)


def test_once_and_no_server_is_a_sentence() -> None:
    async def scenario() -> None:
        port = free_port(socket.SOCK_STREAM)
        outlet = Direct(LiveLink("a"), Destination("127.0.0.1", 9))
        url = f"ws://127.0.0.1:{port}/v1/streams/anna"
        with pytest.raises(Unreachable, match="nothing listens there") as told:
            await Bridge(Plan(url, once=True), outlet, Status(io.StringIO())).run()
        assert told.value.exit_code == 1 and url in str(told.value)

    asyncio.run(scenario())


def test_the_delay_is_the_faces_own_and_the_way_to_the_screen(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        screen = Screen()
        async with (
            receiving() as (datagrams, port),
            connect(running.url(), "publish", audio=MONO, paced=True) as speaker,
        ):
            outlet = Direct(LiveLink("a"), Destination("127.0.0.1", port))
            bridge = Bridge(Plan(running.url()), outlet, Status(screen))
            carrying = asyncio.ensure_future(bridge.run())
            await screen.saying("goes to")
            assert np.isnan(bridge.delay_s)
            await speaker.send_audio(fakes.speech(1))
            while np.isnan(bridge.delay_s):  # until the server has told its clock
                datagrams.came.clear()
                await datagrams.came.wait()
            assert speaker.welcome.face_delay_ms / 1000 - 0.3 < bridge.delay_s < 20
            carrying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await carrying

    play(scenario, folder)


def test_events_that_are_no_frames_do_not_disturb_a_bridge(folder: Path) -> None:
    async def scenario(running: Place) -> None:
        async with (
            receiving() as (datagrams, port),
            connect(running.url(), "publish", audio=MONO, paced=True) as speaker,
        ):
            screen = Screen()
            outlet = Direct(LiveLink("a"), Destination("127.0.0.1", port))
            carrying = asyncio.ensure_future(
                Bridge(Plan(running.url(), once=True), outlet, Status(screen)).run()
            )
            await screen.saying("goes to")
            await speaker.send_audio(fakes.speech(0.5))
            await datagrams.came.wait()
            await speaker.set_style({"tense": 1.0})
            await speaker.interrupt()
            await speaker.send_audio(fakes.speech(0.5, seed=1))
            await speaker.end()
            ended = [event for event in await everything(speaker) if isinstance(event, wire.Ended)]
            await carrying
            assert ended[0].epoch == 1 and outlet.sent > 5

    play(scenario, folder, stats_interval_s=0.05)
