"""Bad input gets a named error and the right closing number; a healthy session beside it loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffspeaker_client import AudioFormat, FaceError, OutputFormat, connect
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from streamer.contract import wire
from streamer.server.doors import doors
from tests import fakes
from tests.serving import MONO, Place, everything, metric, motion, only, play, raw, refusal, say

Misdeed = Callable[[ClientConnection], Awaitable[None]]

HELLO: dict[str, Any] = {
    "type": "hello",
    "version": 1,
    "role": "publish",
    "audio": {"encoding": "f32", "sample_rate_hz": 16000, "channels": 1},
}
WATCH = {"type": "hello", "version": 1, "role": "watch"}


def sends(*messages: str | bytes | dict[str, Any]) -> Misdeed:
    async def send(socket: ClientConnection) -> None:
        for message in messages:
            await socket.send(json.dumps(message) if isinstance(message, dict) else message)

    return send


def audio(payload: bytes) -> bytes:
    return b"\x01" + bytes(7) + payload


def f32(*values: float) -> bytes:
    return audio(np.asarray(values, np.float32).tobytes())


async def announces_two_gigabytes(socket: ClientConnection) -> None:
    await sends(HELLO)(socket)
    await socket.recv()
    # A masked binary frame of 2 GiB, of which the first bytes come.
    socket.transport.write(b"\x82\xff" + (2 << 30).to_bytes(8, "big") + bytes(4) + bytes(1000))


async def sends_text_that_is_not_utf8(socket: ClientConnection) -> None:
    await sends(HELLO)(socket)
    await socket.recv()
    socket.transport.write(b"\x81\x82" + bytes(4) + b"\xc3\x28")


def with_audio(**changes: Any) -> dict[str, Any]:
    return HELLO | {"audio": HELLO["audio"] | changes}


SINS: dict[str, tuple[Misdeed, str, int]] = {
    "audio before hello": (sends(f32(0, 0)), "hello_expected", 1002),
    "another message before hello": (sends({"type": "end"}), "hello_expected", 1002),
    "an unknown message instead of hello": (sends({"type": "hullo"}), "unknown_type", 1002),
    "text that is not JSON": (sends("hello, face"), "bad_json", 1007),
    "JSON that is no object": (sends("[1, 2]"), "bad_message", 1007),
    "version 2": (sends(HELLO | {"version": 2}), "unsupported_version", 1002),
    "a field that nobody knows": (sends(HELLO | {"colour": "red"}), "bad_message", 1007),
    "no role": (sends({"type": "hello", "version": 1}), "bad_message", 1007),
    "a publisher without a format": (sends(WATCH | {"role": "publish"}), "bad_audio_format", 1003),
    "0 Hz": (sends(with_audio(sample_rate_hz=0)), "bad_audio_format", 1003),
    "1 MHz": (sends(with_audio(sample_rate_hz=1_000_000)), "bad_audio_format", 1003),
    "3 channels": (sends(with_audio(channels=3)), "bad_audio_format", 1003),
    "an unknown encoding": (sends(with_audio(encoding="mp3")), "bad_message", 1007),
    "an unknown style": (sends(HELLO | {"style": {"grumpy": 1}}), "bad_option", 1008),
    "a lookahead of a minute": (sends(HELLO | {"lookahead_ms": 60_000}), "bad_option", 1008),
    "a lookahead beyond all numbers": (sends(HELLO | {"lookahead_ms": 1e308}), "bad_option", 1008),
    "a hop of nothing": (sends(HELLO | {"hop_ms": -1}), "bad_option", 1008),
    "a negative seed": (sends(HELLO | {"seed": -1}), "bad_option", 1008),
    "a watcher of nobody": (sends(WATCH), "unknown_stream", 4404),
    "a second hello": (sends(HELLO, HELLO), "bad_message", 1007),
    "an unknown message later": (sends(HELLO, {"type": "dance"}), "unknown_type", 1002),
    "bad JSON later": (sends(HELLO, "{"), "bad_json", 1007),
    "an odd number of bytes": (sends(HELLO, audio(b"\0\0\0")), "bad_audio_size", 1007),
    "audio without its header": (sends(HELLO, b"\0\0\0\0"), "bad_message", 1007),
    "an empty binary message": (sends(HELLO, b""), "bad_message", 1007),
    "a frame that holds NaN": (sends(HELLO, f32(0, float("nan"))), "bad_audio_values", 1007),
    "a frame that holds infinity": (sends(HELLO, f32(float("-inf"))), "bad_audio_values", 1007),
    "an unknown style later": (sends(HELLO, {"type": "style", "style": {"x": 1}}), "bad_option", 1008),
    "an empty style later": (sends(HELLO, {"type": "style", "style": {}}), "bad_option", 1008),
    "a message of 1 MiB and a byte": (sends(HELLO, bytes((1 << 20) + 1)), "message_too_big", 1009),
    "a hello of 1 MiB and a byte": (sends(" " * ((1 << 20) + 1)), "message_too_big", 1009),
    "a message of 2 GB": (announces_two_gigabytes, "message_too_big", 1009),
    "text that is not UTF-8": (sends_text_that_is_not_utf8, "bad_json", 1007),
}


@pytest.mark.parametrize("sin", SINS)
def test_it_is_named_and_a_healthy_session_loses_nothing(folder: Path, sin: str) -> None:
    misdeed, code, number = SINS[sin]

    async def scenario(place: Place) -> None:
        speech = fakes.speech(1)
        async with connect(place.url("healthy"), "converse", audio=MONO) as healthy:
            await say(healthy, speech[:8000])
            async with raw(place.url("sinner")) as sinner:
                await misdeed(sinner)
                assert await refusal(sinner) == (code, number)
            await say(healthy, speech[8000:])
            await healthy.end()
            np.testing.assert_array_equal(motion(await everything(healthy)), place.offline(speech))
            assert healthy.close_code == 1000

    play(scenario, folder)


WATCHERS_SINS: dict[str, tuple[str | bytes, str, int]] = {
    "audio": (f32(0), "not_allowed", 1008),
    "an interrupt": ('{"type":"interrupt"}', "not_allowed", 1008),
    "an end": ('{"type":"end"}', "not_allowed", 1008),
    "a style": ('{"type":"style","style":{"neutral":1}}', "not_allowed", 1008),
    "nonsense": ("nonsense", "bad_json", 1007),
}


@pytest.mark.parametrize("sin", WATCHERS_SINS)
def test_a_watcher_that_sends_what_it_may_not_harms_only_itself(folder: Path, sin: str) -> None:
    message, code, number = WATCHERS_SINS[sin]

    async def scenario(place: Place) -> None:
        speech = fakes.speech(1)
        async with (
            connect(place.url(), "publish", audio=MONO) as speaker,
            connect(place.url()) as watcher,
            raw(place.url()) as sinner,
        ):
            await say(speaker, speech[:8000])
            await sends(WATCH, message)(sinner)
            assert await refusal(sinner) == (code, number)
            await say(speaker, speech[8000:])
            await speaker.end()
            np.testing.assert_array_equal(motion(await everything(watcher)), place.offline(speech))

    play(scenario, folder)


def test_what_a_speaker_sent_before_its_error_is_animated_for_its_watchers(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        speech = fakes.speech(2)
        async with raw(place.url()) as sinner:
            await sends(HELLO)(sinner)
            await sinner.recv()
            async with connect(place.url()) as watcher:
                place.backend.gate.clear()
                await sends(wire.encode_audio(speech, "f32"), audio(b"\0"))(sinner)
                assert await refusal(sinner) == ("bad_audio_size", 1007)
                place.backend.gate.set()
                events = await everything(watcher)
                np.testing.assert_array_equal(motion(events), place.offline(speech))
                assert only(events, wire.Ended).frames == 60

    play(scenario, folder)


def test_a_speaker_whose_name_is_taken_is_refused_and_the_first_goes_on(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "converse", audio=MONO) as first:
            for role in ("publish", "converse"):
                with pytest.raises(FaceError) as refused:
                    async with connect(place.url(), role, audio=MONO):  # type: ignore[arg-type]
                        pass
                assert refused.value.code == "stream_taken"
            await first.end()
            await everything(first)

    play(scenario, folder)


def test_a_full_server_says_so(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url("a"), "publish", audio=MONO), raw(place.url("b")) as second:
            await sends(HELLO)(second)
            assert await refusal(second) == ("at_capacity", 1013)

    play(scenario, folder, max_sessions=1)


@pytest.mark.parametrize("name", ["", "a/b", "na%20me", "x" * 65, "é".encode().hex() + "%C3%A9", "a:b"])
def test_a_bad_name_is_refused(folder: Path, name: str) -> None:
    async def scenario(place: Place) -> None:
        async with raw(place.url(name)) as socket:
            assert await refusal(socket) == ("bad_stream_name", 4400)

    play(scenario, folder)


def test_silence_instead_of_a_hello_is_not_waited_for(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with raw(place.url()) as socket:
            assert await refusal(socket) == ("hello_timeout", 1002)

    play(scenario, folder, hello_timeout_s=0.05)


def test_another_subprotocol_is_refused_and_none_is_forgiven(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with raw(place.url(), subprotocols=[Subprotocol("diffspeaker.v9")]) as later:
            assert await refusal(later) == ("unsupported_version", 1002)
        async with raw(place.url(), subprotocols=None) as simple:
            await sends(HELLO)(simple)
            assert isinstance(wire.decode_server_message(await simple.recv()), wire.Welcome)

    play(scenario, folder)


@pytest.mark.parametrize("token", [None, "", "wrong", "right "])
def test_a_wrong_token_is_refused_in_every_role(folder: Path, token: str | None) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "converse", audio=MONO, token="right"):
            for role in ("publish", "watch", "converse"):
                with pytest.raises(FaceError) as refused:
                    async with connect(place.url(), role, audio=MONO, token=token):  # type: ignore[arg-type]
                        pass
                assert refused.value.code == "unauthorized"
                assert "right" not in str(refused.value)
            async with connect(place.url(), token="right") as watcher:
                assert watcher.welcome.role == "watch"

    play(scenario, folder, doors=doors("right", None, None, ()))


@pytest.mark.parametrize(
    ("origin", "settings", "is_let_in"),
    [
        ("http://127.0.0.1:8600", {}, True),
        ("http://localhost:3000", {}, True),
        ("http://[::1]:8600", {}, True),
        ("https://evil.example", {}, False),
        ("http://localhost.evil.example", {}, False),
        ("null", {}, False),
        ("https://friend.example", {"allowed": ("https://friend.example",)}, True),
        ("https://evil.example", {"allowed": ("https://friend.example",)}, False),
        ("https://any.example", {"allowed": ("*",)}, True),
        ("https://any.example", {"token": "t"}, True),
    ],
)
def test_pages_of_other_sites_may_not_listen_in(
    folder: Path, origin: str, settings: dict[str, Any], is_let_in: bool
) -> None:
    async def scenario(place: Place) -> None:
        async with raw(place.url(), origin=origin) as socket:
            await sends(HELLO | ({"token": "t"} if "token" in settings else {}))(socket)
            if is_let_in:
                assert isinstance(wire.decode_server_message(await socket.recv()), wire.Welcome)
            else:
                assert await refusal(socket) == ("unauthorized", 4401)

    play(scenario, folder, doors=doors(settings.get("token"), None, None, settings.get("allowed", ())))


def test_the_client_raises_what_the_server_says(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        with pytest.raises(FaceError) as refused:
            async with connect(place.url(), "publish", audio=AudioFormat("s16", 1, 1)):
                pass
        assert refused.value.code == "bad_audio_format"
        assert "1 Hz" in refused.value.message
        async with connect(place.url(), "converse", audio=MONO, output=OutputFormat()) as face:
            await face.set_style({"nobody": 1.0})
            with pytest.raises(FaceError) as refused:
                await everything(face)
            assert refused.value.code == "bad_option"
            assert "neutral" in refused.value.hint

    play(scenario, folder)


def test_rude_clients_leave_nothing_behind(folder: Path) -> None:
    stages: list[tuple[str | bytes, ...]] = [
        (),
        ("{",),
        (json.dumps(HELLO),),
        (json.dumps(WATCH),),
        (json.dumps(HELLO | {"role": "converse"}), wire.encode_audio(fakes.speech(3), "f32")),
        (json.dumps(HELLO), f32(0.5), '{"type":"interrupt"}', '{"type":"end"}', '{"type":"interrupt"}'),
        (json.dumps(HELLO), wire.encode_audio(fakes.speech(30), "f32"), f32(float("nan"))),
    ]

    async def scenario(place: Place) -> None:
        before = len(asyncio.all_tasks())
        for round_ in range(42):
            socket = await raw(place.url(f"rude{round_}"))
            await sends(*stages[round_ % len(stages)])(socket)
            socket.transport.abort()
            await socket.wait_closed()
        hub = place.address.hub
        await hub.idle()
        while len(asyncio.all_tasks()) > before:  # the library's own tasks end a little later
            await asyncio.sleep(0)
        assert await metric(place, "face_sessions_active") == 0
        assert await metric(place, "face_watchers_active") == 0
        async with connect(place.url(), "converse", audio=MONO) as face:
            await say(face, fakes.speech(1))
            await face.end()
            assert len(motion(await everything(face))) == 30

    play(scenario, folder)
