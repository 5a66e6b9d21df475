"""Each limit at one less, at itself and at one more; compression that nobody agreed to; strangers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from diffspeaker_client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks.fuzz.live import BINARY, TEXT, Rude, frame, request
from streamer.contract import wire
from streamer.server.strangers import MOST, Strangers, most
from tests import fakes
from tests.serving import MONO, Place, everything, fetch, motion, only, play, raw, refusal, say

MIB = wire.MAX_MESSAGE_BYTES
HELLO = {
    "type": "hello",
    "version": 1,
    "role": "publish",
    "audio": {"encoding": "s16", "sample_rate_hz": 16_000, "channels": 1},
}
AUDIO = b"\1" + bytes(7)
CLOCK = b'{"type":"clock","client_time_s":1}'


def hello(**changes: Any) -> str:
    return json.dumps(HELLO | {"audio": HELLO["audio"] | changes})  # type: ignore[operator]


async def answer(place: Place, *messages: str | bytes, name: str = "a") -> str:
    """What came of it: an error's code, or ``taken`` where the server still answers after all of it."""
    async with raw(place.url(name)) as face:
        with contextlib.suppress(ConnectionClosed):  # it has refused already
            for message in (*messages, CLOCK.decode()):
                await face.send(message)
        while True:
            told = wire.decode_server_message(await face.recv())
            if isinstance(told, wire.ErrorMessage):
                assert await refusal(face) == ("", face.close_code)
                return told.code
            if isinstance(told, wire.ClockReply):
                return "taken"


LIMITS: list[tuple[str, tuple[str | bytes, ...], str]] = [
    *((f"{rate} Hz", (hello(sample_rate_hz=rate),), "taken") for rate in (8_000, 8_001, 191_999, 192_000)),
    *((f"{rate} Hz", (hello(sample_rate_hz=rate),), "bad_audio_format") for rate in (7_999, 192_001, 0, -1)),
    *((f"{count} channels", (hello(channels=count),), "taken") for count in (1, 2)),
    *((f"{count} channels", (hello(channels=count),), "bad_audio_format") for count in (-1, 0, 3)),
    *(
        (f"a hello of 1 MiB{more:+}", (hello().ljust(MIB + more),), code)
        for more, code in ((-1, "taken"), (0, "taken"), (1, "message_too_big"))
    ),
    *(
        (f"a text of 1 MiB{more:+}", (hello(), CLOCK.decode().ljust(MIB + more)), code)
        for more, code in ((-1, "taken"), (0, "taken"), (1, "message_too_big"))
    ),
    *(
        (f"audio of 1 MiB{more:+}", (hello(), AUDIO.ljust(MIB + more, b"\0")), code)
        for more, code in ((-2, "taken"), (-1, "bad_audio_size"), (0, "taken"), (1, "message_too_big"))
    ),
    *(
        (f"{size} bytes of audio", (hello(), (AUDIO + bytes(100))[:size]), code)
        for size, code in (
            (0, "bad_message"),
            (1, "bad_message"),
            (7, "bad_message"),
            (8, "taken"),
            (9, "bad_audio_size"),
            (10, "taken"),
        )
    ),
    *(
        (f"{size} bytes of stereo", (hello(channels=2, encoding="f32"), (AUDIO + bytes(100))[:size]), code)
        for size, code in (
            (12, "bad_audio_size"),
            (15, "bad_audio_size"),
            (16, "taken"),
            (17, "bad_audio_size"),
        )
    ),
]


@pytest.mark.parametrize(
    ("messages", "wanted"), [case[1:] for case in LIMITS], ids=[case[0] for case in LIMITS]
)
def test_a_limit_holds_to_the_one(folder: Path, messages: tuple[str | bytes, ...], wanted: str) -> None:
    async def scenario(place: Place) -> None:
        assert await answer(place, *messages) == wanted

    play(scenario, folder)


