"""One file of weights, several graphs: what is stored, what each computes, what parity finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from export import parity
from export.graph import INPUTS, OUTPUT, Fused, build_graph, example_inputs, half_spectrum
from export.parity import agree, defined, fresh_inputs
from export.variants import FILES, WEIGHTS, on_grid, round_weights, scale_of, write_variants
from model.network import DiffSpeaker, LogMel
from model.shape import CHANNELS, GRID, EarShape, Shape

SMALL = Shape(
    ear=EarShape(width=96, heads=3, feed_forward=192, layers=1), width=64, feed_forward=96, layers=2
)
STEPS = (999, 420)


def small_net(seed: int = 0) -> DiffSpeaker:
    """A network that says something."""
    torch.manual_seed(seed)
    net = DiffSpeaker(SMALL)
    torch.nn.init.normal_(net.denoiser.motion_decoder.weight, std=0.3)
    net.std.fill_(0.2)
    round_weights(net)
    return net.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[DiffSpeaker, dict[str, Path]]:
    """A small network and its three graphs."""
    folder = tmp_path_factory.mktemp("bundle")
    net = small_net()
    windows = [{name: value.numpy() for name, value in fresh_inputs(8, seed).items()} for seed in (1, 2)]
    with pytest.warns():  # the exporter's own, about itself
        graph = build_graph(Fused(net, STEPS), {"bundle": "test"})
    write_variants(graph, folder, windows)
    return net, {name: folder / file for name, file in FILES.items()}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    (motion,) = session(path).run([OUTPUT], {name: value.numpy() for name, value in inputs.items()})
    return np.asarray(motion)


# ---- the grid ----


def test_a_rounded_weight_is_stored_without_loss_and_is_within_half_a_step() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(120, 80)
    before = layer.weight.detach().clone()
    round_weights(layer)
    weight = layer.weight.detach().numpy().T.copy()
    grid = on_grid(weight)
    assert grid is not None
    levels, scale = grid
    assert levels.dtype == np.int8 and np.abs(levels).max(axis=0).min() == 127
    assert np.array_equal(levels * scale, weight)
    assert (np.abs(weight.T - before.numpy()) <= scale[:, None] / 2 * 1.001).all()


def test_a_scale_has_16_bits_and_reaches_the_largest_weight() -> None:
    largest = np.random.default_rng(0).uniform(1e-6, 10, 1000).astype(np.float32)
    scale = scale_of(largest)
    assert (127 * scale.astype(np.float64) >= largest).all()
    assert (127 * scale.astype(np.float64) <= largest * (1 + 2**-14)).all()
    mantissa, _ = np.frexp(scale.astype(np.float64))
    assert np.array_equal(mantissa * 2**16, np.rint(mantissa * 2**16))
    assert scale_of(np.zeros(1, np.float32)) == 1


def test_what_lies_on_no_grid_is_left_alone() -> None:
    assert on_grid(np.random.default_rng(0).standard_normal((80, 80)).astype(np.float32)) is None


# ---- the graphs ----


def test_the_half_spectrum_is_the_whole_one() -> None:
    torch.manual_seed(0)
    audio = torch.randn(2, GRID.window_samples) * torch.tensor([[0.3], [0.001]])
    fused = Fused(small_net())
    with torch.no_grad():
        torch.testing.assert_close(fused.log_mel(audio), LogMel(80)(audio).transpose(1, 2), atol=1e-4, rtol=0)
    cosines, sines = half_spectrum()
    assert cosines.shape == (201, 201) and sines.shape == (199, 201)


def test_hearing_by_products_is_hearing_by_convolutions() -> None:
    net = small_net()
    audio = fresh_inputs(4, seed=3)["audio"]
    torch.nn.init.normal_(net.contacts.out.weight)
    with torch.no_grad():
        heard, contacts = Fused(net).listen(audio)
        torch.testing.assert_close(heard, net.listen(audio), atol=1e-4, rtol=0)
        torch.testing.assert_close(contacts, net.contact_logits(net.ear(audio)), atol=1e-4, rtol=0)


def test_every_variant_answers_as_the_network_is_defined(
    exported: tuple[DiffSpeaker, dict[str, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    net, graphs = exported
    assert agree(net, STEPS, graphs, seed=5)
    assert capsys.readouterr().out.count(": fine") == len(graphs)
    inputs = fresh_inputs(3, seed=6)
    assert run(graphs["fp32"], inputs).shape == (3, GRID.segment_frames, len(CHANNELS))
    assert defined(net, STEPS, inputs).std() > 0.05, "the network says something"


def test_products_of_int8_cannot_overflow_16_bits(exported: tuple[DiffSpeaker, dict[str, Path]]) -> None:
    graph = onnx.load(exported[1]["int8"])
    quantised = [n.output[0] for n in graph.graph.node if n.op_type == "QuantizeLinear"]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in quantised)
    windows = {name: value.numpy() for name, value in fresh_inputs(8, 1).items()}  # the scales knew these
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    entering = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    ).run(quantised, windows)
    assert all(levels.dtype == np.uint8 for levels in entering)
    assert 2 * max(int(levels.max()) for levels in entering) * 127 < 2**15
    assert np.median([np.ptp(levels) for levels in entering]) > 120, "7 bits are used"


def test_another_network_does_not_agree(exported: tuple[DiffSpeaker, dict[str, Path]]) -> None:
    _, graphs = exported
    assert not agree(small_net(seed=1), STEPS, graphs, seed=5)
    assert not agree(exported[0], (999,), {"fp32": graphs["fp32"]}, seed=5)


@pytest.mark.parametrize("variant", FILES)
def test_a_windows_answer_does_not_hang_on_its_batch_bit_for_bit(
    exported: tuple[DiffSpeaker, dict[str, Path]], variant: str
) -> None:
    path = exported[1][variant]
    inputs = fresh_inputs(5, seed=7)
    together = run(path, inputs)
    for row in range(5):
        alone = run(path, {name: value[row : row + 1] for name, value in inputs.items()})
        assert np.array_equal(alone[0], together[row])


def test_the_variants_share_their_weights_and_int8_multiplies_integers(
    exported: tuple[DiffSpeaker, dict[str, Path]],
) -> None:
    net, graphs = exported
    size = (graphs["fp32"].parent / WEIGHTS).stat().st_size
    layers = [
        layer.weight.numel()
        for name, layer in net.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv1d) and "step_mlp" not in name
    ]
    learnt = sum(size for size in layers if size > 4096)
    tables = 4 * (201 * 201 + 199 * 201 + 201 * 80 + 50 * 96)
    assert learnt <= size < learnt + tables + 50_000
    for name, path in graphs.items():
        graph = onnx.load(path, load_external_data=False)
        assert {p.key: p.value for p in graph.metadata_props} == {"bundle": "test", "variant": name}
        assert [i.name for i in graph.graph.input] == list(INPUTS)
        assert all(i.type.tensor_type.elem_type == TensorProto.FLOAT for i in graph.graph.input)
    int8 = onnx.load(graphs["int8"], load_external_data=False).graph
    fed_by = {output: node.op_type for node in int8.node for output in node.output}
    products = [node for node in int8.node if node.op_type == "MatMul"]
    integer = [n for n in products if fed_by.get(n.input[1]) == "DequantizeLinear"]
    assert len(integer) > 20
    assert all(fed_by[n.input[0]] == "DequantizeLinear" for n in integer)


def test_without_speech_there_is_no_int8_and_an_old_one_goes(tmp_path: Path) -> None:
    (tmp_path / FILES["int8"]).write_bytes(b"old")
    values = np.random.default_rng(0).standard_normal((GRID.window_samples, 4)).astype(np.float32)
    f32 = TensorProto.FLOAT
    levels = np.rint(values * 20).clip(-127, 127)
    levels[0] = 127
    weight = (levels * np.float32(2**-8)).astype(np.float32)
    graph = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["audio", "w"], [OUTPUT], name="product")],
            "tiny",
            [helper.make_tensor_value_info("audio", f32, ["B", GRID.window_samples])],
            [helper.make_tensor_value_info(OUTPUT, f32, ["B", 4])],
            initializer=[onnx.numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    assert set(write_variants(graph, tmp_path, [])) == {"fp16"}
    assert not (tmp_path / FILES["int8"]).exists()
    audio = np.ones((1, GRID.window_samples), np.float32)
    (got,) = session(tmp_path / FILES["fp32"]).run([OUTPUT], {"audio": audio})
    np.testing.assert_allclose(got, audio @ weight, rtol=1e-5)


# ---- the command ----


def test_the_bundle_that_ships_agrees_with_pytorch(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count(": fine") == 3 and "--seed 1 repeats them" in out


def test_the_command_ends_with_1_where_a_graph_is_too_far_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "int8", parity.Bound(1.0, 1e-9))
    assert parity.main(["--seed", "1"]) == 1
    assert "int8: off by" in capsys.readouterr().out


def test_example_inputs_repeat_with_their_seed() -> None:
    one, again = (example_inputs(2, 4)["audio"] for _ in range(2))
    assert torch.equal(one, again)
