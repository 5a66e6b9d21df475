"""A bundle's graph turned back into a checkpoint: what it computes is what the checkpoint computes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from export.graph import Fused, build_graph, example_inputs
from export.variants import round_weights, write_variants
from export.weights import main, read_weights, steps_of
from model.network import DiffSpeaker
from model.shape import EarShape, Shape

# Wide enough that the exporter folds and renames weights as it does for the real one.
SMALL = Shape(
    ear=EarShape(width=96, heads=3, feed_forward=192, layers=2), width=64, feed_forward=96, layers=2
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own, about itself
def test_a_graph_becomes_the_network_that_it_was_made_of(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = DiffSpeaker(SMALL)
    with torch.no_grad():
        for parameter in net.parameters():  # the exporter stores equal tensors once; trained ones differ
            parameter.add_(0.1 * torch.randn_like(parameter))
    net.mean.uniform_()
    net.std.uniform_(0.05, 0.3)
    round_weights(net)
    fused = Fused(net)
    write_variants(build_graph(fused, {"steps": "999 420"}), tmp_path, [])
    model = onnx.load(tmp_path / "model.onnx")
    assert steps_of(model) == (999, 420)
    graph = model.graph
    again = DiffSpeaker(SMALL)
    read_weights(graph, again)
    kept = [name for name in net.state_dict() if not name.startswith("denoiser.step_mlp.")]
    assert all(torch.equal(net.state_dict()[name], again.state_dict()[name]) for name in kept)
    inputs = example_inputs(5, seed=1)
    with torch.no_grad():
        expected, got = (f(*inputs.values()) for f in (fused, Fused(again)))
    assert expected.std() > 0.05
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="another network"):
        read_weights(graph, DiffSpeaker(Shape(width=64)))


def test_a_folder_without_a_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "weights.safetensors")]) == 2
    assert "model.onnx is missing" in capsys.readouterr().err
