"""``python -m export.weights BUNDLE --out FILE``: a bundle's weights as a checkpoint, to fine-tune from.

The inverse of ``export.graph``, as far as there is one, so that whoever has the bundle needs no checkpoint.
Weights come back rounded to float16, as they were stored. One part is not in the graph: the network that
embeds the diffusion step was folded into its answers at the few steps that the student takes. A new one is
made that gives the same answers there; the steps between are learnt again while fine-tuning.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from model.diffusion import STUDENT_STEPS
from model.network import Denoiser, DiffSpeaker, step_embedding
from streamer.contract.manifest import read_manifest

F32 = npt.NDArray[np.float32]


def read_weights(graph: onnx.GraphProto, net: DiffSpeaker, steps: tuple[int, ...] = STUDENT_STEPS) -> None:
    """Fills the network from a graph that ``export.graph.write_graph`` made of one like it.

    Raises:
        ValueError: the graph was made of another network.
    """
    arrays = {
        tensor.name.removesuffix("_half"): numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in graph.initializer
    }
    folded = {name for name in net.state_dict() if name.startswith("denoiser.step_mlp.")}
    wanted = {name: value for name, value in net.state_dict().items() if name not in folded}
    found = {name: arrays[f"net.{name}"] for name in wanted if f"net.{name}" in arrays}
    found |= {name: value for name, value in transposed(graph, arrays).items() if name in wanted}
    tokens = [arrays[n.input[0]] for n in graph.node if n.op_type == "Split" and n.input[0] in arrays]
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    if shapes != {name: value.shape for name, value in found.items()} or len(tokens) != len(steps):
        raise ValueError("it was made of another network than this version's")
    state = {name: torch.from_numpy(value.copy()) for name, value in found.items()}
    net.load_state_dict(state, strict=False)
    embed_steps(net.denoiser, steps, torch.from_numpy(np.stack(tokens)))


def transposed(graph: onnx.GraphProto, arrays: dict[str, F32]) -> dict[str, F32]:
    """The weights that the exporter transposed and renamed, by the name of the bias that is added to their
    product."""
    product = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    found = {}
    for node in graph.node:
        for value, bias in (node.input, node.input[::-1]) if node.op_type == "Add" else ():
            if bias.startswith("net.") and bias.endswith(".bias") and product.get(value) in arrays:
                found[bias[len("net.") : -len("bias")] + "weight"] = arrays[product[value]].T
    return found


@torch.no_grad()
def embed_steps(denoiser: Denoiser, steps: tuple[int, ...], tokens: Tensor) -> None:
    """Makes the step's network answer these steps with these tokens, (len(steps), d · layers): its first
    layer stays, its last is the least-squares solution of least norm around the tokens' mean."""
    last = denoiser.step_mlp[-1]
    hidden = denoiser.step_mlp[:-1](step_embedding(torch.tensor(steps), denoiser.shape.width))
    middle = hidden.mean(0)
    solution = torch.linalg.pinv((hidden - middle).double()) @ (tokens - tokens.mean(0)).double()
    assert isinstance(last, nn.Linear)
    last.weight.copy_(solution.T)
    last.bias.copy_(tokens.mean(0) - last.weight @ middle)


def main(argv: list[str] | None = None) -> int:
    """Writes the checkpoint; returns the exit code."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m export.weights", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path, help="the bundle's folder")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint, *.safetensors")
    options = parser.parse_args(argv)
    model = options.bundle / "model.onnx"
    torch.manual_seed(0)  # of the one layer that is made anew
    net = DiffSpeaker()
    try:
        read_weights(onnx.load(model).graph, net)
    except FileNotFoundError:
        print(f"export.weights: {model} is missing: name a bundle's folder", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"export.weights: {model} cannot be turned back: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, options.out)
    hours = read_manifest(options.bundle).training.hours
    options.out.with_name("run.json").write_text(json.dumps({"hours": hours}) + "\n")
    print(f"wrote {options.out}, the weights of {hours:g} hours of training")
    return 0


if __name__ == "__main__":
    sys.exit(main())
