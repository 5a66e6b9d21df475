"""``diffspeaker doctor``: every check, where all is well and where it is not."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from streamer.cli import doctor
from streamer.cli.main import main
from streamer.contract.errors import FaceError
from streamer.engine.bundle import DEFAULT_BUNDLE
from tests import fakes
from tests.serving import Place, play


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def test_a_machine_that_can_serve_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--port", str(free_port())]) == 0
    said = capsys.readouterr().out
    for check in ("system", "open files", "bundle", "computing", "port", "page", "microphone"):
        assert f" {check} " in said
    assert "FAULT" not in said and said.endswith("Ready: diffspeaker serve\n")


def test_its_findings_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--provider", "cpu", "--port", str(free_port())]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == 0
    assert {finding["state"] for finding in found["findings"]} <= {"ok", "note"}


def test_a_damaged_bundle_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, folder)
    weights = bytearray((folder / "weights.bin").read_bytes())
    weights[1000] ^= 1
    (folder / "weights.bin").write_bytes(weights)
    assert main(["doctor", "--bundle", str(folder), "--port", str(free_port())]) == 1
    said = capsys.readouterr().out
    assert "FAULT bundle" in said and "weights.bin" in said and "1 to mend" in said


def test_a_model_that_fails_is_a_fault(tmp_path: Path) -> None:
    bundle = doctor.Bundle.load(fakes.write_bundle(tmp_path / "bundle"))
    findings = list(doctor.computing(bundle, "cuda"))
    assert findings[-1].state == "fault" and findings[-1].check == "computing"


def test_a_port_says_who_has_it(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.settimeout(0.1)
        taken = doctor.port("127.0.0.1", other.getsockname()[1])
    assert taken.state == "fault" and "another program" in taken.found and "--port 0" in taken.mend
    assert doctor.port("127.0.0.1", free_port()).state == "ok"
    assert doctor.port("203.0.113.1", 8600).state == "fault"  # an address of nobody

    async def scenario(place: Place) -> None:
        import asyncio

        number = int(place.url().split(":")[2].split("/")[0])
        ours = await asyncio.to_thread(doctor.port, "127.0.0.1", number)
        assert "a DiffSpeaker server already" in ours.found

    play(scenario, folder)


def test_a_page_without_its_packages_is_noted(tmp_path: Path) -> None:
    def nowhere() -> Path:
        raise FaceError("bad_config", "The page is missing.")

    assert doctor.page(lambda: tmp_path).state == "note"
    assert "three-vrm" in doctor.page(lambda: tmp_path).found
    assert doctor.page(nowhere).state == "fault"


def sounds(devices: list[dict[str, object]]) -> ModuleType:
    return SimpleNamespace(query_devices=lambda: devices)  # type: ignore[return-value]


def test_microphones_are_named_and_none_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    several = [{"name": f"desk {n}", "max_input_channels": 1} for n in range(4)]
    monkeypatch.setitem(sys.modules, "sounddevice", sounds(several))
    assert doctor.microphone().found == "desk 0, desk 1, desk 2 …"
    monkeypatch.setitem(sys.modules, "sounddevice", sounds([{"name": "speaker", "max_input_channels": 0}]))
    assert doctor.microphone().state == "note"


def test_few_open_files_are_noted() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        finding = doctor.files_limit()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert finding.state == "note" and "512" in finding.found and "ulimit" in finding.mend
