"""What an advisory means for `make check`: a failure, unless it is accepted; silence is said, and is none.

The reports are of the forms that pip-audit 2.10 and npm 11 print; the services themselves are asked through a
port of this machine that nobody listens on.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export import audit, lock

ROOT = Path(__file__).resolve().parents[1]
TODAY = datetime.date(2026, 11, 27)
PIP = {
    "dependencies": [
        {"name": "idna", "version": "3.20", "vulns": []},
        {
            "name": "requests",
            "version": "2.31.0",
            "vulns": [
                {
                    "id": "PYSEC-2024-60",
                    "fix_versions": ["2.32.0"],
                    "aliases": ["CVE-2024-35195", "GHSA-9wx4-h78v-vm56"],
                    "description": "A Session that was once told not to verify\ngoes on not verifying.",
                }
            ],
        },
        {
            "name": "anny",
            "skip_reason": "Dependency not found on PyPI and could not be audited: anny (0.6.2)",
        },
    ],
    "fixes": [],
}
NPM = {
    "auditReportVersion": 2,
    "vulnerabilities": {
        "minimist": {
            "name": "minimist",
            "severity": "critical",
            "isDirect": False,
            "via": [
                {
                    "source": 1097678,
                    "name": "minimist",
                    "dependency": "minimist",
                    "title": "Prototype Pollution in minimist",
                    "url": "https://github.com/advisories/GHSA-xvch-5gv4-984h",
                    "severity": "critical",
                    "cwe": ["CWE-1321"],
                    "cvss": {"score": 9.8, "vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
                    "range": "<0.2.4",
                }
            ],
            "effects": ["mkdirp"],
            "range": "<0.2.4",
            "nodes": ["node_modules/minimist"],
            "fixAvailable": True,
        },
        "mkdirp": {
            "name": "mkdirp",
            "severity": "critical",
            "isDirect": True,
            "via": ["minimist"],
            "effects": [],
            "range": "0.4.1 - 0.5.1",
            "nodes": ["node_modules/mkdirp"],
            "fixAvailable": True,
        },
    },
    "metadata": {
        "vulnerabilities": {"info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 2, "total": 2},
        "dependencies": {"prod": 3, "dev": 0, "optional": 0, "peer": 0, "peerOptional": 0, "total": 2},
    },
}
NPM_SILENT = {
    "message": "405 Method Not Allowed",
    "method": "POST",
    "statusCode": 405,
    "error": {"summary": ""},
}
ACCEPTED = """
[[accepted]]
id = "CVE-2024-35195"
package = "requests"
reason = "no session is told not to verify"
until = 2026-12-31
"""


def test_an_advisory_of_a_python_package_goes_by_all_its_numbers() -> None:
    answer = audit.of_pip(json.dumps(PIP))
    (weak,) = answer.advisories
    assert (weak.package, weak.version) == ("requests", "2.31.0")
    assert weak.ids == ("PYSEC-2024-60", "CVE-2024-35195", "GHSA-9wx4-h78v-vm56")
    assert "\n" not in str(weak) and "requests 2.31.0: PYSEC-2024-60" in str(weak)


def test_a_package_that_the_service_does_not_know_counts_as_unknown_not_as_safe() -> None:
    answer = audit.of_pip(json.dumps(PIP))
    assert (answer.known, answer.unknown) == (2, ("anny",))


def test_an_advisory_of_the_page_names_the_package_that_is_weak_and_not_those_that_use_it() -> None:
    answer = audit.of_npm(json.dumps(NPM))
    assert [(one.package, one.ids) for one in answer.advisories] == [("minimist", ("GHSA-xvch-5gv4-984h",))]
    assert answer.known == 2


def test_npm_that_could_not_ask_has_not_found_nothing() -> None:
    with pytest.raises(audit.NoAnswer, match="405"):
        audit.of_npm(json.dumps(NPM_SILENT))


def test_an_advisory_fails_unless_it_is_accepted_for_that_package_and_only_until_that_day() -> None:
    weak = audit.of_pip(json.dumps(PIP)).advisories
    accepted = audit.acceptances(ACCEPTED)
    assert audit.judged(weak, [], TODAY) == (list(weak), [])
    passed, lines = audit.judged(weak, accepted, TODAY)
    assert passed == [] and "no session is told" in lines[0]
    assert audit.judged(weak, accepted, datetime.date(2026, 12, 31)) == (list(weak), [])
    others = audit.acceptances(ACCEPTED.replace('"requests"', '"idna"'))
    assert audit.judged(weak, others, TODAY) == (list(weak), [])


@pytest.mark.parametrize("line", ["reason", "until", "package"])
def test_an_acceptance_without_its_reason_its_end_or_its_package_is_refused(line: str) -> None:
    text = "\n".join(row for row in ACCEPTED.splitlines() if not row.startswith(line))
    with pytest.raises(ValueError, match="needs id, package, reason and until"):
        audit.acceptances(text)


def test_the_acceptances_of_this_repository_can_be_read() -> None:
    audit.acceptances(audit.ACCEPTED.read_text("utf-8"))


def test_every_locked_package_is_asked_about_once() -> None:
    portions = audit.python_packages()
    asked = [item for portion in portions for item in portion.items()]
    locks = [path for path in lock.FOLDER.glob("*.txt") if path.name != "torch-cpu.txt"]
    assert len(asked) == len(set(asked))
    assert set(asked) == {(one.name, one.version) for path in locks for one in lock.read(path).values()}
    assert all(len(portion) <= audit.AT_ONCE for portion in portions)


def test_a_tool_that_breaks_is_a_failure_and_not_a_silence(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('no such option: --format')"]
    with pytest.raises(RuntimeError, match="no such option"):
        audit.answered(broken, 30)
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(audit.NoAnswer, match=r"within 0\.1 s"):
        audit.answered(slow, 0.1)


@pytest.mark.slow
def test_without_a_network_it_says_so_and_fails_only_where_it_must_not_be_silent(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:1"
    environment = os.environ | {
        "HTTPS_PROXY": nobody,
        "https_proxy": nobody,
        "HTTP_PROXY": nobody,
        "npm_config_registry": nobody,
        "XDG_CACHE_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "export.audit", "--timeout-s", "60"]
    for options, code in (([], 0), (["--strict"], 1)):
        done = subprocess.run(
            [*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done
        for tool in ("pip-audit", "npm audit"):
            assert f"{tool}: NOT CHECKED" in done.stdout, done
