"""Who gets in: listed secrets, signed tokens, addresses, and what a server says of them, which is little."""

from __future__ import annotations

import datetime
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

import jwt
import pytest
from diffspeaker_client import FaceError, connect

from streamer.cli.main import main
from streamer.server.doors import Doors, Pass, doors, read_key, read_tokens, sign
from tests import fakes
from tests.processes import refused, started
from tests.serving import MONO, Place, everything, motion, play, say

KEY = b"k" * 32
NOW = 1_000_000.0


def signed(**changes: object) -> Doors:
    return Doors(signing_key=KEY, clock=lambda: NOW, **changes)  # type: ignore[arg-type]


def code_of(gates: Doors, token: str | None, role: str = "watch", stream: str = "anna") -> str:
    """What becomes of a hello: the name of whom it let in, or the refusal's code."""
    try:
        return gates.admit(token, role, stream, None).name  # type: ignore[arg-type]
    except FaceError as refusal:
        return refusal.code


# ---- listed secrets ----


@pytest.mark.parametrize(
    ("role", "pattern", "asked", "stream", "opens"),
    [
        ("publish", "*", "publish", "anna", True),
        ("publish", "*", "converse", "anna", True),
        ("publish", "*", "watch", "anna", False),
        ("watch", "*", "watch", "anna", True),
        ("watch", "*", "publish", "anna", False),
        ("watch", "*", "converse", "anna", False),
        ("any", "*", "converse", "anna", True),
        ("any", "bot-*", "watch", "bot-7", True),
        ("any", "bot-*", "watch", "anna", False),
        ("any", "anna", "watch", "annabel", False),
        ("any", "anna", "watch", "Anna", False),
    ],
)
def test_a_secret_opens_its_role_and_its_streams_and_nothing_else(
    role: str, pattern: str, asked: str, stream: str, opens: bool
) -> None:
    gates = Doors(passes=(Pass(b"0123456789abcdef", role, pattern),))
    found = code_of(gates, "0123456789abcdef", asked, stream)
    assert found == ("token 1" if opens else "unauthorized")


def test_a_right_secret_for_the_wrong_stream_is_refused_as_a_wrong_one_is() -> None:
    gates = Doors(passes=(Pass(b"0123456789abcdef", "watch", "bot-*"),))
    words = []
    for token in ("0123456789abcdef", "fedcba9876543210"):
        with pytest.raises(FaceError) as caught:
            gates.admit(token, "watch", "anna", None)
        words.append(str(caught.value))
    assert words[0] == words[1] and "0123" not in words[0]


def test_a_file_of_tokens_is_read_and_its_mistakes_are_named_without_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text('[[token]]\nsecret = "abcdefghijklmnop"\nrole = "watch"\nstreams = "a*"\n')
    assert read_tokens(path) == (Pass(b"abcdefghijklmnop", "watch", "a*"),)
    for text, words in (
        ('[[token]]\nsecret = "short"\n', "token 1 of .* at least 16"),
        ('[[token]]\nsecret = "abcdefghijklmnop"\nrole = "king"\n', "none of publish, watch, any"),
        ('[[token]]\nsecret = "abcdefghijklmnop"\ncolour = "red"\n', "unknown key colour"),
        ('[[token]]\nsecret = ["abcdefghijklmnop"]\n', "not a table of texts"),
        ('secret = "abcdefghijklmnop"\n', "holds no"),
        ('[[token]]\nsecret = "abcdefghijklmnop\n', "not TOML"),
    ):
        path.write_text(text)
        with pytest.raises(FaceError, match=words) as caught:
            read_tokens(path)
        assert caught.value.code == "bad_config" and "abcdefgh" not in str(caught.value)
    with pytest.raises(FaceError, match="cannot be read"):
        read_tokens(tmp_path / "nowhere.toml")


# ---- signed tokens ----


def test_a_signed_token_opens_until_it_expires() -> None:
    token = sign(KEY, "watch", "an*", 60, NOW, "guest 7")
    assert code_of(signed(), token) == "signed guest 7"
    assert code_of(signed(), token, "publish") == code_of(signed(), token, stream="bob") == "unauthorized"
    with pytest.raises(FaceError, match="expired"):
        Doors(signing_key=KEY, clock=lambda: NOW + 60).admit(token, "watch", "anna", None)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not.a.token",
        sign(b"x" * 32, "any", "*", 60, NOW),
        jwt.encode({"role": "any"}, KEY, algorithm="HS256"),
        jwt.encode({"exp": NOW + 60}, KEY, algorithm="HS256"),
        jwt.encode({"exp": NOW + 60, "role": "king"}, KEY, algorithm="HS256"),
        jwt.encode({"exp": NOW + 60, "role": "any", "streams": ["anna"]}, KEY, algorithm="HS256"),
        jwt.encode({"exp": NOW + 60, "role": "any"}, None, algorithm="none"),
    ],
)
def test_a_token_that_nobody_with_the_key_made_or_that_never_expires_opens_nothing(token: str) -> None:
    assert code_of(signed(), token) == "unauthorized"


