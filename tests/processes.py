"""``diffspeaker`` and ``diffspeaker-client`` as processes of their own, as users run them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from diffspeaker_client import connect

from streamer.core.options import SessionOptions
from streamer.engine import offline
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from tests import fakes
from tests.serving import GUARD_S, MONO, everything, motion

_CHUNK = 320

ROOT = Path(__file__).resolve().parents[1]
SERVE = [sys.executable, "-m", "streamer.cli.main", "serve"]
CLIENT = [sys.executable, "-m", "diffspeaker_client"]
_PATH = os.pathsep.join([str(ROOT / "clients" / "python"), str(ROOT)])


@contextlib.contextmanager
def started(
    folder: Path,
    *arguments: str,
    command: str = "serve",
    before: Sequence[str] = (),
    environment: Mapping[str, str] = {},
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A serving process and its address; ``before`` is put before the command, ``environment`` is added."""
    process = subprocess.Popen(
        [*before, *SERVE[:-1], command, "--port", "0", "--bundle", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("DiffSpeaker Live is at http"), line + process.communicate(timeout=GUARD_S)[1]
        yield process, line.split()[4]
    finally:
        process.kill()
        process.communicate()


def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that does not start."""
    return subprocess.run(
        [*SERVE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=GUARD_S, check=False
    )


def stopped(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Waits for the end: the exit code, and what was said."""
    out, err = process.communicate(timeout=GUARD_S)
    return process.returncode, out, err


@dataclass(frozen=True)
class Client:
    """A running ``diffspeaker-client``, its table and its sentences in files."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def said(self) -> str:
        return self.err.read_text()

    async def saying(self, words: str, times: int = 1) -> None:
        """Waits until it has said words so often."""
        while self.said().count(words) < times:
            assert self.process.poll() is None, self.said()
            await asyncio.sleep(0.05)


@contextlib.contextmanager
def client(
    folder: Path, name: str, *arguments: str, before: Sequence[str] = (), out: Path | None = None
) -> Iterator[Client]:
    """A client process; what it prints goes to ``name.out``, or ``out``, and ``name.err`` in a folder."""
    out, err = out or folder / f"{name}.out", folder / f"{name}.err"
    with out.open("wb") as table, err.open("wb") as sentences:
        process = subprocess.Popen(
            [*before, *CLIENT, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": _PATH},
            stdout=table,
            stderr=sentences,
        )
    try:
        yield Client(process, out, err)
    finally:
        process.kill()
        process.wait()


# ---- what it must give ----


def expected(folder: Path, audio: fakes.F32) -> fakes.F32:
    """The frames that the audio must give."""
    bundle = Bundle.load(folder)
    options = SessionOptions.choose(bundle.manifest)
    blocks = offline.animate([audio], bundle.manifest, OnnxBackend(bundle, threads=1), options)
    return np.concatenate([block.values for block in blocks])


def url_of(page: str, name: str) -> str:
    return f"ws{page[4:]}v1/streams/{name}"


async def spoken(url: str, audio: fakes.F32, times_real: float = 1.0) -> fakes.F32:
    """Speaks at a steady pace to the end; the frames that came, each once and in order."""
    async with connect(url, "converse", audio=MONO) as face, asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(everything(face))
        begin = asyncio.get_running_loop().time()
        for start in range(0, len(audio), _CHUNK):
            await asyncio.sleep(begin + start / 16_000 / times_real - asyncio.get_running_loop().time())
            await face.send_audio(audio[start : start + _CHUNK])
        await face.end()
    return motion(listening.result())


def get(page: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(page + path, timeout=GUARD_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(page: str, name: str) -> float:
    (line,) = [line for line in get(page, "metrics")[1].splitlines() if line.startswith(name + " ")]
    return float(line.split()[-1])
