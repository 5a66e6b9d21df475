"""The fused graph: one window of audio in, one segment of coefficients out.

Ear, projection and every denoise step are unrolled into one graph with a dynamic batch and nothing else
dynamic. What does not depend on the window (the step tokens, the positions, the biases) is folded into
constants. A convolution over three neighbours is written as one matrix product of the three side by side, so
that every learnt weight is the second factor of a product and all of them can be stored and computed alike
(``export.variants``). The spectrum is half as long as its definition: see ``half_spectrum``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from model.diffusion import ALPHA_BAR, STUDENT_STEPS
from model.network import MEL_HOP, MEL_WINDOW, DiffSpeaker, step_embedding
from model.shape import CHANNELS, GRID, STYLE_SCALES, STYLES

INPUTS = ("audio", "noise", "prefix", "prefix_mask", "style")
OUTPUT = "motion"
OPSET = 20
_SMALL = 4096  # values; below this a tensor stays float32


def half_spectrum() -> tuple[Tensor, Tensor]:
    """The windowed DFT of 400 real samples, by halves: cosines (201, 201) and sines (199, 201).

    The Hann window and the cosines are even around sample 200, the sines odd, so samples n and 400 − n are
    added (or subtracted) first and every product counts for two.
    """
    half = MEL_WINDOW // 2
    n, k = torch.arange(half + 1.0, dtype=torch.float64), torch.arange(half + 1.0, dtype=torch.float64)
    window = torch.hann_window(MEL_WINDOW, dtype=torch.float64)[: half + 1, None]
    angle = 2 * math.pi / MEL_WINDOW * torch.outer(n, k)
    return (window * angle.cos()).float(), (window * angle.sin())[1:half].float()


def beside(x: Tensor, stride: int = 1) -> Tensor:
    """(B, T, C) -> (B, T / stride, 3C): each frame with its two neighbours, zeros beyond the ends."""
    padded = F.pad(x, (0, 0, 1, 1))
    frames = x.shape[1]
    return torch.cat([padded[:, k : k + frames : stride] for k in range(3)], dim=-1)


def as_product(convolution: nn.Conv1d) -> nn.Linear:
    """A convolution over three neighbours as the product that ``beside`` feeds."""
    out, channels, taps = convolution.weight.shape
    product = nn.Linear(taps * channels, out)
    with torch.no_grad():
        product.weight.copy_(convolution.weight.permute(0, 2, 1).reshape(out, -1))
        assert convolution.bias is not None
        product.bias.copy_(convolution.bias)
    return product


class Fused(nn.Module):
    """audio (B, N), noise, prefix (B, T, C), mask (B, T), style (B, S) -> motion (B, T, C) in [0, 1]."""

    def __init__(self, net: DiffSpeaker, steps: tuple[int, ...] = STUDENT_STEPS) -> None:
        super().__init__()
        self.net = net
        self.levels = [float(ALPHA_BAR[step]) for step in steps]
        self.conv1, self.conv2 = as_product(net.ear.conv1), as_product(net.ear.conv2)
        self.projection = as_product(net.audio_projection)
        self.contacts = as_product(net.contacts.hidden)
        with torch.no_grad():
            embedding = step_embedding(torch.tensor(steps), net.shape.width)
            tokens = net.denoiser.step_mlp(embedding)
        self.register_buffer("step_tokens", tokens, persistent=False)
        self.step_tokens: Tensor
        cosines, sines = half_spectrum()
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self.cosines: Tensor
        self.sines: Tensor
        self.eval()

    def forward(
        self, audio: Tensor, noise: Tensor, prefix: Tensor, prefix_mask: Tensor, style: Tensor
    ) -> Tensor:
        """See the class; the sampler is ``model.diffusion.few_steps``."""
        net, denoiser = self.net, self.net.denoiser
        heard, contacts = self.listen(audio)
        mask = prefix_mask[..., None]
        given = torch.cat([net.normalise(prefix) * mask, mask], dim=-1)
        layers = len(denoiser.layers)
        style_tokens = denoiser.style_embedding(style).chunk(layers, dim=-1)
        noise = net.quieted(noise)
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
        return net.coefficients(clean, contacts)

    def listen(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """``DiffSpeaker.listen`` and its ``contact_logits``, with every convolution as a product."""
        ear = self.net.ear
        x = F.gelu(self.conv1(beside(self.log_mel(audio))))
        x = F.gelu(self.conv2(beside(x, stride=2))) + ear.position
        for layer in ear.layers:
            x = layer(x)
        neighbours = beside(x)
        contacts = self.net.contacts.out(F.gelu(self.contacts(neighbours)))
        return self.net.interpolation @ self.projection(neighbours), self.net.interpolation @ contacts

    def log_mel(self, audio: Tensor) -> Tensor:
        """``LogMel`` as (B, N / 160, bins)."""
        half, hop = MEL_WINDOW // 2, MEL_HOP
        padded = F.pad(audio[:, None], (half, half), mode="reflect")[:, 0]
        count = audio.shape[1] // hop
        blocks = padded[:, : (count + 2) * hop].reshape(-1, count + 2, hop)
        frames = torch.cat([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:, : MEL_WINDOW - 2 * hop]], dim=-1)
        first, middle = frames[..., :1], frames[..., half : half + 1]
        rise, fall = frames[..., 1:half], frames[..., half + 1 :].flip(-1)
        real = torch.cat([first, rise + fall, middle], dim=-1) @ self.cosines
        imaginary = (rise - fall) @ self.sines
        mel = (real.square() + imaginary.square()) @ self.net.ear.mel.filters
        log = mel.clamp(min=1e-10).log10()
        floor = log.amax(dim=(1, 2), keepdim=True).clamp(min=0.5) - 8
        return (torch.maximum(log, floor) + 4) / 4


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


def build_graph(
    fused: nn.Module, metadata: dict[str, str], example: dict[str, Tensor] | None = None
) -> onnx.ModelProto:
    """The checked graph in memory, float32; ``metadata`` travels in it.

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
    del graph.metadata_props[:]
    for key, value in sorted(metadata.items()):
        graph.metadata_props.add(key=key, value=value)
    forget_sources(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def write_graph(
    fused: nn.Module, path: Path, metadata: dict[str, str], example: dict[str, Tensor] | None = None
) -> None:
    """Builds, checks and stores a graph as one file, its large weights as float16 where that is exact."""
    graph = build_graph(fused, metadata, example)
    halve_weights(graph)
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
