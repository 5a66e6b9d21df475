"""The page in a real browser: runs ``clients/web/tests/browser``, whose tests say what must hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).parents[1] / "clients" / "web"


def _missing() -> str | None:
    """What this machine lacks, None where nothing."""
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if shutil.which("node") is None:
        return "node is not installed"
    if not (WEB / "node_modules" / "playwright-core").is_dir():
        return "clients/web needs `npm install`"
    if not Path(chromium).is_file():
        return f"there is no Chromium at {chromium} (set CHROMIUM)"
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        pytest.param("page.browser.js", id="moves_its_lips_with_the_speech_and_closes_them_in_silence"),
        pytest.param("avatars.browser.js", id="wears_other_peoples_avatars"),
        pytest.param("uses.browser.js", id="is_heard_in_time_recorded_and_embedded"),
    ],
)
def test_the_face_in_a_browser(file: str) -> None:
    missing = _missing()
    if missing is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    run = subprocess.run(
        ["node", "--test", f"tests/browser/{file}"],
        cwd=WEB,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=900,
    )
    report = run.stdout + run.stderr
    print(report)
    assert run.returncode == 0, report
