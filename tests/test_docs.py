"""The documents' command lines exist: every module, flag and file of the repository that they name."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def blocks() -> list[tuple[str, list[str]]]:
    """Every command in the pages' shell blocks, as (page, words)."""
    found = []
    for page in PAGES:
        for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    found.append((page.name, words))
    return found


def ours() -> list[tuple[str, list[str]]]:
    """The commands among them that are this project's, starting with their program."""
    programs = [(page, words[2:] if words[:2] == ["python", "-m"] else words) for page, words in blocks()]
    return [(page, words) for page, words in programs if is_ours(words[0])]


def is_ours(program: str) -> bool:
    return program == "diffspeaker" or program.split(".")[0] in ("model", "export", "benchmarks")


@cache
def help_of(words: tuple[str, ...]) -> str:
    """What a command prints when it is asked for help, with the words that choose its options before it."""
    name = "streamer.cli.main" if words[0] == "diffspeaker" else words[0]
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            code = module.main([*words[1:], "--help"])
        except SystemExit as stopped:
            code = stopped.code
    assert not code
    return printed.getvalue()


def named(words: list[str]) -> str:
    return " ".join(words)


@pytest.mark.parametrize(
    ("page", "words"), ours(), ids=lambda value: value if isinstance(value, str) else named(value)
)
def test_a_command_and_its_flags_exist(page: str, words: list[str]) -> None:
    chosen = [word for word in words[1:2] if words[0] in ("diffspeaker", "model.train")]
    flags = {word.split("=")[0] for word in words if word.startswith("--")}
    offered = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of((words[0], *chosen))))
    assert flags <= offered, f"{page}: {sorted(flags - offered)} of `{named(words)}`"
    for word in words:
        assert not word.startswith("configs/") or (ROOT / word).exists(), f"{page} names {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_pages_links_into_the_repository_lead_somewhere(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_guards_see_commands_to_guard() -> None:
    seen = {words[0] for _, words in ours()}
    assert {"diffspeaker", "model.train", "model.corpus", "model.captures", "export"} <= seen
