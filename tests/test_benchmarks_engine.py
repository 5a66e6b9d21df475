"""The engine's table: what is counted, what is derived, and that each command runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import charts, engine, gpu
from benchmarks.engine import Row, figures, peak_graph, peak_per_s
from benchmarks.graph_cost import count
from benchmarks.provenance import committed, machine_slug
from streamer.engine.bundle import Bundle
from streamer.engine.providers import CPU, CUDA
from tests import fakes

F32 = TensorProto.FLOAT


def graph(path: Path, nodes: list[onnx.NodeProto], out: list[object], **stored: np.ndarray) -> Path:
    """A graph of one input ``x`` (B, 5, 8)."""
    made = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("x", F32, ["B", 5, 8])],
        [helper.make_tensor_value_info("y", F32, out)],
        initializer=[numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_product_costs_two_operations_for_each_multiplication_and_its_weights_once_a_batch(
    tmp_path: Path,
) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    path = graph(tmp_path / "g.onnx", nodes, ["B", 5, 3], w=np.zeros((8, 3), np.float32))
    cost = count(path, "fp32")
    assert cost.operations == 2 * 5 * 8 * 3
    assert (cost.weight_bytes, cost.activation_bytes) == (4 * 8 * 3, 4 * (5 * 8 + 5 * 3))
    assert cost.bytes_per_window(4) == cost.activation_bytes + cost.weight_bytes / 4
    assert count(path, "fp32", batch=6) == cost
    assert count(path, "int8").weight_bytes == 8 * 3


def test_a_weight_that_is_scaled_first_is_a_weight_and_an_einsum_counts_its_indices(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["wf"], to=F32),
        helper.make_node("Mul", ["wf", "s"], ["ws"]),
        helper.make_node("MatMul", ["x", "ws"], ["z"], name="product"),
        helper.make_node("Einsum", ["z", "z"], ["y"], equation="btc,bsc->bts", name="scores"),
    ]
    stored = {"w": np.zeros((8, 3), np.int8), "s": np.ones(3, np.float32)}
    cost = count(graph(tmp_path / "g.onnx", nodes, ["B", 5, 5], **stored), "fp32")
    assert cost.operations == 2 * (5 * 8 * 3 + 5 * 5 * 3)
    assert cost.weight_bytes == 4 * 8 * 3


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_every_variant_of_the_bundle_that_ships_does_the_same_work(variant: str) -> None:
    variants = Bundle.load().variants
    cost, reference = count(variants[variant], variant), count(variants["fp32"], "fp32")
    assert cost.operations == reference.operations > 5e8
    assert cost.weight_bytes <= reference.weight_bytes


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_the_peak_is_a_real_product_in_the_variants_numbers(variant: str) -> None:
    onnx.checker.check_model(peak_graph(variant, 64), full_check=True)
    assert peak_per_s(variant, CPU, 1, 64, rounds=1) > 0


def test_streams_are_what_batches_in_time_serve() -> None:
    row = Row(CPU, "int8", 8, [20.0] * 100)
    found = figures(row, operations=10**9, bytes_per_window=10**7, peak=4e11, hop_ms=66.7)
    assert found["streams"] == int(8 * 66.7 / 20)
    assert (found["ms_per_window"], found["share_of_peak"]) == (2.5, 1.0)
    assert found["operations_per_byte"] == 100
    late = figures(Row(CPU, "int8", 8, [20.0] * 90 + [40.0] * 10), 10**9, 10**7, 4e11, 66.7)
    assert late["streams"] == 0, "one batch in ten is too late"


def test_the_command_times_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PEAK_SIZE", 64)
    monkeypatch.setattr(engine, "BATCHES_CPU", (1, 3))
    path = tmp_path / "engine-here.json"
    assert engine.main(["--rounds", "1", "--variants", "int8", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert [(row["variant"], row["batch"]) for row in result["rows"]] == [("int8", 1), ("int8", 3)]
    assert all(row["ms_per_window"] > 0 and row["share_of_peak"] > 0 for row in result["rows"])
    assert result["mega_operations_per_window"]["int8"] > 500
    assert "ms per window" in capsys.readouterr().out


# ---- the GPU ----


def test_without_a_gpu_the_command_says_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: [])
    assert gpu.main([]) == 2
    assert 'pip install "diffspeaker-live[gpu]"' in capsys.readouterr().err


def test_a_gpu_that_does_not_open_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamer.engine import backend

    if CUDA in backend.available_providers():
        pytest.skip("this machine's CUDA may work")
    monkeypatch.setattr(backend, "available_providers", lambda: [CUDA, CPU])
    bundle = Bundle.load(fakes.write_bundle(tmp_path / "bundle"))
    with pytest.warns(UserWarning, match="CUDA"):
        good, reasons = gpu.opening(bundle, [CUDA])
    assert good == [] and set(reasons) == {"cuda"}


def test_each_provider_is_timed_with_the_variants_that_suit_it() -> None:
    bundle = Bundle.load()
    assert engine.suiting(bundle, None, CPU) == ["fp32", "int8"]
    assert engine.suiting(bundle, None, CUDA) == ["fp32", "fp16"]
    assert engine.suiting(bundle, "int8", CUDA) == ["int8"]


@pytest.mark.gpu
def test_a_gpu_is_measured_whole(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    assert gpu.main(["--rounds", "3", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["streams"] > 0 and result["rows"]
    assert all(apart < 0.05 for apart in result["difference"].values())


# ---- the pictures ----


def test_the_pictures_are_drawn_from_the_results(tmp_path: Path) -> None:
    machine = {"machine": {"processor": "Abacus", "cores": 2, "system": "Wood"}, "commit": "abc"}
    rows = [
        {"provider": "cpu", "variant": v, "batch": b, "ms_per_window": 8 / b}
        for v in ("a", "b")
        for b in (1, 2)
    ]
    levels = [{"streams": n, "p50_ms": n, "p95_ms": 2 * n, "p99_ms": 3 * n} for n in (1, 2)]
    drawn = charts.engine({"rows": rows, **machine})
    assert [line.get_ydata().tolist() for line in drawn.axes[0].lines] == [[8, 4], [8, 4]]
    assert "Abacus, 2 cores, Wood; commit abc" in drawn.axes[0].get_title(loc="left")
    drawn = charts.capacity({"rows": levels, "deadline_ms": 116.7, **machine})
    assert len(drawn.axes[0].lines) == 4
    (tmp_path / "capacity-abacus.json").write_text(json.dumps({"rows": levels}))
    assert list(committed("capacity", tmp_path)) == ["abacus"]


def test_a_machine_has_a_name_for_files() -> None:
    assert set(machine_slug()) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert machine_slug().endswith("-cores")
