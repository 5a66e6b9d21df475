"""The wheel as somebody else gets it: built, installed into a clean environment, run from another folder."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Runs inside the clean environment: starts the server, loads the page, speaks, and counts what comes back.
VISITOR = r"""
import asyncio, importlib.util, re, subprocess, sys, urllib.request
from pathlib import Path
import numpy as np
from diffspeaker_client import connect
from streamer.contract.wire import AudioFormat, Ended, Frames

assert importlib.util.find_spec("torch") is None and importlib.util.find_spec("model") is None
command = Path(sys.executable).with_name("diffspeaker")
server = subprocess.Popen([command, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
try:
    page = re.search(r"http://\S+", server.stdout.readline())[0]
    three = "node_modules/three/build/three.module.js"
    for path in ("", "src/main.js", three, "avatar.glb", "sample.wav", "readyz"):
        with urllib.request.urlopen(page + path) as answer:
            assert answer.status == 200 and len(answer.read()), path

    async def speak():
        url = page.replace("http", "ws", 1) + "v1/streams/visitor"
        async with connect(url, "converse", audio=AudioFormat("s16", 16000, 1)) as face:
            await face.send_audio(np.zeros(16000, np.int16))
            await face.end()
            count = 0
            async for event in face:
                if isinstance(event, Frames):
                    count += len(event.values)
                elif isinstance(event, Ended):
                    print("frames", count, "of", event.frames)

    asyncio.run(speak())
finally:
    server.terminate()
    assert server.wait(30) == 0
"""


@pytest.mark.slow
def test_the_wheel_serves_from_a_clean_environment_elsewhere(tmp_path: Path) -> None:
    dist, elsewhere, environment = (tmp_path / name for name in ("dist", "elsewhere", "environment"))
    elsewhere.mkdir()
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", dist, ROOT], check=True, capture_output=True
    )
    (wheel,) = dist.glob("*.whl")
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", f"{wheel}[cpu]"], check=True, capture_output=True
    )
    visit = subprocess.run(
        [python, "-I", "-c", VISITOR], cwd=elsewhere, capture_output=True, text=True, timeout=300
    )
    assert visit.returncode == 0, visit.stdout + visit.stderr
    assert re.search(r"frames 30 of 30", visit.stdout)
