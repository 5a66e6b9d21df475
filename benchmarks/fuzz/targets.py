"""What is fuzzed: each reader of bytes from outside, as a function of bytes, with inputs to begin from.

The rule is the same for all: whatever the bytes, the answer is a result or a ``FaceError``, in bounded time
and memory. A target's function returns or raises either, and raises something else where a result is not what
it must be. ``prepare`` makes the function, so that a fuzzer can watch the imports in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz import files
from benchmarks.fuzz.files import Function, in_file

KEY = bytes(range(32))
_VECTORS = Path(__file__).parents[2] / "tests" / "vectors" / "wire"


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        what: it reads, for people.
        prepare: its function, given an empty folder that it may use.
        seeds: inputs to begin from, given another.
        words: what its inputs are made of. longest: an input, in bytes.
        is_json: whether they are mutated as JSON too.
    """

    what: str
    prepare: Callable[[Path], Function]
    seeds: Callable[[Path], list[bytes]]
    words: tuple[bytes, ...] = ()
    longest: int = 4096
    is_json: bool = False


# ---- the wire --------------------------------------------------------------------------------------------


def _vectors(name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((_VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def _texts(name: str) -> list[bytes]:
    return [one["text"].encode() for one in _vectors(name)] + [
        one["text"].encode(errors="replace") for one in _vectors("refused") if "text" in one
    ]


def _media(*names: str) -> list[bytes]:
    found = [one for name in (*names, "refused") for one in _vectors(name) if "bytes" in one]
    return [bytes.fromhex(one["bytes"]) for one in found]


def _client(folder: Path) -> Function:
    """A client's message and, of a hello, everything that is chosen by it."""
    from streamer.contract import wire
    from streamer.contract.manifest import read_manifest
    from streamer.core import noise
    from streamer.core.options import SessionOptions, style_vector
    from tests import fakes

    manifest = read_manifest(fakes.write_bundle(folder / "bundle"))

    def read(message: bytes) -> None:
        decoded = wire.decode_client_message(message)
        assert wire.decode_client_message(wire.encode_message(decoded)) == decoded
        if isinstance(decoded, wire.SetStyle):
            style_vector(decoded.style, manifest)
        elif isinstance(decoded, wire.Hello):
            options = SessionOptions.choose(
                manifest,
                lookahead_ms=decoded.lookahead_ms,
                hop_ms=decoded.hop_ms,
                style=decoded.style,
                seed=decoded.seed,
            )
            noise.for_frames(options.seed, 0, 0, 1, 1)
            if decoded.audio is not None:
                wire.check_audio_format(decoded.audio)

    return read


def _server(folder: Path) -> Function:
    from streamer.contract import wire

    def read(message: bytes) -> None:
        decoded = wire.decode_server_message(message)
        assert wire.decode_server_message(wire.encode_message(decoded)) == decoded

    return read


def _audio(folder: Path) -> Function:
    """Audio in each format that a speaker may announce."""
    import numpy as np

    from streamer.contract import wire
    from streamer.contract.errors import FaceError

    formats = [
        wire.AudioFormat(encoding, 16_000, channels) for encoding in ("s16", "f32") for channels in (1, 2)
    ]

    def read(message: bytes) -> None:
        for form in formats:
            with contextlib.suppress(FaceError):
                heard = wire.decode_audio(message, form)
                assert np.isfinite(heard).all() and np.abs(heard).max(initial=0) <= 1

    return read


def _frames(folder: Path) -> Function:
    from streamer.contract import wire

    def read(message: bytes) -> None:
        wire.decode_media(message)

    return read


# ---- who gets in -----------------------------------------------------------------------------------------


def _doors(folder: Path) -> Function:
    """A hello's token. After ``C`` come the claims of one that is signed rightly, after ``O`` an Origin."""
    import jwt

    from streamer.contract import wire
    from streamer.contract.errors import FaceError
    from streamer.server.doors import Doors, Pass

    locked = Doors(passes=(Pass(b"correct horse battery"),), signing_key=KEY, clock=lambda: 1e9)
    tokenless = Doors(allowed_origins=("https://friend.example",))
    signer = jwt.PyJWS()

    def read(given: bytes) -> None:
        kind, rest = given[:1], given[1:]
        try:
            if kind == b"C":
                locked.admit(signer.encode(rest, KEY, algorithm="HS256"), "watch", "anna", None)
            elif kind == b"O":
                tokenless.admit(None, "watch", "anna", rest.decode("latin-1"))  # as HTTP headers are
            else:
                locked.admit(given.decode(errors="replace"), "converse", "anna", None)
        except FaceError as error:  # it has to be told
            wire.encode_message(wire.ErrorMessage(error.code, error.message, error.hint))

    return read


def _door_seeds(folder: Path) -> list[bytes]:
    import jwt

    claims = {"role": "any", "exp": 2_000_000_000, "streams": "an*", "sub": "x", "max_connections": 2}
    origins = (b"http://localhost:3000", b"http://[::1]:1", b"https://friend.example", b"null")
    return [
        jwt.encode(claims, KEY, algorithm="HS256").encode(),
        jwt.encode({"role": "any"}, "", algorithm="none").encode(),
        b"correct horse battery",
        b"C" + json.dumps(claims).encode(),
        b'C{"role":"any","exp":1e400}',
        *(b"O" + origin for origin in origins),
    ]


def _tokens(folder: Path) -> Function:
    from streamer.server.doors import read_tokens

    return in_file(folder, "tokens.toml", read_tokens)


def _config(folder: Path) -> Function:
    from streamer.cli.config import parse
    from streamer.cli.serve import ServeOptions

    def read(path: Path) -> None:
        parse(ServeOptions, ["--config", str(path)], "diffspeaker serve", "", {})

    return in_file(folder, "config.toml", read)


def _style(folder: Path) -> Function:
    from streamer.contract.manifest import read_manifest
    from streamer.core.options import parse_style, style_vector
    from tests import fakes

    manifest = read_manifest(fakes.write_bundle(folder / "bundle"))

    def read(given: bytes) -> None:
        style_vector(parse_style(given.decode(errors="replace")), manifest)

    return read


def _http(folder: Path) -> Function:
    """A request to the page's half of the port, as it comes from the socket."""
    from websockets.http11 import Request
    from websockets.server import ServerProtocol

    from streamer.contract.manifest import read_manifest
    from streamer.server.http import Site
    from streamer.server.metrics import Metrics
    from tests import fakes

    bundle = fakes.write_bundle(folder / "bundle")
    web = folder / "web"
    web.mkdir(exist_ok=True)
    (web / "index.html").write_text("<script>1</script>")
    (folder / "secret.txt").write_text("secret")
    site = Site(web, bundle, read_manifest(bundle), Metrics(), lambda: True)
    loop = asyncio.new_event_loop()

    def read(given: bytes) -> None:
        socket = ServerProtocol(max_size=1 << 20)
        socket.receive_data(given)
        for request in socket.events_received():
            if isinstance(request, Request):
                response = loop.run_until_complete(site.respond(request))
                assert response.status_code in (200, 304, 400, 404, 405, 426), response.status_code
                assert b"secret" not in response.body

    weakref.finalize(read, loop.close)
    return read


def _requests(folder: Path) -> list[bytes]:
    paths = ("/", "/rig.npz", "/../secret.txt", "/%2e%2e/secret.txt", "/v1/streams/a", "//[", "/metrics")
    headers = 'Host: a\r\nIf-None-Match: W/"1-1", "2"\r\nUpgrade: websocket\r\nConnection: upgrade\r\n'
    return [f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode() for path in paths]


_JSON = (b'"type"', b'"hello"', b'"style"', b'"clock"', b'"interrupt"', b'"end"', b'"version"', b'"seed"')
_TOML = (
    b"[[token]]",
    b"secret",
    b"role",
    b"streams",
    b"max_connections",
    b"[serve]",
    b"port",
    b"1e400",
    b"[[[[",
)

TARGETS: dict[str, Target] = {
    "client": Target("a client's message", _client, lambda _: _texts("client"), _JSON, is_json=True),
    "server": Target("a server's message", _server, lambda _: _texts("server"), _JSON, is_json=True),
    "audio": Target("an audio message", _audio, lambda _: _media("audio")),
    "media": Target("a frames message", _frames, lambda _: _media("frames", "passthrough")),
    "doors": Target(
        "a token, or an Origin", _doors, _door_seeds, (b'"exp"', b"http://[", b"::1"), is_json=True
    ),
    "tokens": Target(
        "a file of tokens",
        _tokens,
        lambda _: [b'[[token]]\nsecret = "at least sixteen characters"\nrole = "watch"\nstreams = "a-*"\n'],
        _TOML,
    ),
    "config": Target(
        "a configuration file", _config, lambda _: [b'[serve]\nport = 1\nhop_ms = 1.5\nhost = "a"\n'], _TOML
    ),
    "style": Target(
        "a style", _style, lambda _: [b"cheerful", b"tense=0.5,neutral=1e308"], (b"neutral", b"nan", b"=")
    ),
    "http": Target(
        "an HTTP request", _http, _requests, (b"%2e%2e", b"//[", b"/../", b"secret.txt", b"\r\n", b"HEAD")
    ),
    "bundle": Target(
        "a bundle's files", files.bundle, files.bundle_seeds, (b"'descr'", b"'shape'", b"<f4"), 8192, True
    ),
    "sound": Target("a sound file", files.sound, files.sound_seeds, (), 8192),
}