def test_a_name_of_64_letters_is_the_longest(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        for length, wanted in ((1, "taken"), (63, "taken"), (64, "taken")):
            assert await answer(place, hello(), name="n" * length) == wanted
        for name in ("", "n" * 65, "n" * 5000):
            async with raw(place.url(name)) as face:
                assert await refusal(face) == ("bad_stream_name", 4400)

    play(scenario, folder, max_sessions=100)


@pytest.mark.parametrize(("most_messages", "lost"), [(9, 1), (10, 0), (11, 0)])
def test_a_watcher_that_waits_loses_what_its_outbox_does_not_hold_and_no_more(
    most_messages: int, lost: int
) -> None:
    from streamer.core.outbox import Outbox

    outbox = Outbox(most_messages, 1 << 20)
    dropped = sum(outbox.put_media(bytes([number])) for number in range(10))
    assert dropped == lost
    assert outbox.take() == bytes([lost])


# ---- compression -----------------------------------------------------------------------------------------


def test_compression_that_is_offered_is_not_agreed_to(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        rude = await Rude.open(place.address.port)
        await rude.send(request("a", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
        head = await rude.answer()
        assert head.startswith(b"HTTP/1.1 101") and b"extensions" not in head.lower()
        rude.vanish()

    play(scenario, folder)


@pytest.mark.parametrize("reserved", [1, 2, 4])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_that_says_it_is_compressed_is_refused_unread(
    folder: Path, opcode: int, reserved: int
) -> None:
    async def scenario(place: Place) -> None:
        speech = fakes.speech(0.5)
        async with connect(place.url("healthy"), "converse", audio=MONO) as healthy:
            rude = await Rude.open(place.address.port)
            await rude.send(request("a", "Sec-WebSocket-Extensions: permessage-deflate"))
            await rude.answer()
            await rude.send(frame(TEXT, hello().encode()) + frame(opcode, bytes(1000), reserved=reserved))
            said = []
            while (message := await rude.message()) is not None:
                said.append(message)
            assert said[-1][0] == 8 and int.from_bytes(said[-1][1][:2], "big") == 1002
            await rude.close()
            await say(healthy, speech)
            await healthy.end()
            assert len(motion(await everything(healthy))) == 15

    play(scenario, folder)


# ---- HTTP ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("//[", "", 400),
        ("/healthz", "Upgrade: a\r\nUpgrade: b\r\n", 200),
        ("/", 'If-None-Match: "a"\r\nIf-None-Match: "b"\r\n', 404),  # this server's page has no files
        ("/healthz", "X: " + "x" * 8_180 + "\r\n", 200),
        ("/healthz", "X: " + "x" * 8_200 + "\r\n", 431),
        ("/healthz", "".join(f"X-{number}: 1\r\n" for number in range(120)), 200),
        ("/healthz", "".join(f"X-{number}: 1\r\n" for number in range(130)), 431),
        ("/" + "a" * 8_100, "", 404),
        ("/" + "a" * 8_300, "", 414),
    ],
)
def test_a_request_that_is_odd_or_too_long_has_its_number(
    folder: Path, path: str, headers: str, status: int
) -> None:
    async def scenario(place: Place) -> None:
        assert (await fetch(place, path, headers=headers))[0] == status

    play(scenario, folder)


def test_a_peer_that_closes_its_half_or_breaks_a_rule_before_the_answer_is_let_go(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        before = len(asyncio.all_tasks())
        for then in (b"", frame(TEXT, b"{}", is_masked=False), b"\xff" * 20):
            rude = await Rude.open(place.address.port)
            await rude.send(request("a") + then)
            if not then:
                rude.half_close()
            await rude.until_closed()
            await rude.close()
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0)

    play(scenario, folder, hello_timeout_s=5.0)


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a]b", "//["])
def test_an_origin_that_is_no_address_is_refused_by_name(folder: Path, origin: str) -> None:
    async def scenario(place: Place) -> None:
        async with raw(place.url(), origin=origin) as face:
            await face.send(hello())
            assert await refusal(face) == ("unauthorized", 4401)

    play(scenario, folder)


# ---- strangers -------------------------------------------------------------------------------------------


class Room:
    """Strangers, and who of them was cut off."""

    def __init__(self, most: int, most_bytes: int = 1 << 20) -> None:
        self.strangers = Strangers(most, most_bytes)
        self.gone: list[str] = []

    def enter(self, *names: str, holds_bytes: int = 0) -> None:
        for name in names:
            self.strangers.enter(name, lambda name=name: self.gone.append(name), holds_bytes)  # type: ignore[misc]


def test_of_too_many_strangers_the_one_that_came_first_goes() -> None:
    room = Room(3)
    room.enter(*"abc")
    assert not room.gone and len(room.strangers) == 3
    room.enter("d")
    assert room.gone == ["a"]
    room.strangers.leave("b")
    room.strangers.leave("b")
    room.enter("c")  # came again, so it is the newest
    room.enter("e", "f")
    assert room.gone == ["a", "d"] and room.strangers.cut_off == 2


def test_what_strangers_leave_unread_is_bounded_but_the_newest_is_always_served() -> None:
    room = Room(10, most_bytes=100)
    room.enter("a", "b", holds_bytes=50)
    room.enter("c", holds_bytes=1)
    assert room.gone == ["a"]
    room.enter("d", holds_bytes=1000)
    assert room.gone == ["a", "b", "c"] and len(room.strangers) == 1
    room.strangers.hold("d", 10)
    room.strangers.leave("d")
    room.strangers.hold("d", 1000)  # nobody's
    room.enter("e", "f", holds_bytes=40)
    room.strangers.hold("f", 20)
    room.strangers.hold("e", 0)
    assert len(room.strangers) == 2
    room.strangers.hold("f", 1)
    assert room.gone[-1] == "e"


def test_strangers_may_have_a_quarter_of_the_descriptors() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
        assert most() == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 0 < most() <= MOST


def test_who_speaks_is_no_stranger_however_many_come_after(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        speech = fakes.speech(0.5)
        async with connect(place.url("healthy"), "converse", audio=MONO) as healthy:
            silent = [socket.create_connection(("127.0.0.1", place.address.port)) for _ in range(60)]
            await say(healthy, speech)
            await healthy.end()
            events = await everything(healthy)
            assert only(events, wire.Ended).frames == len(motion(events)) == 15
        for one in silent:
            one.close()

    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))  # of which strangers may have 50
        play(scenario, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
