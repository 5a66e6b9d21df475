"""The HTTP half of the port: the page's files, the bundle, health, metrics, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from diffspeaker_client import connect

from tests import fakes
from tests.serving import MONO, Place, everything, fetch, play, say

IMPORT_MAP = '{"imports": {"three": "/node_modules/three/build/three.module.js"}}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("place")
    (top / "secret.txt").write_text("secret")
    folder = fakes.write_bundle(top / "bundle")
    files = {
        "index.html": f'<script type="importmap">{IMPORT_MAP}</script><script src="/src/main.js"></script>',
        "style.css": "body {}",
        "sample.wav": "RIFF",
        "icon.svg": "<svg/>",
        "src/main.js": "export {};",
        "tests/a b.js": "export {};",
        "key.pem": "secret",
        ".npmrc": "secret",
        ".hidden/a.js": "secret",
        "node_modules/three/build/three.module.js": "export const REVISION = 1;",
        "node_modules/three/examples/jsm/loaders/GLTFLoader.js": "export {};",
        "node_modules/three/package.json": "{}",
        "node_modules/other/index.js": "secret",
    }
    for name, text in files.items():
        file = folder / "web" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    try:
        (folder / "web" / "link.txt").symlink_to(top / "secret.txt")
    except OSError:  # Windows, without the privilege
        (folder / "web" / "link.txt.not").write_text("")
    return folder


PLACES = [
    ("/", "text/html; charset=utf-8"),
    ("/?watch=anna&token=x", "text/html; charset=utf-8"),
    ("/index.html", "text/html; charset=utf-8"),
    ("/style.css", "text/css; charset=utf-8"),
    ("/src/main.js", "text/javascript; charset=utf-8"),
    ("/tests/a%20b.js", "text/javascript; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
    ("/sample.wav", "audio/wav"),
    ("/node_modules/three/build/three.module.js", "text/javascript; charset=utf-8"),
    ("/node_modules/three/examples/jsm/loaders/GLTFLoader.js", "text/javascript; charset=utf-8"),
    ("/avatar.glb", "model/gltf-binary"),
    ("/rig.npz", "application/octet-stream"),
    ("/bundle.json", "application/json"),
    ("/healthz", "text/plain; charset=utf-8"),
    ("/readyz", "text/plain; charset=utf-8"),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
]
NO_PLACES = [
    "/nothing.html",
    "/../secret.txt",
    "/../../secret.txt",
    "/%2e%2e/%2e%2e/secret.txt",
    "/..%2f..%2fsecret.txt",
    "/src/../../manifest.json",
    "/..%5c..%5csecret.txt",
    "//etc/passwd",
    "/%2fetc/passwd",
    "/c:/windows/win.ini",
    "/src/main.js%00.html",
    "/src",
    "/src/",
    "/link.txt",
    "/key.pem",
    "/.npmrc",
    "/.hidden/a.js",
    "/node_modules/other/index.js",
    "/node_modules/three/package.json",
    "/node_modules/three/build/../package.json",
    "/node_modules/three/build/%2e%2e/package.json",
    "/model.onnx",
    "/manifest.json",
    "/v2/streams/anna",
    "/" + "a" * 5000,
]


def test_what_the_page_needs_is_there(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        for path, content_type in PLACES:
            status, headers, body = await fetch(place, path)
            assert (path, status, headers["Content-Type"]) == (path, 200, content_type)
            assert body
            assert int(headers["Content-Length"]) == len(body)
            assert headers["X-Content-Type-Options"] == "nosniff"
            status, of_head, nothing = await fetch(place, path, "HEAD")
            assert (status, nothing) == (200, b"")
            if path != "/metrics":  # which counts on
                assert of_head["Content-Length"] == headers["Content-Length"]

    play(scenario, folder)


def test_nothing_else_is(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        for path in NO_PLACES:
            status, _, body = await fetch(place, path)
            assert (path, status) == (path, 404)
            assert b"secret" not in body

    play(scenario, folder)


def test_other_methods_are_not_allowed(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            status, headers, _ = await fetch(place, "/", method)
            assert (method, status, headers["Allow"]) == (method, 405, "GET, HEAD")

    play(scenario, folder)


def test_a_streams_address_asks_for_a_websocket(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        status, headers, _ = await fetch(place, "/v1/streams/anna")
        assert (status, headers["Upgrade"]) == (426, "websocket")

    play(scenario, folder)


def test_what_is_no_request_is_hung_up_on_and_the_server_lives_on(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        for noise in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\0" * 100_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", place.address.port)
            writer.write(noise)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert (await fetch(place, "/healthz"))[0] == 200

    play(scenario, folder)


def test_files_are_revalidated_by_their_tag(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        _, headers, _ = await fetch(place, "/src/main.js")
        assert headers["Cache-Control"] == "no-cache"
        tag = headers["ETag"]
        for known, status in ((tag, 304), (f'W/{tag}, "x"', 304), ('"x"', 200)):
            answer = await fetch(place, "/src/main.js", headers=f"If-None-Match: {known}\r\n")
            assert answer[0] == status
            assert bool(answer[2]) == (status == 200)
            assert answer[1]["ETag"] == tag

    play(scenario, folder)


def test_the_page_may_run_its_import_map_and_no_other_inline_script(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        _, headers, _ = await fetch(place, "/")
        policy = headers["Content-Security-Policy"]
        scripts = re.search(r"script-src ([^;]*)", policy)
        assert scripts is not None
        digest = base64.b64encode(hashlib.sha256(IMPORT_MAP.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in scripts[1]
        assert scripts[1].count("sha256") == 1
        assert "unsafe-inline" not in scripts[1]
        assert "microphone=(self)" in headers["Permissions-Policy"]

    play(scenario, folder)


def test_the_manifest_is_public(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        _, _, body = await fetch(place, "/bundle.json")
        assert json.loads(body)["motion"]["channels"] == fakes.CHANNELS

    play(scenario, folder)


def test_a_server_that_stops_is_alive_and_not_ready(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        assert (await fetch(place, "/readyz"))[0] == 200
        await place.address.hub.drain()
        assert (await fetch(place, "/readyz"))[0] == 503
        assert (await fetch(place, "/healthz"))[0] == 200

    play(scenario, folder)


def test_metrics_have_the_fields_names_and_count(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "converse", audio=MONO) as face:
            _, _, during = await fetch(place, "/metrics")
            await say(face, fakes.speech(1))
            await face.end()
            await everything(face)
        _, _, after = await fetch(place, "/metrics")
        assert b"face_sessions_active 1.0" in during
        for line in (
            b"face_sessions_active 0.0",
            b"face_sessions_capacity 16.0",
            b"face_frames_total 30.0",
            b"face_first_frame_seconds_count 1.0",
            b'face_frame_latency_seconds_count{stage="total"} 15.0',
            b'face_frame_latency_seconds_count{stage="compute"} 15.0',
            b"face_batch_size_count 15.0",
            b"face_queue_wait_seconds_count 15.0",
            b"face_deadline_miss_total",
            b'face_frames_dropped_total{reason="slow_watcher"} 0.0',
            b"face_av_skew_seconds",
            b"face_interrupts_total 0.0",
            b"face_windows_joined_total 0.0",
            b"face_backend_fallback_total 0.0",
            b'face_backend_info{provider="numpy",variant="fp32"} 1.0',
        ):
            assert line in after

    play(scenario, folder)


def test_a_provider_that_gave_way_is_counted_and_what_computes_now_is_shown(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        await fetch(place, "/metrics")
        place.backend.fallbacks, place.backend.variant = 2, "int8"
        for _ in range(2):  # a count is not added twice
            _, _, text = await fetch(place, "/metrics")
        assert b"face_backend_fallback_total 2.0" in text
        assert b'face_backend_info{provider="numpy",variant="int8"} 1.0' in text
        assert text.count(b"face_backend_info{") == 1

    play(scenario, folder)
