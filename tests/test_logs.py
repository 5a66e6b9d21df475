"""What the server logs: an event per line, the session's name in each of its events, and no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from diffspeaker_client import FaceError, connect

from streamer.cli.logs import EventFormatter
from tests import fakes, faulty_bundles
from tests.processes import started, stopped, url_of
from tests.serving import GUARD_S, MONO, everything

TOKEN = "a secret that no log may hold"


def record(message: str, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("streamer.test", level, __file__, 1, message, None, None)
    vars(made).update(created=1.5, **fields)
    return made


def test_a_line_for_people_holds_the_fields_by_name() -> None:
    line = EventFormatter(as_json=False).format(record("stream opened", stream="anna", reason='two "words"'))
    assert line == ('1970-01-01T00:00:01.500Z INFO stream opened  stream=anna reason="two \\"words\\""')
    assert EventFormatter(as_json=False).format(record("stopped")) == "1970-01-01T00:00:01.500Z INFO stopped"


@pytest.mark.parametrize("form", [True, False])
def test_nothing_that_a_client_chose_makes_two_lines_of_one(form: bool) -> None:
    line = EventFormatter(form).format(
        record("client refused", reason="x\n2026 INFO all is well\u2028\x1b[2J")
    )
    assert len(line.splitlines()) == 1 and line.isascii() and "\x1b" not in line


def test_an_object_holds_the_traceback_too() -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        made = record("stream failed", logging.ERROR, session="s", exc_info=sys.exc_info())
    event = json.loads(EventFormatter(as_json=True).format(made))
    assert event.pop("traceback").endswith("ValueError: boom")
    assert event == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "error",
        "event": "stream failed",
        "logger": "streamer.test",
        "session": "s",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that can be handled")
def test_a_servers_events_are_objects_with_the_session_and_without_the_token(tmp_path: Path) -> None:
    folder = faulty_bundles.write(tmp_path / "bundle", "raises")

    async def scenario(page: str) -> str:
        async with asyncio.timeout(GUARD_S):
            with pytest.raises(FaceError):
                async with connect(url_of(page, "me"), "watch", token=TOKEN[:-1]):
                    pass
            async with connect(url_of(page, "bad"), "converse", audio=MONO, token=TOKEN) as face:
                await face.send_audio(faulty_bundles.with_fault(fakes.speech(1), 100))
                with pytest.raises(FaceError):
                    await everything(face)
            async with connect(url_of(page, "me"), "converse", audio=MONO, token=TOKEN) as face:
                await face.send_audio(fakes.speech(1))
                await face.end()
                await everything(face)
            return face.welcome.session

    options = ("--log-format", "json", "--log-level", "debug", "--token", TOKEN, "--max-sessions", "3")
    with started(folder, *options) as (process, page):
        session = asyncio.run(scenario(page))
        process.send_signal(signal.SIGTERM)
        code, _, err = stopped(process)
    assert code == 0 and TOKEN[:-1] not in err
    lines = [
        line for line in err.splitlines() if not re.match(r"\x1b\[|\S+ \S+ \[E:onnx", line)
    ]  # the runtime's
    events = [json.loads(line) for line in lines]
    assert all({"time", "level", "event", "logger"} <= set(event) for event in events)
    of_it = [event["event"] for event in events if event.get("session") == session]
    assert [name for name in of_it if name != "window denoised"] == [
        "stream opened",
        "client joined",
        "stream ended",
        "client left",
    ]
    windows = [
        event for event in events if event["event"] == "window denoised" and event["session"] == session
    ]
    assert len(windows) == 15 and all(event["compute_ms"] >= 0 for event in windows)
    (refused,) = [event for event in events if event["event"] == "client refused"]
    assert refused["code"] == "unauthorized" and refused["peer"].startswith("127.0.0.1:")
    (failed,) = [event for event in events if event["event"] == "stream failed"]
    assert failed["code"] == "inference_failed" and failed["stream"] == "bad"
    for event in events:
        if event["event"] in (
            "stream opened",
            "client joined",
            "client left",
            "stream ended",
            "stream failed",
        ):
            assert event["session"] and event["stream"]
