"""The pipecat processor, in an environment of its own (pipecat pins other versions of what the server uses).

``make agents`` builds that environment; without it these tests are skipped, and in CI they fail.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import fakes
from tests.processes import ROOT, started

PYTHON = ROOT / ".venv-agents" / "bin" / "python"


def python() -> Path:
    if not PYTHON.exists():
        if os.environ.get("CI"):
            pytest.fail(".venv-agents is missing: make agents")
        pytest.skip("pipecat is not here: make agents")
    return PYTHON


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the cases saw."""
    interpreter = python()
    folder = fakes.write_bundle(tmp_path_factory.mktemp("pipecat") / "bundle")
    paths = [ROOT, ROOT / "clients" / "python", ROOT / "clients" / "pipecat"]
    with started(folder) as (_, address):
        url = address.replace("http", "ws", 1) + "v1/streams/"
        run = subprocess.run(
            [interpreter, ROOT / "tests" / "pipecat_cases.py", url],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    yield json.loads(run.stdout.splitlines()[-1])


@pytest.mark.slow
def test_what_a_bot_says_passes_through_and_is_shown_from_the_first_frame_to_the_last(
    found: dict[str, Any],
) -> None:
    whole = found["whole"]
    assert whole["passed"] and whole["contiguous"] and whole["opened"]
    assert whole["frames"] >= 30 and whole["channels"] == 52


@pytest.mark.slow
def test_an_interrupted_bot_closes_its_mouth_and_can_speak_again(found: dict[str, Any]) -> None:
    interrupted = found["interrupted"]
    assert interrupted["rests"]
    assert interrupted["frames_before"] < 150, "of 300 that the burst would have been"
    assert interrupted["frames_after"] >= 12


@pytest.mark.slow
def test_a_server_that_is_away_is_reported_once_for_each_utterance_and_silences_nobody(
    found: dict[str, Any],
) -> None:
    assert found["away"] == {"audio": 10, "errors": 2}
