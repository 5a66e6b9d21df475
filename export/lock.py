"""``python -m export.lock`` (``make lock``): writes the lock files of ``requirements/`` from pyproject.toml.

A lock file names every package that an environment gets, at one version, with the hash of each of its files
for every system and Python: pip refuses what has another hash (``--require-hashes``). uv resolves them, for
all systems at once; versions that are locked already stay until they do not fit, or until ``--upgrade``.

========================  ==================================================================================
``serve.txt``             ``make run`` and the container: the server, on a processor
``serve-gpu.txt``         the same on a GPU
``serve-cluster.txt``     the server and the pool of a Ray cluster, on processors
``serve-cluster-gpu.txt`` the same on a GPU
``develop.txt``           ``make test`` and ``make check``, less the next three
``torch.txt``             torch of PyPI, with what only its builds for Linux need: CUDA
``torch-cpu.txt``         PyTorch's own CPU builds instead, which need none of it; written by hand
``without-dependencies``  packages that are installed without what they depend on
``build.txt``             what builds the project itself
``agents.txt``            ``make agents``
========================  ==================================================================================

A package has the same version in all of them but ``agents.txt``, which is an environment of its own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.third_party import name_of

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
OLDEST = "3.11"
SERVE = ("traces",)
SERVERS = {
    "serve.txt": ("cpu", *SERVE),
    "serve-gpu.txt": ("gpu", *SERVE),
    "serve-cluster.txt": ("cpu", "cluster", *SERVE),
    "serve-cluster-gpu.txt": ("gpu", "cluster", *SERVE),
}
DEVELOP = ("cluster", "corpus", "cpu", "dev", "evaluate", "preview", "rig", "train")
# Not in build-system.requires: hatchling asks for it when an editable install is built.
EDITABLE = "editables"
HEADER = "# Written by `make lock`: change pyproject.toml (or the .in file) instead.\n"
_BLOCK = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+).*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")
_TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
TORCH_NOTE = """\
# To be installed without what they depend on: that is in develop.txt. A CPU build does too: torch-cpu.txt.
"""


@dataclass(frozen=True)
class Locked:
    """A package of a lock file: its name, version, the hashes of its files, and its lines as written."""

    name: str
    version: str
    hashes: tuple[str, ...]
    text: str


def read(path: Path) -> dict[str, Locked]:
    """The packages of a lock file by name; empty where there is no such file."""
    return split(path.read_text("utf-8")) if path.exists() else {}


def split(text: str) -> dict[str, Locked]:
    """The packages of a lock file's text by name.

    Raises:
        ValueError: a package is there twice; then one version would not do for all systems.
    """
    found: dict[str, Locked] = {}
    for block in _BLOCK.finditer(text):
        name = name_of(block["name"])
        if name in found:
            raise ValueError(f"{name} is locked twice")
        found[name] = Locked(name, block["version"], tuple(_HASH.findall(block[0])), block[0])
    return found


def compiled(
    requirements: Sequence[str],
    *,
    extras: Sequence[str] = (),
    known: Sequence[str] = (),
    binding: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> str:
    """What uv resolves.

    Args:
        requirements: lines, or the name of a file of the repository. extras: of pyproject.toml.
        known: lock files whose versions are preferred. binding: lock files whose versions are obeyed.
        arguments: further ones for uv.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, wanted, bound = (Path(folder) / name for name in ("out.txt", "requirements.in", "bound.txt"))
        out.write_text("".join(one.text for name in known for one in read(FOLDER / name).values()), "utf-8")
        obeyed = [one for name in binding for one in read(FOLDER / name).values()]
        bound.write_text("".join(f"{one.name}=={one.version}\n" for one in obeyed), "utf-8")
        wanted.write_text("\n".join(requirements) + "\n", "utf-8")
        source = requirements[0] if (ROOT / requirements[0]).is_file() else str(wanted)
        command = [sys.executable, "-m", "uv", "pip", "compile", source, "--output-file", str(out)]
        command += [
            f"--python-version={OLDEST}",
            "--universal",
            "--fork-strategy=fewest",
            "--generate-hashes",
        ]
        command += ["--no-header", "--no-annotate", "--no-config", "--quiet", f"--constraint={bound}"]
        command += [*(f"--extra={extra}" for extra in extras), *arguments]
        subprocess.run(command, cwd=ROOT, check=True)
        return out.read_text("utf-8")


def pyproject() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def write(upgrade: bool) -> None:
    """Writes every lock file."""
    more = ["--upgrade"] if upgrade else []
    project = "pyproject.toml"

    def put(name: str, text: str, note: str = "") -> None:
        (FOLDER / name).write_text(HEADER + note + text, "utf-8")
        print(f"wrote requirements/{name}: {len(split(text))} packages")

    found = split(compiled([project], extras=DEVELOP, known=("develop.txt", "torch.txt"), arguments=more))
    put("develop.txt", "".join(one.text for name, one in found.items() if not _TORCH.fullmatch(name)))
    put("torch.txt", "".join(one.text for name, one in found.items() if _TORCH.fullmatch(name)), TORCH_NOTE)
    for name, extras in SERVERS.items():
        put(name, compiled([project], extras=extras, known=[name], binding=["develop.txt"], arguments=more))
    building = [*pyproject()["build-system"]["requires"], EDITABLE]
    put("build.txt", compiled(building, known=["build.txt"], binding=["develop.txt"], arguments=more))
    alone = "without-dependencies"
    put(f"{alone}.txt", compiled([f"requirements/{alone}.in"], arguments=["--no-deps"]))
    put("agents.txt", compiled(["clients/pipecat/requirements.txt"], known=["agents.txt"], arguments=more))


def main(argv: list[str] | None = None) -> int:
    """Writes the lock files."""
    parser = argparse.ArgumentParser(
        prog="python -m export.lock",
        description="Writes the lock files of requirements/ from pyproject.toml.",
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    write(parser.parse_args(argv).upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
