"""The container and the service, read as a linter reads them: what they name exists, nothing is left open."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.cli.serve import ServeOptions
from streamer.server.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = (ROOT / "deploy" / "diffspeaker.service").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
VARIABLES = {f"DIFFSPEAKER_{entry.name.upper()}" for entry in fields(ServeOptions)} | {"DIFFSPEAKER_CONFIG"}


def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    found = steps()
    begin = max(place for place, (word, _) in enumerate(found) if word == "FROM")
    return found[begin:]


def test_every_image_has_an_exact_version() -> None:
    images = [rest.split()[0] for word, rest in steps() if word == "FROM"]
    images += [service["image"] for service in COMPOSE["services"].values() if "image" in service]
    assert len(images) >= 5
    for image in images:
        assert re.search(r":v?\d+\.\d+\.\d+", image), image


def test_the_container_is_not_root_and_is_asked_for_its_health() -> None:
    stage = last_stage()
    words = [word for word, _ in stage]
    user = dict(stage)["USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "/healthz" in dict(stage)["HEALTHCHECK"]
    for word, rest in stage:
        if word in ("ENTRYPOINT", "CMD"):
            assert json.loads(rest), "in the form that no shell reads, so that signals arrive"


def test_what_is_copied_exists_and_is_not_left_out() -> None:
    kept = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    ]
    assert not any(word == "ADD" for word, _ in steps())
    for word, rest in steps():
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in kept, source


def test_packages_are_installed_by_hash() -> None:
    for _, rest in steps():
        for command in rest.split("&&"):
            if re.search(r"\bpip install\b", command):
                assert "--require-hashes" in command or "--no-deps" in command, command
    for lock in re.findall(r"serve(?:-gpu)?\.txt", DOCKERFILE):
        assert (ROOT / "requirements" / lock).is_file()


def test_every_variable_is_an_option() -> None:
    texts = [DOCKERFILE, UNIT, (ROOT / "compose.yaml").read_text(), (ROOT / "docs" / "deploy.md").read_text()]
    for text in texts:
        named = set(re.findall(r"DIFFSPEAKER_[A-Z_]+\b", text))
        assert named and named <= VARIABLES, named - VARIABLES


def test_services_are_locked_down_and_listen_on_loopback() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).is_file(), source
    server = COMPOSE["services"]["diffspeaker"]
    assert server["read_only"] is True and ":?" in server["environment"]["DIFFSPEAKER_TOKEN"]


def test_what_is_stopped_has_the_time_to_drain() -> None:
    grace_s = int(COMPOSE["services"]["diffspeaker"]["stop_grace_period"].removesuffix("s"))
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    settings = Settings()
    for seconds in (grace_s, int(timeout)):
        assert seconds > settings.drain_timeout_s + settings.close_timeout_s


def test_a_system_call_that_the_unit_forbids_is_refused_and_kills_nobody() -> None:
    """ONNX Runtime's like to try things that they can do without."""
    assert "SystemCallFilter=~" in UNIT and "SystemCallErrorNumber=EPERM" in UNIT


def test_prometheus_and_grafana_find_each_other() -> None:
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus.yaml").read_text())
    (job,) = scraped["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["diffspeaker:8600"]
    mounted = " ".join(COMPOSE["services"]["prometheus"]["volumes"])
    assert scraped["rule_files"][0] in mounted
    source = yaml.safe_load((ROOT / "deploy" / "grafana" / "datasource.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((ROOT / "deploy" / "grafana" / "dashboards.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] in " ".join(COMPOSE["services"]["grafana"]["volumes"])
    rules = yaml.safe_load((ROOT / "docs" / "observability" / "alerts.yaml").read_text())
    assert all(rule["expr"] for group in rules["groups"] for rule in group["rules"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """With this environment's command in place of the installed one, which it looks for."""
    unit = tmp_path / "diffspeaker.service"
    assert "/opt/diffspeaker/bin/diffspeaker serve" in UNIT
    unit.write_text(UNIT.replace("/opt/diffspeaker/bin/diffspeaker", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
