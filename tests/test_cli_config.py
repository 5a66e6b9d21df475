"""Options: one spelling for the flag, the environment, the file and the help; one line for every mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from streamer.cli import animate, info
from streamer.cli.config import inputs, option, parse
from streamer.cli.main import COMMANDS, main
from streamer.contract.errors import FaceError


@dataclass(frozen=True)
class Options:
    files: tuple[str, ...] = inputs("the files", metavar="FILE")
    port: int = option(8600, "the port", minimum=0, maximum=65535)
    lookahead_ms: float | None = option(None, "the lookahead", metavar="MS")
    colour: str = option("red", "the colour", choices=["red", "green"])
    out: Path | None = option(None, "the output", short="-o")
    quiet: bool = option(False, "say nothing")


def read(*argv, env=None):
    return parse(Options, ["file", *argv], "diffspeaker serve", "Serves.", env or {})


def mistake(*argv, env=None):
    with pytest.raises(FaceError) as caught:
        read(*argv, env=env)
    assert caught.value.code == "bad_config"
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_defaults_hold_where_nothing_is_given():
    assert read() == Options(("file",))


def test_an_option_is_spelled_alike_everywhere(tmp_path):
    file = tmp_path / "face.toml"
    file.write_text("[serve]\nlookahead_ms = 3\n[animate]\nanything = 1\n")
    by_file = read("--config", str(file))
    by_environment = read(env={"DIFFSPEAKER_LOOKAHEAD_MS": "3"})
    assert read("--lookahead-ms", "3") == by_environment == by_file
    assert by_file.lookahead_ms == 3.0 and isinstance(by_file.lookahead_ms, float)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "face.toml"
    file.write_text('[serve]\nport = 1\ncolour = "green"\nquiet = true\n')
    environment = {"DIFFSPEAKER_CONFIG": str(file), "DIFFSPEAKER_PORT": "2", "DIFFSPEAKER_QUIET": "off"}
    options = read("--port", "3", env=environment)
    assert (options.port, options.colour, options.quiet) == (3, "green", False)
    assert read(env=environment).port == 2


def test_flags_can_be_switched_on_and_off_and_shortened():
    assert read("--quiet").quiet and not read("--no-quiet", env={"DIFFSPEAKER_QUIET": "1"}).quiet
    assert read("-o", "there").out == Path("there")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--port", "many"], "The option --port must be a whole number, not 'many'"),
        (["--port", "1.5"], "--port must be a whole number"),
        (["--port", "70000"], "--port must be at most 65535"),
        (["--lookahead-ms", "nan"], "--lookahead-ms must be a number"),
        (["--colour", "blue"], "--colour must be one of red, green, not 'blue'"),
        (["--colr", "red"], "--colr"),
        (["--port"], "--port"),
    ],
)
def test_a_mistake_on_the_command_line_names_the_option(argv, says):
    assert says in mistake(*argv)


def test_a_mistake_in_the_environment_names_the_variable():
    assert "DIFFSPEAKER_PORT must be at least 0" in mistake(env={"DIFFSPEAKER_PORT": "-1"})
    assert "DIFFSPEAKER_QUIET must be one of" in mistake(env={"DIFFSPEAKER_QUIET": "perhaps"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = 3", "stands outside a table: put it under [serve]"),
        ("[serve]\nprt = 3", "unknown key prt"),
        ('[serve]\nfiles = "x"', "unknown key files"),
        ('[serve]\nport = "3x"', "key port must be a whole number"),
        ("[serve]\nport = true", "key port must be a whole number"),
        ("[serve]\ncolour = 3", "key colour must be a text"),
        ("[serve", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_names_the_key(tmp_path, text, says):
    file = tmp_path / "face.toml"
    file.write_text(text)
    assert says in mistake("--config", str(file))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    assert "nowhere.toml cannot be read" in mistake("--config", str(tmp_path / "nowhere.toml"))


def test_help_shows_the_default_and_the_variable(capsys):
    with pytest.raises(SystemExit) as stop:
        read("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--lookahead-ms MS" in text and "default 8600, $DIFFSPEAKER_PORT" in " ".join(text.split())


# ---- the command ----


def test_help_and_version_answer_at_once(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("diffspeaker ")


@pytest.mark.parametrize("command", ["animate", "info"])
def test_every_command_has_its_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: diffspeaker {command}" in capsys.readouterr().out


def test_no_command_shows_the_help_and_fails(capsys):
    assert main([]) == 2
    assert "usage: diffspeaker" in capsys.readouterr().err


def test_an_unknown_command_is_answered_in_one_line(capsys):
    assert main(["dance"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("diffspeaker: There is no command 'dance'") and error.count("\n") == 1


def test_control_c_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(animate, "run", interrupted)
    assert main(["animate"]) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_shows_its_traceback_and_its_own_exit_code(monkeypatch, capsys):
    def broken(argv):
        raise ZeroDivisionError

    monkeypatch.setattr(info, "run", broken)
    assert main(["info"]) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err
