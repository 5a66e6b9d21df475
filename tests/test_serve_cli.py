"""``diffspeaker serve`` as a process of its own: how it starts, what it refuses, how it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from diffspeaker_client import FaceError, connect

from streamer.cli import serve
from tests import fakes
from tests.processes import refused, started, stopped
from tests.serving import GUARD_S, MONO, everything, heard, motion, say


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be handled")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(folder: Path, number: int) -> None:
    with started(folder) as (process, page):
        speech = fakes.speech(2)

        async def speak() -> int:
            async with (
                asyncio.timeout(GUARD_S),
                connect(f"ws{page[4:]}v1/streams/a", "converse", audio=MONO) as face,
            ):
                await say(face, speech)
                await heard(face)
                os.kill(process.pid, number)
                events = []
                with pytest.raises(FaceError) as told:
                    async for event in face:
                        events.append(event)
                assert told.value.code == "shutting_down"
                assert face.close_code == 1001 or await face.wait_closed() is None
                return len(motion(events, _first(events)))

        # What came before the clock's answer was read away there; the tail is what matters.
        assert asyncio.run(speak()) > 0
        code, out, err = stopped(process)
        assert (code, out, err) == (0, "", "")


def _first(events: list[object]) -> int:
    return next(event.first_frame for event in events if hasattr(event, "first_frame"))


def test_it_serves_the_page_and_a_conversation(folder: Path) -> None:
    with started(folder, "--token", "t", "--lookahead-ms", "50", "--style", "tense=0.5") as (_, page):
        with urllib.request.urlopen(page + "readyz", timeout=GUARD_S) as answer:
            assert answer.status == 200

        async def speak() -> None:
            url = f"ws{page[4:]}v1/streams/a"
            async with asyncio.timeout(GUARD_S), connect(url, "converse", audio=MONO, token="t") as face:
                assert face.welcome.style == {"tense": 0.5}
                assert face.welcome.lookahead_ms == pytest.approx(46.7, abs=0.1)
                await face.send_audio(np.zeros(16_000, np.float32))
                await face.end()
                assert len(motion(await everything(face))) == 30

        asyncio.run(speak())


def test_a_port_in_use_is_one_line_and_exit_5(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = refused("--port", str(port), "--bundle", str(folder))
    assert result.returncode == 5
    assert result.stderr.splitlines() == [
        f"diffspeaker: The port {port} of 127.0.0.1 is in use. "
        "Choose another with --port, or stop what is using it."
    ]


def test_no_microphone_is_one_line_and_exit_3(folder: Path) -> None:
    result = refused(
        "--microphone", "--microphone-device", "no such device", "--port", "0", "--bundle", str(folder)
    )
    assert result.returncode == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("diffspeaker: ")


def test_other_machines_need_a_token_or_a_word(folder: Path) -> None:
    result = refused("--host", "0.0.0.0", "--bundle", str(folder))
    assert result.returncode == 2
    assert "--token" in result.stderr and "--insecure" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    with started(folder, "--host", "0.0.0.0", "--insecure") as (_, page):
        assert page.startswith("http://127.0.0.1:")


def test_a_broken_bundle_is_exit_4(tmp_path: Path) -> None:
    with pytest.raises(FaceError) as refusal:
        serve.run(["--bundle", str(tmp_path)])
    assert refusal.value.exit_code == 4


def test_an_address_of_another_machine_is_exit_2(folder: Path) -> None:
    with pytest.raises(FaceError, match="192.0.2.1") as refusal:
        serve.run(["--host", "192.0.2.1", "--token", "t", "--bundle", str(folder)])
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("option", ["--lookahead-ms=60000", "--style=grumpy", "--hop-ms=0.1e9"])
def test_an_option_that_the_bundle_refuses_is_one_sentence_and_exit_2(folder: Path, option: str) -> None:
    with pytest.raises(FaceError) as refusal:
        serve.run([option, "--port", "0", "--bundle", str(folder)])
    assert refusal.value.exit_code == 2
    assert "\n" not in str(refusal.value)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve.run(["--help"])
    text = capsys.readouterr().out
    for flag in ("--host", "--port", "--bundle", "--microphone", "--microphone-device", "--token"):
        assert flag in text
