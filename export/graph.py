"""The fused graph: one window of audio in, one segment of coefficients out.

Ear, projection and every denoise step are unrolled into one graph with a dynamic batch and nothing else
dynamic. What does not depend on the window (the step tokens, the positions, the biases) is folded into
constants. Large weights are stored as float16 and cast back once when the server loads them: half the file,
the same float32 arithmetic. So that PyTorch and the graph compute with the same numbers, ``rounded`` rounds
the network's weights first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from model.diffusion import ALPHA_BAR, STUDENT_STEPS
from model.network import DiffSpeaker, step_embedding
from model.shape import CHANNELS, GRID, STYLE_SCALES, STYLES

INPUTS = ("audio", "noise", "prefix", "prefix_mask", "style")
OUTPUT = "motion"
OPSET = 20
_SMALL = 4096  # values; below this a tensor stays float32


def rounded(net: DiffSpeaker) -> DiffSpeaker:
    """The network with its large weights rounded to float16's grid, still float32."""
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.numel() > _SMALL:
                parameter.copy_(parameter.half().float())
    return net


class Fused(nn.Module):
    """audio (B, N), noise, prefix (B, T, C), mask (B, T), style (B, S) -> motion (B, T, C) in [0, 1]."""

    def __init__(self, net: DiffSpeaker, steps: tuple[int, ...] = STUDENT_STEPS) -> None:
        super().__init__()
        self.net = net
        self.eval()
        self.levels = [float(ALPHA_BAR[step]) for step in steps]
        with torch.no_grad():
            embedding = step_embedding(torch.tensor(steps), net.shape.width)
            tokens = net.denoiser.step_mlp(embedding)
        self.register_buffer("step_tokens", tokens, persistent=False)
        self.step_tokens: Tensor

    def forward(
        self, audio: Tensor, noise: Tensor, prefix: Tensor, prefix_mask: Tensor, style: Tensor
    ) -> Tensor:
        """See the class; the sampler is ``model.diffusion.few_steps``."""
        net, denoiser = self.net, self.net.denoiser
        heard = net.listen(audio)
        mask = prefix_mask[..., None]
        given = torch.cat([net.normalise(prefix) * mask, mask], dim=-1)
        layers = len(denoiser.layers)
        style_tokens = denoiser.style_embedding(style).chunk(layers, dim=-1)
        noisy = noise
        clean = noise
        for index, level in enumerate(self.levels):
            if index:
                noisy = level**0.5 * clean + (1 - level) ** 0.5 * noise
            x = denoiser.motion_map(torch.cat([noisy, given], dim=-1)) + denoiser.encoding
            step_tokens = self.step_tokens[index].chunk(layers)
            for layer, style_token, step_token in zip(
                denoiser.layers, style_tokens, step_tokens, strict=True
            ):
                x = layer(
                    x,
                    torch.stack([style_token, step_token.expand_as(style_token)], dim=1),
                    heard,
                    denoiser.bias,
                )
            clean = denoiser.motion_decoder(x)
        return net.denormalise(clean).clamp(0, 1)


def example_inputs(batch: int, seed: int) -> dict[str, Tensor]:
    """Random inputs of the graph's shapes: audio like quiet noise, half of the batch with a prefix."""
    generator = torch.Generator().manual_seed(seed)
    frames, channels = GRID.segment_frames, len(CHANNELS)
    mask = torch.zeros(batch, frames)
    mask[::2, 12:16] = 1
    style = torch.zeros(batch, len(STYLES) + len(STYLE_SCALES))
    style[torch.arange(batch), torch.arange(batch) % len(STYLES)] = 1
    style[:, len(STYLES) :] = torch.rand(batch, len(STYLE_SCALES), generator=generator) - 0.5
    return {
        "audio": 0.1 * torch.randn(batch, GRID.window_samples, generator=generator),
        "noise": torch.randn(batch, frames, channels, generator=generator),
        "prefix": torch.rand(batch, frames, channels, generator=generator),
        "prefix_mask": mask,
        "style": style,
    }


def write_graph(
    fused: nn.Module, path: Path, metadata: dict[str, str], example: dict[str, Tensor] | None = None
) -> None:
    """Exports, checks and stores the graph; ``metadata`` travels in the file.

    ``example`` names the inputs and gives a batch of two; the default model's where it is None.
    """
    example = example_inputs(2, 0) if example is None else example
    batch = torch.export.Dim("batch", min=1, max=256)
    with torch.no_grad():
        program = torch.onnx.export(
            fused,
            tuple(example.values()),
            input_names=list(example),
            output_names=[OUTPUT],
            dynamic_shapes=tuple({0: batch} for _ in example),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    halve_weights(graph)
    del graph.metadata_props[:]
    for key, value in sorted(metadata.items()):
        graph.metadata_props.add(key=key, value=value)
    forget_sources(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def forget_sources(graph: onnx.GraphProto) -> None:
    """Drops the source locations of the exporting machine, which are nobody's business, loops' bodies too."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                forget_sources(attribute.g)
    for value in (*graph.value_info, *graph.input, *graph.output):
        del value.metadata_props[:]
    del graph.metadata_props[:]


def halve_weights(graph: onnx.ModelProto) -> None:
    """Stores every large initialiser that float16 holds exactly as float16, cast back when it is loaded."""
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) <= _SMALL:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue  # a table, not a rounded weight: the spectrum's basis, the positions
        tensor.CopyFrom(numpy_helper.from_array(half, name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*casts, *nodes])
