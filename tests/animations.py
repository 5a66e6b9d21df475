"""What the tests of animation files stand on: a bundle with a face, made-up frames, a reader of GLBs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from streamer.contract.manifest import Rig, read_manifest, sha256, write_manifest
from streamer.core.crossfader import FrameBlock
from streamer.engine.animation import glb
from streamer.engine.bundle import DEFAULT_BUNDLE
from tests import fakes

F32 = npt.NDArray[np.float32]

WEB = Path(__file__).parents[1] / "clients" / "web"
KINDS = ("csv", "livelink", "npz", "glb", "vrma", "perfectsync", "mp4", "sheet", "png")
DRAWN = ("mp4", "sheet", "png")
NAMES = {
    "livelink": "a.livelink.csv",
    "perfectsync": "a.perfectsync.vrma",
    "sheet": "a.png",
    "png": "pictures",
}


def write_bundle(
    folder: Path, *, avatar: bytes | None = (DEFAULT_BUNDLE / "avatar.glb").read_bytes()
) -> Path:
    """The fakes' bundle with the face that ships, with another one, or with none."""
    fakes.write_bundle(folder)
    manifest = read_manifest(folder)
    files = dict(manifest.files)
    rig: Rig = manifest.rig
    if avatar is None:
        rig = msgspec.structs.replace(rig, avatar=None)
        del files["avatar.glb"]
    else:
        (folder / "avatar.glb").write_bytes(avatar)
        files["avatar.glb"] = sha256(folder / "avatar.glb")
    write_manifest(msgspec.structs.replace(manifest, rig=rig, files=files), folder)
    return folder


def name_of(kind: str) -> str:
    """A name that the format may have."""
    return NAMES.get(kind, f"a.{kind}")


def motion_of(frames: int, seed: int = 0) -> F32:
    """Coefficients (frames, 52), no two alike."""
    return np.random.default_rng(seed).random((frames, len(fakes.CHANNELS)), np.float32)


def blocks_of(motion: F32, at_once: int = 2) -> Iterator[FrameBlock]:
    """The motion as an engine gives it."""
    for first in range(0, len(motion), at_once):
        yield FrameBlock(0, first, first / 30, motion[first : first + at_once])


def endless(frames: int, at_once: int = 2) -> Iterator[FrameBlock]:
    """A long motion that is nowhere whole in memory."""
    random = np.random.default_rng(0)
    for first in range(0, frames, at_once):
        yield FrameBlock(0, first, first / 30, random.random((at_once, len(fakes.CHANNELS)), np.float32))


class Gltf:
    """A GLB that was written, and its accessors' values."""

    def __init__(self, path: Path) -> None:
        self.json, self.binary = glb.parse(path.read_bytes())

    def rows(self, index: int) -> npt.NDArray[Any]:
        accessor = self.json["accessors"][index]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        dtype = np.dtype({glb.FLOAT: "<f4", glb.UNSIGNED_SHORT: "<u2"}[accessor["componentType"]])
        view = self.json["bufferViews"][accessor["bufferView"]]
        count = accessor["count"] * width
        assert view["byteLength"] == count * dtype.itemsize
        values = np.frombuffer(self.binary, dtype, count, view["byteOffset"]).reshape(-1, width)
        return values / np.float32(65_535) if accessor.get("normalized") else values


def khronos_report(path: Path) -> dict[str, Any]:
    """What Khronos's validator says of a GLB; skips where it is not installed, which CI must have."""
    missing = None
    if shutil.which("node") is None:
        missing = "node is not installed"
    elif not (WEB / "node_modules" / "gltf-validator").is_dir():
        missing = "clients/web needs `npm install`"
    if missing is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    script = (
        "require('gltf-validator').validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[1])))"
        ".then((report) => console.log(JSON.stringify(report)))"
    )
    run = subprocess.run(
        ["node", "-e", script, str(path.resolve())], cwd=WEB, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    report: dict[str, Any] = msgspec.json.decode(run.stdout)
    return report