def test_a_key_is_long_and_without_the_lines_end(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(KEY + b"\n")
    assert read_key(path) == KEY
    path.write_bytes(b"k" * 31)
    with pytest.raises(FaceError, match="shorter than 32 bytes"):
        read_key(path)


def test_the_command_makes_a_token_that_the_server_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(KEY)
    assert main(["token", "--signing-key", str(path), "--role", "publish", "--streams", "anna"]) == 0
    token = capsys.readouterr().out.strip()
    gates = doors(None, None, path, ())
    assert code_of(gates, token, "converse").startswith("signed ")
    assert code_of(gates, token, "converse", "bob") == "unauthorized"
    assert main(["token"]) == 2
    assert "--signing-key" in capsys.readouterr().err


# ---- over sockets ----


def test_a_guest_may_watch_and_not_speak_and_no_secret_is_ever_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gates = Doors(passes=(Pass(b"speaker-speaker-1", "publish"), Pass(b"watcher-watcher-1", "watch")))

    async def scenario(place: Place) -> None:
        async with (
            connect(place.url(), "publish", audio=MONO, token="speaker-speaker-1") as speaker,
            connect(place.url(), token="watcher-watcher-1") as watcher,
        ):
            await say(speaker, fakes.speech(0.5))
            await speaker.end()
            assert len(motion(await everything(watcher))) == 15
        for role, token in (("publish", "watcher-watcher-1"), ("watch", "guess-guess-guess")):
            with pytest.raises(FaceError, match="not for this role"):
                async with connect(place.url(), role, audio=MONO, token=token):  # type: ignore[arg-type]
                    pass

    with caplog.at_level(logging.DEBUG):
        play(scenario, folder, doors=gates)
    ours = [str(vars(event)) for event in caplog.records if event.name.startswith("streamer")]
    assert any("token 2" in event for event in ours)
    for secret in ("speaker-speaker-1", "watcher-watcher-1", "guess-guess-guess"):
        assert not any(secret in event for event in ours)


def test_one_address_has_so_many_connections_and_no_more(folder: Path) -> None:
    async def scenario(place: Place) -> None:
        async with connect(place.url(), "publish", audio=MONO):
            async with connect(place.url()):
                with pytest.raises(FaceError, match="This address has 2 connections already") as caught:
                    async with connect(place.url()):
                        pass
                assert caught.value.code == "at_capacity"
            async with connect(place.url()) as again:  # one has left
                assert again.welcome.role == "watch"

    play(scenario, folder, max_per_address=2)


# ---- TLS ----


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    write_certificate(path)
    return path


def write_certificate(path: Path) -> None:
    x509 = pytest.importorskip("cryptography.x509")
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(pem) + private)


def test_a_server_with_a_certificate_speaks_tls_on_its_sockets_and_its_page(
    folder: Path, certificate: Path
) -> None:
    trusting = ssl.create_default_context(cafile=certificate)

    async def scenario(place: Place) -> None:
        url = place.url()
        assert url.startswith("wss://") and place.address.page.startswith("https://")
        async with connect(url, "converse", audio=MONO, ssl=trusting) as face:
            await say(face, fakes.speech(0.3))
            await face.end()
            assert len(motion(await everything(face))) == 9
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connect(url):
                pass

    play(scenario, folder, certificate=certificate)


def serial(port: int, certificate: Path) -> str:
    """The fingerprint of what a server shows."""
    context = ssl.create_default_context(cafile=certificate)
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secure,
    ):
        return str(secure.getpeercert()["serialNumber"])  # type: ignore[index]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_a_renewed_certificate_is_read_on_sighup_and_a_broken_one_leaves_the_old(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "server.pem"
    write_certificate(path)
    with started(folder, "--certificate", str(path)) as (process, page):
        assert page.startswith("https://")
        port, first = int(page.rstrip("/").rsplit(":", 1)[1]), path.read_bytes()
        before = serial(port, path)
        for text, words in ((b"no certificate", "old certificate stays"), (None, "certificate read again")):
            if text is None:
                write_certificate(path)
            else:
                path.write_bytes(text)
            os.kill(process.pid, signal.SIGHUP)
            assert process.stderr is not None
            assert words in process.stderr.readline()
            if text is not None:
                (tmp_path / "old.pem").write_bytes(first)
                assert serial(port, tmp_path / "old.pem") == before
        assert serial(port, path) != before


def test_a_certificate_that_is_none_is_refused_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "server.pem").write_text("no certificate")
    result = refused("--certificate", str(tmp_path / "server.pem"), "--port", "0")
    assert result.returncode == 2
    assert "cannot be used" in result.stderr and "PEM" in result.stderr
