"""``python -m export.weights BUNDLE --out FILE``: a bundle's weights as a checkpoint, to fine-tune from.

The inverse of ``export.graph``, as far as there is one, so that whoever has the bundle needs no checkpoint.
Weights come back rounded to 8 bits, as they were stored. One part is not in the graph: the network that
embeds the diffusion step was folded into its answers at the few steps that the student takes. A new one is
made that gives the same answers there; the steps between are learnt again while fine-tuning.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import msgspec
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
CONVOLUTIONS = {
    "conv1": "ear.conv1",
    "conv2": "ear.conv2",
    "projection": "audio_projection",
    "contacts": "contacts.hidden",
}


def steps_of(model: onnx.ModelProto) -> tuple[int, ...]:
    """The diffusion steps that a graph takes, as its metadata say."""
    facts = {entry.key: entry.value for entry in model.metadata_props}
    return tuple(int(step) for step in re.findall(r"\d+", facts.get("steps", ""))) or STUDENT_STEPS


def read_weights(graph: onnx.GraphProto, net: DiffSpeaker, steps: tuple[int, ...] = STUDENT_STEPS) -> None:
    """Fills the network from a bundle's float32 graph, its weights beside it loaded.

    Raises:
        ValueError: the graph was made of another network.
    """
    arrays = stored(graph)
    folded = {name for name in net.state_dict() if name.startswith("denoiser.step_mlp.")}
    wanted = {name: value for name, value in net.state_dict().items() if name not in folded}
    found = {name: arrays[f"net.{name}"] for name in wanted if f"net.{name}" in arrays}
    products = transposed(graph, arrays)
    found |= {name: value for name, value in products.items() if name in wanted}
    found |= convolutions(products, arrays, wanted)
    tokens = [arrays[n.input[0]] for n in graph.node if n.op_type == "Split" and n.input[0] in arrays]
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    if shapes != {name: value.shape for name, value in found.items()} or len(tokens) != len(steps):
        raise ValueError("it was made of another network than this version's")
    state = {name: torch.from_numpy(value.copy()) for name, value in found.items()}
    net.load_state_dict(state, strict=False)
    embed_steps(net.denoiser, steps, torch.from_numpy(np.stack(tokens)))


def stored(graph: onnx.GraphProto) -> dict[str, F32]:
    """Every stored array in float32 by its name, integers times their scales (``export.variants``)."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    for name in arrays:
        if name.endswith("_int8"):
            stem = name.removesuffix("_int8")
            floats[stem] = floats[name] * floats[stem + "_scale"]
    return floats


def convolutions(
    products: dict[str, F32], arrays: dict[str, F32], wanted: dict[str, Tensor]
) -> dict[str, F32]:
    """The convolutions, which the graph has as products of three neighbours (``export.graph.as_product``)."""
    found = {}
    for product, name in CONVOLUTIONS.items():
        weight, (out, channels, taps) = products.get(f"{product}.weight"), wanted[f"{name}.weight"].shape
        if weight is not None and weight.shape == (out, taps * channels):
            found[f"{name}.weight"] = weight.reshape(out, taps, channels).transpose(0, 2, 1)
            found[f"{name}.bias"] = arrays[f"{product}.bias"]
    return found


def transposed(graph: onnx.GraphProto, arrays: dict[str, F32]) -> dict[str, F32]:
    """The weights that the exporter transposed and renamed, by the name of the bias that is added to their
    product."""
    product = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    found = {}
    for node in graph.node:
        for value, bias in (node.input, node.input[::-1]) if node.op_type == "Add" else ():
            if bias in arrays and bias.endswith(".bias") and product.get(value) in arrays:
                found[bias.removeprefix("net.").removesuffix("bias") + "weight"] = arrays[product[value]].T
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
        graph = onnx.load(model)
        read_weights(graph.graph, net, steps_of(graph))
    except FileNotFoundError:
        print(f"export.weights: {model} is missing: name a bundle's folder", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"export.weights: {model} cannot be turned back: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, options.out)
    training = read_manifest(options.bundle).training
    options.out.with_name("run.json").write_text(json.dumps(msgspec.to_builtins(training), indent=2) + "\n")
    print(f"wrote {options.out}, the weights of {training.hours:g} hours of training")
    return 0


if __name__ == "__main__":
    sys.exit(main())
