"""``python -m export.audit`` (``make audit``, in ``make check``): looks for weaknesses in what is locked.

pip-audit is asked about every package of ``requirements/*.txt``, for whatever system, and npm about the
page's lock file, side by side. What they find fails, unless ``requirements/accepted-advisories.toml`` accepts
it with a reason and an end. A service that cannot be reached, does not answer in time, or does not know a
package says nothing about weaknesses: that is printed and does not fail, so that one can work, and test,
without a network. Anything else that goes wrong does fail.

    python -m export.audit            # 20 seconds at most
    python -m export.audit --strict   # where there is a network for sure: fails without an answer, too
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from export.lock import FOLDER, ROOT, read

ACCEPTED = FOLDER / "accepted-advisories.toml"
WEB = ROOT / "clients" / "web"
TIMEOUT_S = 20.0
# pip-audit asks about one package after the other, a tenth of a second each.
AT_ONCE = 110
# How the tools say that nobody answered: names of exceptions in pip-audit's traceback, and npm's words.
_NO_ANSWER = re.compile(
    r"ConnectionError|ProxyError|SSLError|Timeout|ServiceError|HTTPError|Could not connect"
    r"|audit endpoint returned an error|ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ETIMEDOUT"
)


class NoAnswer(Exception):
    """The advisory service said nothing."""


@dataclass(frozen=True)
class Advisory:
    """A known weakness of a package: all the numbers it goes by, and what is said of it."""

    package: str
    version: str
    ids: tuple[str, ...]
    summary: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {', '.join(self.ids)}: {self.summary}".replace("\n", " ")[
            :240
        ]


@dataclass(frozen=True)
class Acceptance:
    """An advisory that somebody has looked at: why it does no harm here, and until when that is believed."""

    id: str
    package: str
    reason: str
    until: datetime.date

    def covers(self, advisory: Advisory, today: datetime.date) -> bool:
        """Whether it lets the advisory pass on that day."""
        return self.package == advisory.package and self.id in advisory.ids and today < self.until


def acceptances(text: str) -> list[Acceptance]:
    """Those of the TOML text.

    Raises:
        ValueError: one lacks a reason or an end, or has a key too many.
    """
    found = []
    for entry in tomllib.loads(text).get("accepted", []):
        if set(entry) != {"id", "package", "reason", "until"} or not str(entry["reason"]).strip():
            raise ValueError(f"an accepted advisory needs id, package, reason and until: {entry}")
        if not isinstance(entry["until"], datetime.date):
            raise ValueError(f"until is a date without quotes: {entry}")
        found.append(Acceptance(**entry))
    return found


@dataclass(frozen=True)
class Answer:
    """What a service says: the advisories, how many packages it knows, and which it does not know."""

    advisories: tuple[Advisory, ...]
    known: int
    unknown: tuple[str, ...] = ()


def of_pip(report: str) -> Answer:
    """What pip-audit's JSON holds."""
    packages = json.loads(report)["dependencies"]
    advisories = [
        Advisory(
            one["name"],
            one["version"],
            (weakness["id"], *weakness["aliases"]),
            weakness.get("description") or "no description",
        )
        for one in packages
        for weakness in one.get("vulns", [])
    ]
    unknown = tuple(one["name"] for one in packages if "skip_reason" in one)
    return Answer(tuple(advisories), len(packages) - len(unknown), unknown)


def of_npm(report: str) -> Answer:
    """The advisories of npm's JSON (auditReportVersion 2); a package weak only through another is not named.

    Raises:
        NoAnswer: npm says that it could not ask.
    """
    found = json.loads(report)
    if "vulnerabilities" not in found:
        raise NoAnswer(found.get("message") or "npm says nothing")
    advisories = [
        Advisory(
            entry["name"],
            via["range"],
            tuple(re.findall(r"GHSA-[\w-]+", via["url"])) or (str(via["source"]),),
            f"{via['severity']}: {via['title']}",
        )
        for entry in found["vulnerabilities"].values()
        for via in entry["via"]
        if isinstance(via, dict)
    ]
    return Answer(tuple(advisories), found["metadata"]["dependencies"]["total"])


