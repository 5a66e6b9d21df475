"""The Unity package, compiled and run by Mono: its wire half against the golden vectors, the Python client's
jitter buffer and a real server; its engine half against stand-ins of the engine's types (``tests/unity``).

No editor runs here; what that leaves untried is said in docs/unity.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffspeaker_client.jitter_buffer import JitterBuffer

from streamer.contract.wire import Frames
from tests import fakes
from tests.serving import Place as Running
from tests.serving import place, play

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clients" / "unity"
NEWTONSOFT = Path("/usr/lib/cli/Newtonsoft.Json-5.0/Newtonsoft.Json.dll")
NUNIT = Path("/usr/lib/cli/nunit.framework-2.6.3/nunit.framework.dll")
RATE = 30

missing = [name for name in ("mcs", "mono", "nunit-console") if shutil.which(name) is None]
missing += [str(file) for file in (NEWTONSOFT, NUNIT) if not file.exists()]
needs_mono = pytest.mark.skipif(
    bool(missing) and not os.environ.get("CI"),
    reason="needs Debian's mono-mcs, nunit-console, libnunit-cil-dev and libnewtonsoft-json-cil-dev",
)


@dataclass(frozen=True)
class Built:
    """The package's assemblies."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


def compile_(out: Path, sources: Path, *references: Path, allow: str = "") -> None:
    """One assembly, with every warning an error, in the C# that Unity 2021.3 and Mono both read."""
    command = ["mcs", "-target:library", "-langversion:7", "-warn:4", "-warnaserror+", f"-out:{out}"]
    command += [f"-nowarn:{allow}"] if allow else []
    command += [f"-r:{reference}" for reference in references]
    files = sorted(sources.glob("*.cs")) if sources.is_dir() else [sources]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("unity")
    for library in (NEWTONSOFT, NUNIT):
        shutil.copy(library, folder)
    wire, unity, engine = (
        folder / f"{name}.dll" for name in ("DiffSpeaker.Wire", "DiffSpeaker.Unity", "Engine")
    )
    compile_(wire, PACKAGE / "Runtime/Wire", NEWTONSOFT)  # no engine among its references
    compile_(engine, ROOT / "tests/unity/UnityEngine.cs", allow="414,649")
    compile_(unity, PACKAGE / "Runtime/Unity", wire, engine, allow="649")  # fields that the inspector sets
    compile_(folder / "TalkingFace.dll", PACKAGE / "Samples~/TalkingFace", wire, unity, engine)
    compile_(folder / "Tests.dll", PACKAGE / "Tests/Runtime", wire, NEWTONSOFT, NUNIT)
    compile_(
        folder / "ComponentTests.dll", ROOT / "tests/unity/ComponentTests.cs", wire, unity, engine, NUNIT
    )
    return Built(folder)


