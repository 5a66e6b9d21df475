"""``diffspeaker-client``: its options, and one line for whatever goes wrong."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from diffspeaker_client import FaceError
from diffspeaker_client.cli.main import COMMANDS, main
from diffspeaker_client.cli.options import style_of, token_of, url_of
from diffspeaker_client.reconnect import Attempts, Unreachable, trouble_of
from diffspeaker_client.status import Status
from websockets.exceptions import ConnectionClosedError, InvalidURI

from tests.serving import GUARD_S

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("vmc.md", "livelink.md", "ifacialmocap.md")


def quiet() -> Status:
    return Status(io.StringIO())


def nobody() -> str:
    """The address of a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"ws://127.0.0.1:{port}"


# ---- sentences ----


@pytest.mark.parametrize(
    ("error", "words", "passes"),
    [
        (
            ConnectionRefusedError(111, "Connect call failed"),
            "nothing listens there.*diffspeaker serve",
            True,
        ),
        (TimeoutError(), "no answer", True),
        (OSError(-2, "Name or service not known"), "Name or service not known", True),
        (InvalidURI("x", "no scheme"), "is not an address", False),
        (ConnectionClosedError(None, None), "was lost", True),
        (FaceError("unknown_stream", "Nobody speaks."), "Start the publisher first", True),
        (FaceError("unauthorized", "No."), "token", False),
    ],
)
def test_every_way_to_lose_a_connection_has_a_sentence(error: Exception, words: str, passes: bool) -> None:
    trouble = trouble_of(error, "ws://x/v1/streams/a")
    assert trouble is not None and re.search(words, trouble.sentence) and trouble.passes is passes


def test_a_bug_is_not_mistaken_for_trouble() -> None:
    assert trouble_of(ZeroDivisionError(), "ws://x") is None


def test_waits_grow_to_a_bound_and_start_anew_after_a_welcome() -> None:
    attempts = Attempts(quiet())
    assert [attempts.wait_s(8) for _ in range(6)] == [0.5, 1, 2, 4, 8, 8]
    attempts.welcomed()
    assert [attempts.wait_s(1) for _ in range(3)] == [0.5, 1, 1]


def test_who_comes_back_is_told_how_long_it_took_and_nobody_else() -> None:
    told, now_s = io.StringIO(), iter([10.0, 13.25])
    attempts = Attempts(Status(told), lambda: next(now_s))
    attempts.broken()
    attempts.welcomed()
    attempts.broken()
    attempts.broken()
    attempts.welcomed()
    attempts.welcomed()
    assert told.getvalue() == "Back after 3.2 s.\n"


def test_the_line_is_for_terminals_and_no_sentence_is_said_twice_in_a_row() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        status = Status(stream)
        status.show(lambda: "12 sent")
        status.show(lambda: pytest.fail("within a second"))
        for sentence in ("one", "one", "two", "one"):
            status.say(sentence)
        status.forget()
        status.say("one")
        status.close()
    assert plain.getvalue() == "one\ntwo\none\none\n"
    assert terminal.getvalue().startswith("\r\x1b[K12 sent\r\x1b[Kone\n12 sent")
    assert terminal.getvalue().endswith("12 sent\n")


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("ws://127.0.0.1:8600", "ws://127.0.0.1:8600/v1/streams/me"),
        ("http://127.0.0.1:8600/", "ws://127.0.0.1:8600/v1/streams/me"),
        ("https://face.example/deep/", "wss://face.example/deep/v1/streams/me"),
        ("192.168.1.5:9000", "ws://192.168.1.5:9000/v1/streams/me"),
        ("ws://[::1]:8600", "ws://[::1]:8600/v1/streams/me"),
    ],
)
def test_a_servers_address_may_be_typed_as_it_is_printed(server: str, url: str) -> None:
    assert url_of(server, "me") == url


@pytest.mark.parametrize("server", ["ftp://x", "ws://", "", "ws://a:b", "ws://a?x=1"])
def test_what_is_no_server_is_refused(server: str) -> None:
    with pytest.raises(FaceError) as refusal:
        url_of(server, "me")
    assert refusal.value.exit_code == 2


def test_a_style_and_a_token_are_read_as_the_server_reads_them() -> None:
    assert style_of(None) is None
    assert style_of("cheerful") == {"cheerful": 1.0}
    assert style_of("soft=0.5,jaw=1.3") == {"soft": 0.5, "jaw": 1.3}
    for wrong in ("", "soft=x", "=1", "soft=-1", "soft=nan"):
        with pytest.raises(FaceError, match="--style"):
            style_of(wrong)
    assert token_of("a", {"DIFFSPEAKER_TOKEN": "b"}) == "a"
    assert token_of(None, {"DIFFSPEAKER_TOKEN": "b"}) == "b"
    assert token_of(None, {}) is None


# ---- the command ----

