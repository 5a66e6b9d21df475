"""What the project stands on is listed, licensed and pinned; nothing that serves reads pickles."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from export import third_party

ROOT = Path(__file__).resolve().parents[1]
SERVING = sorted([*ROOT.glob("streamer/**/*.py"), *ROOT.glob("clients/python/**/*.py")])
# Modules that run what they read, and functions of others that do.
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}
# Nothing that is shipped or served with may ask others to publish what is theirs.
FREE = re.compile(r"MIT|BSD|Apache|PSF|MPL|LGPL|Freely Distributable")


def unpickling(source: str) -> list[str]:
    """What in a program could read a pickle: imports, ``allow_pickle``, ``eval`` and ``exec``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            found += [name] if name in ("eval", "exec") else []
            for keyword in node.keywords:
                is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                found += ["allow_pickle"] if keyword.arg == "allow_pickle" and not is_off else []
    return found


@pytest.mark.parametrize("path", SERVING, ids=lambda p: p.name)
def test_nothing_that_serves_or_watches_reads_pickles(path: Path) -> None:
    assert unpickling(path.read_text("utf-8")) == []


def test_what_would_read_a_pickle_is_noticed() -> None:
    bad = "import pickle\nfrom torch import load\nnp.load(f, allow_pickle=True)\neval(x)"
    assert unpickling("np.load(f, allow_pickle=False)") == []
    assert sorted(unpickling(bad)) == ["allow_pickle", "eval", "pickle", "torch"]


def test_every_dependency_is_listed_with_a_free_licence() -> None:
    page = (ROOT / "THIRD_PARTY.md").read_text("utf-8")
    listed = {
        name: licence for name, licence in re.findall(r"^\| (\S+) \| \S+ \| (.+?) \|$", page, re.MULTILINE)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {name: one for name, one in project["optional-dependencies"].items() if name != "gpu"}
    wanted = {third_party.name_of(one) for one in [*project["dependencies"], *sum(extras.values(), [])]}
    web = json.loads((ROOT / "clients/web/package.json").read_text("utf-8"))
    wanted |= {*web["dependencies"], *web["devDependencies"]}
    assert wanted - listed.keys() == set(), "python -m export.third_party"
    assert "none named" not in page
    serving = page.split("## To train")[0]
    rows = re.findall(r"^\| ([^-\s]\S+) \| \d\S* \| (.+?) \|$", serving, re.MULTILINE)
    assert len(rows) > 20
    assert [row for row in rows if not FREE.search(row[1])] == []


def test_the_versions_listed_are_those_installed() -> None:
    page = (ROOT / "THIRD_PARTY.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for requirement in project["dependencies"]:
        if match := re.fullmatch(r"([\w.-]+)==([\w.]+)(;.*)?", requirement):
            assert f"| {third_party.name_of(match[1])} | {match[2]} |" in page, "python -m export.third_party"


def test_packages_of_the_bundle_are_walked_with_what_they_need() -> None:
    rows = {
        name: (version, licence)
        for name, version, licence in third_party.closure(["soundfile", "no-such-package"])
    }
    assert "cffi" in rows and "BSD" in rows["soundfile"][1]
    assert "no-such-package" not in rows
