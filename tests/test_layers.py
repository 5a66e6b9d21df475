"""The layers: who may import whom, read from the source of every file. The picture of the house, enforced."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each room: the project's modules it may import besides its own, and the packages from outside.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "streamer/contract": (set(), {"numpy", "msgspec"}),
    "streamer/core": ({"streamer.contract"}, {"numpy", "soxr"}),
    # `av` and `PIL` draw and film the face and `ray` asks other machines, for whoever installed the extras.
    "streamer/engine": (
        {"streamer.contract", "streamer.core"},
        {"numpy", "onnxruntime", "soundfile", "av", "PIL", "ray"},
    ),
    "streamer/server": (
        {"streamer.contract", "streamer.core", "streamer.engine"},
        {
            "numpy",
            "msgspec",
            "websockets",
            "uvloop",
            "sounddevice",
            "jwt",
            "prometheus_client",
            "opentelemetry",
        },
    ),
    "streamer/cli": (
        {"streamer.contract", "streamer.core", "streamer.engine", "streamer.server"},
        {"numpy", "msgspec", "tqdm"},
    ),
    "model": (
        {"streamer.contract"},
        {"numpy", "torch", "transformers", "soundfile", "soxr", "safetensors", "scipy", "tqdm"}
        | {"av", "matplotlib", "PIL", "pocketsphinx", "onnx", "onnxruntime", "espeakng_loader", "hibari"}
        | {"faster_whisper"},
    ),
    "export": (
        {"model", "streamer.contract", "streamer.engine"},
        {"numpy", "torch", "onnx", "onnxruntime", "onnxscript", "transformers", "msgspec", "soundfile"}
        | {"safetensors", "scipy", "PIL", "pygltflib", "tqdm"},
    ),
    "clients/python": (
        {"streamer.contract", "diffspeaker_client"},
        {"numpy", "msgspec", "websockets", "soundfile", "sounddevice", "pythonosc", "tqdm"},
    ),
}
# Training knows nothing of the server. Two of its commands look at what ships, and so may run it: the picture
# a person judges, and the figures of the model card.
LOOKERS = {"model/preview.py", "model/evaluate.py"}
OURS = {"streamer", "model", "export", "tests", "benchmarks", "diffspeaker_client"}

# The core and the contract are pure: no clock, no threads, no sockets, no event loop. Only the contract reads
# files, because a manifest is one.
IMPURE = {"asyncio", "threading", "time", "socket", "selectors", "subprocess", "multiprocessing", "logging"}
IMPURE |= {"concurrent", "queue", "random", "datetime", "os", "io", "sys", "tempfile", "shutil"}


def room_of(path):
    name = path.relative_to(ROOT).as_posix()
    return max((room for room in ROOMS if name.startswith(room + "/")), key=len, default=None)


def sources():
    files = []
    for folder in ("streamer", "model", "export", "clients/python"):
        files += sorted((ROOT / folder).rglob("*.py"))
    return [path for path in files if "node_modules" not in path.parts]


def imports_of(path):
    """Every module that a file imports anywhere, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module is not None
            yield node.module, node.lineno
            # ``from streamer import server`` names a room as well.
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def within(module, prefixes):
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_its_room_may(path):
    room = room_of(path)
    if room is None:
        assert path.relative_to(ROOT).as_posix() == "streamer/__init__.py", "a file outside every room"
        assert {module for module, _ in imports_of(path)} <= {"os"}, "it keeps ONNX Runtime silent, no more"
        return
    ours, theirs = ROOMS[room]
    if path.relative_to(ROOT).as_posix() in LOOKERS:
        ours = ours | {"streamer.core", "streamer.engine"}
    own = room.replace("/", ".")
    for module, line in imports_of(path):
        top = module.split(".")[0]
        place = f"{path.relative_to(ROOT)}:{line} imports {module}"
        if top in OURS:
            is_parent = any(allowed.startswith(module + ".") for allowed in {own, *ours})
            assert is_parent or within(module, {own, *ours}), place
        elif top not in sys.stdlib_module_names:
            assert top in theirs, place


@pytest.mark.parametrize("room", ["streamer/contract", "streamer/core"])
def test_the_core_and_the_contract_know_no_clock_no_thread_and_no_socket(room):
    for path in sorted((ROOT / room).rglob("*.py")):
        for module, line in imports_of(path):
            assert module.split(".")[0] not in IMPURE, f"{path.name}:{line} imports {module}"


def test_only_the_server_knows_the_event_loop():
    """And the pool's replica, which is called on Ray's."""
    for path in sources():
        if path.name != "replica.py" and room_of(path) in (
            "streamer/contract",
            "streamer/core",
            "streamer/engine",
        ):
            for module, line in imports_of(path):
                assert module.split(".")[0] != "asyncio", f"{path.name}:{line}"


def test_no_file_is_named_after_a_package_it_could_hide():
    packages = set().union(*(theirs for _, theirs in ROOMS.values()))
    for path in sources():
        assert path.stem not in packages, path


def test_the_engine_starts_without_its_runtime_being_imported():
    """`diffspeaker --help` and the server's modules load on a machine without ONNX Runtime."""
    for path in sources():
        if room_of(path) and room_of(path).startswith("streamer/"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = [alias.name for alias in node.names]
                    assert "onnxruntime" not in (getattr(node, "module", None), *names), path
