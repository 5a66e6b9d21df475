"""What the project stands on is listed, licensed and locked by hash; nothing that serves reads pickles."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from export import lock, third_party

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
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


def pins(requirements: list[str]) -> dict[str, str]:
    """The packages that are asked for at one version, and the version."""
    exact = [re.match(r"([\w.-]+)(?:\[[^]]*\])?==([\w.]+)", one) for one in requirements]
    return {third_party.name_of(one[1]): one[2] for one in exact if one}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_package_of_a_lock_file_has_one_version_and_hashes(path: Path) -> None:
    text = path.read_text("utf-8")
    locked = lock.read(path)
    assert locked and all(one.hashes for one in locked.values()), "make lock"
    named = [line for line in text.splitlines() if re.match(r"\w", line)]
    assert len(named) == len(locked), "a line is no package at one version"
    assert "://" not in text and "--index" not in text and "--find-links" not in text


@pytest.mark.parametrize("extra", ["", *lock.pyproject()["project"]["optional-dependencies"]])
def test_what_pyproject_pins_is_locked_at_that_version(extra: str) -> None:
    project = lock.pyproject()["project"]
    wanted = pins(project["optional-dependencies"][extra] if extra else project["dependencies"])
    names = ["serve-gpu"] if extra == "gpu" else ["develop", "torch"]
    found = {
        name: one.version for part in names for name, one in lock.read(lock.FOLDER / f"{part}.txt").items()
    }
    assert wanted and wanted.items() <= found.items(), "make lock"


def test_what_serves_and_what_builds_is_locked_at_the_same_versions_as_what_is_tested() -> None:
    tested = lock.read(lock.FOLDER / "develop.txt")
    for name in ("serve.txt", "serve-gpu.txt", "build.txt"):
        for one in lock.read(lock.FOLDER / name).values():
            known = tested.get(one.name, one)
            assert (one.version, one.hashes) == (known.version, known.hashes), (
                f"{one.name} of {name}: make lock"
            )
    serving = lock.read(lock.FOLDER / "serve.txt")
    project = lock.pyproject()["project"]
    assert {third_party.name_of(one) for one in project["dependencies"]} <= serving.keys() <= tested.keys()
    builds = pins(lock.pyproject()["build-system"]["requires"])
    locked = {name: one.version for name, one in lock.read(lock.FOLDER / "build.txt").items()}
    assert builds and builds.items() <= locked.items()


def test_the_cpu_builds_of_torch_are_of_the_version_that_is_locked() -> None:
    torch = lock.read(lock.FOLDER / "torch.txt")["torch"].version
    assert lock.read(lock.FOLDER / "torch-cpu.txt")["torch"].version == f"{torch}+cpu"


def test_make_installs_nothing_that_is_not_locked_by_hash() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    lines = makefile.replace("\\\n", " ").splitlines()
    assert re.search(r"^LOCKED := \$\(PIP\) --require-hashes$", makefile, re.MULTILINE)
    installs = [line for line in lines if "pip install" in line or "$(PIP)" in line or "$(LOCKED)" in line]
    assert len(installs) > 5
    project = r"\$\(PIP\) --no-deps --no-build-isolation -e \."
    locked = r"(\$\(LOCKED\)|pip install [^&|]*--require-hashes)[^&|]* -r (requirements/[\w-]+\.txt|\$<)"
    for line in installs:
        if not re.match(r"(PIP|LOCKED) :=", line):
            for part in re.split(
                r"&&|\|\|", line.split(":=")[-1].split("2>")[0] if "||" not in line else line
            ):
                assert re.search(f"{project}|{locked}", part), line


def test_a_package_that_is_locked_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        lock.split("one==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\none==2.0\n")


@pytest.mark.parametrize(
    "module", ["streamer.engine.backend", "export.variants", "model.speech", "benchmarks.engine"]
)
def test_onnx_runtime_reports_nothing_to_its_makers(module: str, tmp_path: Path) -> None:
    """Where it would, it keeps what it has to send in the cache folder."""
    code = f"import {module}, onnxruntime; print(onnxruntime.get_available_providers())"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": os.environ["PATH"]}
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=home, check=True, capture_output=True, timeout=120
    )
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()] == []