async def run_nunit(built: Built, assembly: str, variables: dict[str, str]) -> dict[str, str]:
    """Runs an assembly's tests; their results by name. Fails with what the runner said if one fails."""
    results = built / f"{assembly}.xml"
    process = await asyncio.create_subprocess_exec(
        *("nunit-console", "-nologo", "-noshadow", "-nodots", f"-xml={results}", f"{assembly}.dll"),
        cwd=built.folder,
        env={**os.environ, **{f"DIFFSPEAKER_{name}": value for name, value in variables.items()}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said.decode(errors="replace")
    return {case.attrib["name"]: case.attrib["result"] for case in ET.parse(results).iter("test-case")}


# ---- the wire half ----


def trace(name: str, seed: int, jitter_s: float, outage: tuple[float, float] | None = None) -> dict[str, Any]:
    """What the Python client shows on a made-up network: messages and pictures in the order of time."""
    chance = random.Random(seed)
    arrivals: list[tuple[float, dict[str, Any]]] = []
    last_s = 0.0
    for epoch, begins_s, messages in ((0, 50.0, 150), (1, 60.5, 100)):
        for i in range(messages):
            at_s = begins_s + i / 15 + chance.random() * jitter_s
            if outage and outage[0] < at_s < outage[1]:
                at_s = outage[1]  # what was sent meanwhile comes at once
            last_s = max(last_s, at_s)
            if chance.random() > 0.03:
                arrivals.append((last_s, {"now_s": last_s, "first": 2 * i, "count": 2, "epoch": epoch}))
    happenings = arrivals + [(s, {"now_s": s}) for s in np.arange(49.9, 67.5, 1 / 60).tolist()]
    happenings.sort(key=lambda one: one[0])
    buffer = JitterBuffer(1, RATE)
    for now_s, happening in happenings:
        if "first" in happening:
            first, count = happening["first"], happening["count"]
            values = (10.0 * np.arange(first, first + count) / RATE).astype(np.float32)[:, None]
            message = Frames(
                values, "coefficients", "f32", 0, happening["epoch"], 0, first, first / RATE, 100.0
            )
            buffer.push(message, now_s)
        else:
            pts_s = buffer.playout(now_s)
            face = buffer.at(pts_s)
            happening["is_shown"] = face is not None
            if face is not None:
                happening |= {"pts_s": pts_s, "value": float(face[0])}
    return {
        "name": name,
        "happenings": [happening for _, happening in happenings],
        "dropped": buffer.dropped,
        "late": buffer.late,
        "received": buffer.received,
    }


@needs_mono
def test_the_wire_half_reads_writes_and_refuses_what_every_codec_does(built: Built, tmp_path: Path) -> None:
    traces = tmp_path / "traces.json"
    networks = [
        trace("a calm network", 1, 0.005),
        trace("a jittery network", 2, 0.12),
        trace("an outage of three seconds", 3, 0.02, (53.0, 56.0)),
    ]
    assert all(one["received"] > 400 for one in networks)
    traces.write_text(json.dumps(networks))
    vectors = ROOT / "tests" / "vectors" / "wire"
    variables = {"VECTORS": str(vectors), "TRACES": str(traces)}
    results = asyncio.run(run_nunit(built, "Tests", variables))
    assert set(results.values()) == {"Success"}
    expected = {f"trace: {one['name']}" for one in networks}
    for file in ("audio", "client", "frames", "passthrough", "server", "refused"):
        expected |= {f"{file}: {one['name']}" for one in json.loads((vectors / f"{file}.json").read_text())}
    ran = {name.removeprefix("DiffSpeaker.Tests.WireTests.") for name in results}
    ran |= {name.removeprefix("DiffSpeaker.Tests.FaceTests.") for name in results}
    assert expected <= ran, expected - ran


# ---- the connection and the components ----


@needs_mono
def test_the_components_and_the_connection_work_with_a_real_server(
    built: Built, folder: Path, tmp_path: Path
) -> None:
    audio = fakes.speech(2)
    (tmp_path / "audio.f32").write_bytes(audio.tobytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        later_port = free.getsockname()[1]

    async def scenario(running: Running) -> None:
        expected = running.offline(audio)
        (tmp_path / "expected.f32").write_bytes(expected.astype(np.float32).tobytes())
        variables = {
            "SERVER": running.address.stream("x").rsplit("/v1/", 1)[0],
            "AUDIO": str(tmp_path / "audio.f32"),
            "EXPECTED": str(tmp_path / "expected.f32"),
            "JAW": str(list(running.bundle.manifest.motion.channels).index("jawOpen")),
            "LATER": f"ws://127.0.0.1:{later_port}",
            "ALONE": str(tmp_path / "alone"),
        }
        tests = asyncio.create_task(run_nunit(built, "ComponentTests", variables))
        while not (tmp_path / "alone").exists() and not tests.done():
            await asyncio.sleep(0.02)
        async with place(folder, port=later_port):
            results = await tests
        assert set(results.values()) == {"Success"}
        assert len(results) == 10

    play(scenario, folder, guard_s=240.0)


# ---- the package's files ----


def test_every_file_of_the_package_has_its_meta_file() -> None:
    script = PACKAGE / "Tools~" / "write_meta.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_has_the_version_of_the_project_and_names_its_assemblies() -> None:
    package = json.loads((PACKAGE / "package.json").read_text("utf-8"))
    assert f'version = "{package["version"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    for sample in package["samples"]:
        assert (PACKAGE / sample["path"]).is_dir()
    definitions = [json.loads(file.read_text("utf-8")) for file in PACKAGE.rglob("*.asmdef")]
    names = {definition["name"] for definition in definitions}
    foreign = {"UnityEngine.TestRunner", "glTFast"}
    assert {name for one in definitions for name in one["references"]} <= names | foreign
    assert [one["name"] for one in definitions if one.get("noEngineReferences")] == ["DiffSpeaker.Wire"]


def test_the_samples_scene_names_its_script() -> None:
    scene = (PACKAGE / "Samples~/TalkingFace/TalkingFace.unity").read_text("utf-8")
    meta = (PACKAGE / "Samples~/TalkingFace/TalkingFace.cs.meta").read_text("utf-8")
    guid = next(line.split()[1] for line in meta.splitlines() if line.startswith("guid:"))
    assert f"guid: {guid}, type: 3" in scene
    metas = [file.read_text("utf-8") for file in PACKAGE.rglob("*.meta")]
    guids = [next(line for line in text.splitlines() if line.startswith("guid:")) for text in metas]
    assert len(set(guids)) == len(guids) > 15
