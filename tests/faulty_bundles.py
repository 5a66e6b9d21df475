"""Bundles whose graph really fails, in the real runtime, on a sound at full scale and on nothing else.

``raises``: an index out of its bounds. ``not a number``: what its name says, for that row. ``hangs``: a loop
that would take days. ``slow`` takes a while for every window, whatever it hears.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from streamer.contract.manifest import read_manifest, sha256, write_manifest
from tests import fakes

Fault = Literal["raises", "not a number", "hangs", "slow"]
LOUD = 1.0  # the sample that triggers
_FOREVER, _A_WHILE = 1 << 50, 30_000  # turns of a loop


def write(folder: Path, fault: Fault, *, only: str | None = None) -> Path:
    """A bundle with the fault in its graph, or in the one variant ``only``, which is made beside it."""
    fakes.write_bundle(folder, variants=() if only is None else (only,))
    manifest = read_manifest(folder)
    file = "model.onnx" if only is None else f"model.{only}.onnx"
    _spoil(folder / file, fault)
    manifest.files[file] = sha256(folder / file)
    write_manifest(manifest, folder)
    return folder


def with_fault(audio: fakes.F32, at: int) -> fakes.F32:
    """The audio with the sample that triggers."""
    audio = audio.copy()
    audio[at : at + 8] = LOUD
    return audio


def _spoil(path: Path, fault: Fault) -> None:
    model = onnx.load(path)
    graph = model.graph
    level = next(node for node in graph.node if node.output[0] == "level")
    level.output[0] = "level as it should be"
    place = list(graph.node).index(level) + 1
    constant = onnx.numpy_helper.from_array
    graph.initializer.extend(
        [
            constant(np.array(0.99, np.float32), "loudest allowed"),
            constant(np.array([[np.nan]], np.float32), "nan"),
            constant(np.array([[0]], np.float32), "nothing"),
            constant(np.array(1000 if fault == "raises" else _FOREVER, np.int64), "much"),
            constant(np.array(_A_WHILE, np.int64), "a while"),
        ]
    )
    nodes = [
        helper.make_node("ReduceMax", ["loud", "one"], ["loudest"], keepdims=1),  # (B, 1)
        helper.make_node("Greater", ["loudest", "loudest allowed"], ["is loud"]),
        helper.make_node("Cast", ["is loud"], ["is loud as a number"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["is loud as a number"], ["any"], keepdims=0),  # ()
        helper.make_node("Mul", ["any", "much"], ["too much"]),
    ]
    if fault == "not a number":
        nodes.append(helper.make_node("Where", ["is loud", "nan", "nothing"], ["fault"]))
    elif fault == "raises":
        nodes.append(helper.make_node("Gather", ["nothing", "too much"], ["fault"]))
    else:
        turns = "too much"
        if fault == "slow":
            nodes.append(helper.make_node("Max", ["any", "a while"], ["turns"]))
            turns = "turns"
        nodes.append(helper.make_node("Loop", [turns, "", "nothing"], ["fault"], body=_idle_turn()))
    nodes.append(helper.make_node("Add", ["level as it should be", "fault"], ["level"]))
    for number, node in enumerate(nodes):
        graph.node.insert(place + number, node)
    onnx.save(model, path)


def _idle_turn() -> onnx.GraphProto:
    info = helper.make_tensor_value_info
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go on"], ["go on again"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "turn",
        [
            info("number", TensorProto.INT64, []),
            info("go on", TensorProto.BOOL, []),
            info("before", TensorProto.FLOAT, [1, 1]),
        ],
        [info("go on again", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, [1, 1])],
    )