BRIDGE = ["bridge", "vmc", "--stream", "me"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, "usage"),
        (["dance"], 2, "bridge, publish, watch"),
        (["bridge"], 2, "bridge --help"),
        (["bridge", "smell", "--stream", "me"], 2, "vmc"),
        (["bridge", "vmc"], 2, "--stream"),
        (["bridge", "vmc", "--stream", "a b"], 2, "1 to 64 letters"),
        ([*BRIDGE, "--fps", "0"], 2, "1 to 240"),
        ([*BRIDGE, "--fps", "many"], 2, "1 to 240"),
        ([*BRIDGE, "--gain", "jawOpn=1"], 2, "Did you mean jawOpen"),
        ([*BRIDGE, "--gain", "a=1", "--names", "vrm0"], 2, "No channel is called 'a'"),
        ([*BRIDGE, "--only", "moth"], 2, "Did you mean mouth"),
        ([*BRIDGE, "--subject", "x"], 2, "belongs to livelink"),
        ([*BRIDGE, "--listen"], 2, "belongs to ifacialmocap"),
        ([*BRIDGE, "--to", "127.0.0.1:99999"], 2, "HOST:PORT"),
        ([*BRIDGE, "--to", "[::1"], 2, "HOST:PORT"),
        (["bridge", "livelink", "--stream", "me", "--to", "no.such.host.invalid"], 2, "--to"),
        ([*BRIDGE, "--server", "ftp://x"], 2, "--server"),
        (["bridge", "livelink", "--stream", "me", "--subject", ""], 2, "--subject"),
        (["bridge", "ifacialmocap", "--stream", "me", "--listen", "--to", "x"], 2, "Leave out --to"),
        (["bridge", "ifacialmocap", "--stream", "me", "--reply-port", "9"], 2, "belongs to --listen"),
        (["publish", "none.wav", "--stream", "me"], 2, "there is no such file"),
        (["publish", "a.wav", "--stream", "me", "--device", "x"], 2, "microphone"),
        (["publish", "a.wav", "--stream", "me", "--style", "x=y"], 2, "--style"),
        (["watch", "--stream", "me", "-o", "no/such/folder/a.csv"], 2, "cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == code
    told = capsys.readouterr().err
    assert words in told
    if argv:
        (line,) = told.splitlines()
        assert line.startswith("diffspeaker-client: ")


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(
            [*BRIDGE, "--gain", "A=1.2", "--only", "mouth", "--mirror", "--fps", "60"],
            marks=pytest.mark.skipif(find_spec("pythonosc") is None, reason="python-osc is in `dev`"),
        ),
        ["bridge", "livelink", "--stream", "me", "--to", "127.0.0.1"],
        ["bridge", "ifacialmocap", "--stream", "me", "--to", ":9"],
        ["bridge", "ifacialmocap", "--stream", "me", "--listen", "127.0.0.1:0", "--reply-port", "9"],
        ["watch", "--stream", "me"],
    ],
)
def test_once_and_no_server_is_one_sentence_and_exit_1(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if "--listen" in argv:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            argv = [word.replace(":0", f":{taken.getsockname()[1]}") for word in argv]
    assert main([*argv, "--once", "--server", nobody()]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing listens there. Start it with `diffspeaker serve`" in line


def test_a_phones_port_in_use_is_one_line_and_exit_5(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["bridge", "ifacialmocap", "--stream", "me", "--listen", listen]) == 5
    assert "--listen" in capsys.readouterr().err


def test_vmc_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pythonosc"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "diffspeaker_client.bridge.vmc", raising=False)
    monkeypatch.setitem(sys.modules, "pythonosc.osc_bundle_builder", None)
    assert main(BRIDGE) == 2
    assert 'pip install "diffspeaker-live[vmc]"' in capsys.readouterr().err


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_help(command: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*([command] if command else []), "--help"]) == 0
    told = capsys.readouterr().out
    assert "diffspeaker-client" in told and "--help" in told


def test_its_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.match(r"diffspeaker-client \d", capsys.readouterr().out)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
@pytest.mark.parametrize(
    "argv", [["bridge", "livelink", "--stream", "me"], ["watch", "--stream", "me", "-o", "-"]]
)
def test_ctrl_c_is_exit_130_without_another_word(argv: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "diffspeaker_client", *argv, "--server", nobody()],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        told = process.stderr.readline()
        assert "cannot be reached: nothing listens there." in told and "Trying again." in told
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=GUARD_S)
        assert (process.returncode, out, err) == (130, "", "")
    finally:
        process.kill()
        process.communicate()


def test_unreachable_is_no_bug() -> None:
    assert Unreachable("x").exit_code == 1


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_commands_exist_with_their_flags(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    ours = [words for words in lines if words and words[0] == "diffspeaker-client"]
    assert ours
    for words in ours:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main([words[1], "--help"]) == 0
        offered = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", printed.getvalue()))
        assert {word for word in words if word.startswith("-")} <= offered, words