def python_packages() -> list[dict[str, str]]:
    """Every package that is locked, with its version, in portions in which none is there twice."""
    portions: list[dict[str, str]] = []
    for lock in sorted(FOLDER.glob("*.txt")):
        # The CPU builds are the same torch under a version that no advisory names.
        for one in read(lock).values() if lock.name != "torch-cpu.txt" else ():
            if any(portion.get(one.name) == one.version for portion in portions):
                continue
            free = [part for part in portions if one.name not in part and len(part) < AT_ONCE]
            if not free:
                portions.append({})
                free = portions[-1:]
            free[0][one.name] = one.version
    return portions


def ask_pip(packages: Mapping[str, str], timeout_s: float) -> Answer:
    """What pip-audit finds in packages."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()), "utf-8")
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            str(wanted),
            "--no-deps",
            "--disable-pip",
        ]
        return of_pip(answered([*command, "--format=json", "--progress-spinner=off"], timeout_s))


def ask_npm(timeout_s: float) -> Answer:
    """What npm finds in the page's lock file."""
    return of_npm(answered(["npm", "audit", "--json", "--fetch-retries=0"], timeout_s, WEB))


def answered(command: Sequence[str], timeout_s: float, where: Path = ROOT) -> str:
    """What a tool prints.

    Raises:
        NoAnswer: nobody answered it, or not in time.
        RuntimeError: it failed in another way.
    """
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {timeout_s:g} s") from None
    if done.stdout.lstrip().startswith("{"):
        return done.stdout
    said = [line for line in done.stderr.splitlines() if line.strip()] or [f"it ended with {done.returncode}"]
    if _NO_ANSWER.search(done.stderr):
        raise NoAnswer(said[-1])
    raise RuntimeError(f"{' '.join(command[:3])} failed: {said[-1]}")


def judged(
    advisories: Iterable[Advisory], accepted: Sequence[Acceptance], today: datetime.date
) -> tuple[list[Advisory], list[str]]:
    """What is not accepted, and a line for each acceptance that was of use."""
    found = list(advisories)
    used = [by for by in accepted if any(by.covers(one, today) for one in found)]
    weak = [one for one in found if not any(by.covers(one, today) for by in used)]
    return weak, [f"accepted until {by.until}: {by.id} of {by.package}: {by.reason}" for by in used]


def main(argv: list[str] | None = None) -> int:
    """Asks both; returns 1 where something weak is found that is not accepted."""
    parser = argparse.ArgumentParser(
        prog="python -m export.audit", description="Looks for known weaknesses in what is locked."
    )
    parser.add_argument("--strict", action="store_true", help="fail where a service does not answer, too")
    parser.add_argument("--timeout-s", type=float, default=TIMEOUT_S, help="for all together (default 20)")
    options = parser.parse_args(argv)
    accepted = acceptances(ACCEPTED.read_text("utf-8"))
    advisories: list[Advisory] = []
    silent = False
    with ThreadPoolExecutor(max_workers=16) as pool:
        pip = [pool.submit(ask_pip, part, options.timeout_s) for part in python_packages()]
        for name, asked in {"npm audit": [pool.submit(ask_npm, options.timeout_s)], "pip-audit": pip}.items():
            answers: list[Answer] = []
            for future in asked:
                try:
                    answers.append(future.result())
                except NoAnswer as reason:
                    silent = True
                    print(f"{name}: NOT CHECKED, no advisory service answers: {str(reason)[:160]}")
            known = sum(answer.known for answer in answers)
            if unknown := [one for answer in answers for one in answer.unknown]:
                silent = silent or not known
                listed = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
                print(
                    f"{name}: NOT CHECKED, {len(unknown)} packages that the service does not know: {listed}"
                )
            if known:
                found = [one for answer in answers for one in answer.advisories]
                print(f"{name}: {known} packages checked, {len(found)} advisories")
                advisories += found
    weak, lines = judged(advisories, accepted, datetime.date.today())
    for line in [*lines, *(f"WEAK: {one}" for one in weak)]:
        print(line)
    return 1 if weak or (silent and options.strict) else 0


if __name__ == "__main__":
    sys.exit(main())
