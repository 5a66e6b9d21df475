"""Traces of windows, as a collector receives them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from diffspeaker_client import connect
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streamer.contract.errors import FaceError
from streamer.server.tracing import Tracer
from tests import fakes
from tests.serving import MONO, Place, everything, play


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """The address of a collector, and the spans that it has received."""
    spans: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", spans
        finally:
            server.shutdown()
            thread.join()


def speak(folder: Path, **settings: Any) -> str:
    sessions = []

    async def scenario(running: Place) -> None:
        async with connect(running.url(), "converse", audio=MONO) as face:
            await face.send_audio(fakes.speech(1.0))
            await face.end()
            await everything(face)
            sessions.append(face.welcome.session)

    play(scenario, folder, **settings)
    return sessions[0]


def test_every_window_is_a_trace_of_its_waiting_its_denoising_and_its_emission(
    folder: Path, collector: tuple[str, list[Any]]
) -> None:
    address, spans = collector
    session = speak(folder, trace_to=address)
    windows = [span for span in spans if span.name == "window"]
    assert len(windows) == 15, "30 frames, two in each"
    first_frames = []
    for window in windows:
        facts = {fact.key: fact.value for fact in window.attributes}
        assert facts["diffspeaker.session"].string_value == session
        assert facts["diffspeaker.stream"].string_value == "anna"
        first_frames.append(facts["diffspeaker.first_frame"].int_value)
        parts = {span.name: span for span in spans if span.parent_span_id == window.span_id}
        assert set(parts) == {"queue", "denoise", "emit"}
        assert all(part.trace_id == window.trace_id for part in parts.values())
        ends = [window.start_time_unix_nano]
        for name in ("queue", "denoise", "emit"):
            assert parts[name].start_time_unix_nano >= ends[-1]
            ends.append(parts[name].end_time_unix_nano)
        assert ends == sorted(ends) and ends[-1] <= window.end_time_unix_nano
    assert sorted(first_frames) == list(range(0, 30, 2))


def test_a_collector_that_is_away_costs_nobody_a_frame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    speak(folder, trace_to="http://127.0.0.1:1")


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(FaceError, match=r"diffspeaker-live\[traces\]"):
        Tracer("http://127.0.0.1:1", time.monotonic)
