"""``python -m benchmarks.experiments.parallel``: the cost of parallel and sequential generation.

One denoiser of the default model's size, with random weights (time does not depend on them), in four uses:

- ``parallel``: the whole length at once, denoised in 2, 4 or 50 steps, as the paper does;
- ``frame by frame, cached``: an autoregressive decoder of the very same layers. A frame sees the frames
  before it and its own audio; keys and values are kept, and those of the audio are made for all at once;
- ``frame by frame``: the same without a cache, as FaceFormer generates: each frame computes all before again;
- ``streaming``: windows of 24 frames in 2 steps at a hop of two frames, each continuing the last, as served.

The audio encoder is left out, because all four need the same. Everything runs in PyTorch on one CPU thread.
What counts is the thread's own CPU time, which is the wall-clock time of an idle core; the wall-clock itself,
which other work on the machine lengthens, stands beside it in the JSON. Medians of ``--repeats``, fewer where
one run takes long. Without a cache, lengths beyond 4 s are summed from a sample of their frames.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.experiments.ledger import Ledger, arguments, run_command
from model.diffusion import SCHEDULES, ddim, few_steps, spaced_steps
from model.network import Denoiser, attend, join_heads, split_heads, step_embedding
from model.shape import CHANNELS, DEFAULT_HOP_FRAMES, GRID, PREFIX_FRAMES, Shape
from streamer.contract.grid import Grid

LENGTHS_S = (1, 2, 4, 10, 30, 60)
METHODS = (
    *("parallel, 2 steps", "parallel, 4 steps", "parallel, 50 steps"),
    *("frame by frame, cached", "frame by frame", "streaming, 2 steps"),
)
ENOUGH_S = 20.0  # one measurement is not repeated beyond so many seconds
SAMPLED_FRAMES = 24  # so many frames stand for all where generation without a cache is long
_WHOLE_FRAMES = 120

Clock = Callable[[], float]


class Decoder:
    """An autoregressive decoder made of a ``Denoiser``'s own layers, with its tokens at step 0.

    Frame i is made from the frame before it; its self-attention sees the tokens and frames 0 … i with the
    paper's bias, its cross-attention the tokens and audio_i. There is no noise and no prefix.
    """

    def __init__(self, net: Denoiser) -> None:
        layers, width = net.shape.layers, net.shape.width
        self.net = net
        with torch.inference_mode():
            style = net.style_embedding(torch.eye(net.shape.styles)[:1]).chunk(layers, dim=-1)
            step = net.step_mlp(step_embedding(torch.tensor([0]), width)).chunk(layers, dim=-1)
            self.tokens = [torch.stack(pair, dim=1) for pair in zip(style, step, strict=True)]
            # What is constant is fused beforehand: the motion's columns of the map, query with key and value.
            self.motion_weight = net.motion_map.weight[:, : net.shape.channels].contiguous()
            self.fused = [
                (
                    torch.cat([layer.self_query.weight, layer.self_key_value.weight]),
                    torch.cat([layer.self_query.bias, layer.self_key_value.bias]),
                )
                for layer in net.layers
            ]

    def again(self, motion: Tensor, audio: Tensor) -> Tensor:
        """All frames from the ones before them, (1, n, C) and audio (1, n, d) -> (1, n, C)."""
        frames = motion.shape[1]
        before = F.pad(motion[:, :-1], (0, 0, 1, 0))
        x = F.linear(before, self.motion_weight, self.net.motion_map.bias) + self.net.encoding[:frames]
        ahead = torch.full((frames, frames), -torch.inf).triu(1)
        bias = self.net.bias[:, :frames, : 2 + frames] + F.pad(ahead, (2, 0))
        for layer, tokens in zip(self.net.layers, self.tokens, strict=True):
            x = layer(x, tokens, audio, bias)
        return self.net.motion_decoder(x)

    @torch.inference_mode()
    def uncached(self, audio: Tensor, count: int) -> Tensor:
        """The first ``count`` frames, each by computing all before it again."""
        motion = torch.zeros(1, 0, self.net.shape.channels)
        for frame in range(count):
            motion = F.pad(motion, (0, 0, 0, 1))
            motion[:, -1] = self.again(motion, audio[:, : frame + 1])[:, -1]
        return motion

    @torch.inference_mode()
    def cached(self, audio: Tensor, count: int) -> Tensor:
        """The same frames; a frame computes itself alone."""
        frames, heads = audio.shape[1], self.net.shape.heads
        size = self.net.shape.width // heads
        memory = []
        for layer, tokens in zip(self.net.layers, self.tokens, strict=True):
            kept = torch.empty(2, 1, heads, 2 + frames, size)
            for kind, part in enumerate(layer.self_key_value(tokens).chunk(2, dim=-1)):
                kept[kind, :, :, :2] = split_heads(part, heads)
            # (2, T, heads, 3, d/heads): each frame's three keys and values, made for all frames at once.
            seen = torch.cat([tokens[0].expand(frames, 2, -1), audio[0][:, None]], dim=1)
            pairs = [split_heads(part, heads) for part in layer.cross_key_value(seen).chunk(2, dim=-1)]
            memory.append((kept, torch.stack(pairs)))
        motion = torch.zeros(1, frames, self.net.shape.channels)
        now = torch.zeros(1, 1, self.net.shape.channels)
        for frame in range(count):
            x = F.linear(now, self.motion_weight, self.net.motion_map.bias) + self.net.encoding[frame]
            bias = self.net.bias[:, frame : frame + 1, : frame + 3]
            for layer, (kept, own), (weight, offset) in zip(self.net.layers, memory, self.fused, strict=True):
                query, key, value = F.linear(layer.norm1(x), weight, offset).view(3, 1, heads, 1, size)
                kept[0, :, :, frame + 2 : frame + 3] = key
                kept[1, :, :, frame + 2 : frame + 3] = value
                past = kept[:, :, :, : frame + 3]
                x = x + layer.self_out(join_heads(attend(query, past[0], past[1], bias)))
                query = split_heads(layer.cross_query(layer.norm2(x)), heads)
                x = x + layer.cross_out(join_heads(attend(query, own[0, frame][None], own[1, frame][None])))
                x = x + layer.feed_forward(layer.norm3(x))
            now = self.net.motion_decoder(x)
            motion[:, frame] = now[:, 0]
        return motion[:, :count]


def make_denoiser(frames: int, shape: Shape) -> Denoiser:
    """A denoiser for a segment of so many frames, the same weights at every length."""
    torch.manual_seed(0)
    grid = Grid(GRID.sample_rate_hz, GRID.frame_rate_hz, GRID.frame_sample(frames), 0, frames)
    net = Denoiser(shape, grid).eval()
    torch.nn.init.normal_(net.motion_decoder.weight, std=0.02)  # an untrained one is all zero
    return net


@torch.inference_mode()
def denoise_whole(net: Denoiser, audio: Tensor, noise: Tensor, steps: int) -> Tensor:
    """The whole length at once by DDIM, (1, T, C)."""
    nothing, style = torch.zeros_like(noise), torch.eye(net.shape.styles)[:1]
    return ddim(
        lambda noisy, step: net(noisy, audio, style, step, nothing, nothing[..., 0]),
        noise,
        spaced_steps(steps),
    )


@torch.inference_mode()
def stream(net: Denoiser, audio: Tensor, noise: Tensor, hops: int) -> Tensor:
    """Windows of the default size, hop after hop, each given the frames before its hop as a clean prefix.

    The newest two frames of a window are its lookahead. Before the beginning there is silence.
    """
    frames, hop = GRID.segment_frames, DEFAULT_HOP_FRAMES
    style = torch.eye(net.shape.styles)[:1]
    place = frames - hop - 2  # where the hop begins in its segment
    pad = (0, 0, place, frames)
    audio, noise = F.pad(audio, pad), F.pad(noise, pad)
    out = torch.zeros(1, place, noise.shape[-1])
    mask = torch.zeros(1, frames)
    mask[:, place - PREFIX_FRAMES : place] = 1
    for index in range(hops):
        window = slice(index * hop, index * hop + frames)
        prefix = F.pad(out[:, -place:], (0, 0, 0, frames - place))
        heard = audio[:, window]

        def denoise(noisy: Tensor, step: Tensor, heard: Tensor = heard, prefix: Tensor = prefix) -> Tensor:
            return net(noisy, heard, style, step, prefix, mask)

        clean = few_steps(denoise, noise[:, window], SCHEDULES[2])
        out = torch.cat([out, clean[:, place : place + hop]], dim=1)
    return out[:, place:]


def repeated(run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Medians of the thread's CPU seconds and of wall-clock seconds, after one run that is not counted."""
    run()
    cpu: list[float] = []
    wall: list[float] = []
    while len(cpu) < repeats and (not wall or sum(wall) < ENOUGH_S):
        began_cpu, began = time.thread_time(), time.perf_counter()
        run()
        cpu.append(time.thread_time() - began_cpu)
        wall.append(time.perf_counter() - began)
    return {"cpu_s": float(np.median(cpu)), "wall_s": float(np.median(wall)), "repeats": len(cpu)}


def summed_over_frames(decoder: Decoder, audio: Tensor, repeats: int) -> dict[str, float]:
    """Generation without a cache, from the cost of some frames: it changes smoothly with their number."""
    count = audio.shape[1]
    chosen = np.unique(np.linspace(1, count, SAMPLED_FRAMES).astype(int))

    def one(frames: int) -> Callable[[], object]:
        motion = torch.zeros(1, frames, decoder.net.shape.channels)
        return torch.inference_mode()(lambda: decoder.again(motion, audio[:, :frames]))

    costs = [repeated(one(int(frames)), repeats) for frames in chosen]
    every = np.arange(1, count + 1)
    total = {
        name: float(np.interp(every, chosen, [c[name] for c in costs]).sum()) for name in ("cpu_s", "wall_s")
    }
    return {**total, "repeats": repeats, "sampled_frames": len(chosen)}


def measure(method: str, seconds: float, shape: Shape, repeats: int) -> dict[str, Any]:
    """Time to make the whole length, and until its first frame exists."""
    frames = round(seconds * GRID.frame_rate_hz)
    random = torch.Generator().manual_seed(0)
    audio = torch.randn(1, frames, shape.width, generator=random)
    noise = torch.randn(1, frames, len(CHANNELS), generator=random)
    kind, _, detail = method.partition(", ")
    if kind == "parallel":
        net, steps = make_denoiser(frames, shape), int(detail.split()[0])
        whole = repeated(lambda: denoise_whole(net, audio, noise, steps), repeats)
        first = whole
    elif kind == "streaming":
        net = make_denoiser(GRID.segment_frames, shape)
        whole = repeated(lambda: stream(net, audio, noise, -(-frames // DEFAULT_HOP_FRAMES)), repeats)
        first = repeated(lambda: stream(net, audio, noise, 1), repeats)
    else:
        decoder = Decoder(make_denoiser(frames, shape))
        make = decoder.cached if detail == "cached" else decoder.uncached
        if detail == "cached" or frames <= _WHOLE_FRAMES:
            whole = repeated(lambda: make(audio, frames), repeats)
        else:
            whole = summed_over_frames(decoder, audio, repeats)
        first = repeated(lambda: make(audio, 1), repeats)
    return {
        **whole,
        "first_frame_cpu_s": first["cpu_s"],
        "frames": frames,
        "load": round(os.getloadavg()[0], 2),
    }


# ---- what the page shows ---------------------------------------------------------------------------------

STYLES_OF_LINE = {
    "parallel, 2 steps": ("#0b6e99", "-"),
    "parallel, 4 steps": ("#0b6e99", "--"),
    "parallel, 50 steps": ("#0b6e99", ":"),
    "frame by frame, cached": ("#d1495b", "-"),
    "frame by frame": ("#d1495b", ":"),
    "streaming, 2 steps": ("#66a182", "-"),
}


def curve(result: dict[str, Any], method: str, figure: str) -> tuple[list[float], list[float]]:
    """Lengths and a figure in seconds, in the order of length."""
    runs = sorted((r for r in result["runs"] if r["method"] == method), key=lambda r: r["seconds"])
    return [r["seconds"] for r in runs], [r[figure] for r in runs]


def plot(result: dict[str, Any]) -> Figure:
    """Time for the whole length and until the first frame, log-log."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    titles = ("all frames", "the first frame, once the sound is there")
    for ax, name, title in zip(axes, ("cpu_s", "first_frame_cpu_s"), titles, strict=True):
        for method, (colour, line) in STYLES_OF_LINE.items():
            ax.loglog(
                *curve(result, method, name), line, color=colour, marker="o", markersize=3.5, label=method
            )
        ax.set_title(title)
        ax.set_xlabel("length, seconds of speech")
        ticks = curve(result, METHODS[0], name)[0]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    lengths = curve(result, METHODS[0], "cpu_s")[0]
    axes[0].plot(lengths, lengths, color="#999999", linewidth=1, label="real time")
    axes[0].set_ylabel("seconds of one core, without the audio encoder")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def _cells(values: list[float]) -> Iterator[str]:
    for value in values:
        yield f"{1000 * value:,.0f}" if value >= 0.0995 else f"{1000 * value:.1f}"


def table(result: dict[str, Any]) -> str:
    """Milliseconds of one core, by length; the last column is the wait for the first frame of the longest."""
    lengths, _ = curve(result, METHODS[0], "cpu_s")
    lines = [
        "| ms for | " + " | ".join(f"{s:g} s" for s in lengths) + f" | first frame of {lengths[-1]:g} s |",
        "|---" * (len(lengths) + 2) + "|",
    ]
    for method in METHODS:
        whole, first = curve(result, method, "cpu_s")[1], curve(result, method, "first_frame_cpu_s")[1]
        lines.append(f"| {method} | " + " | ".join(_cells([*whole, first[-1]])) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = arguments("parallel", __doc__)
    parser.add_argument(
        "--repeats", type=int, default=7, help="runs of each, of which the median (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=LENGTHS_S, help="lengths of speech (1 2 4 10 30 60)"
    )
    parser.add_argument("--width", type=int, default=Shape.width, help="d of the denoiser (%(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    shape = Shape(width=options.width, feed_forward=2 * options.width)
    config = {
        "width": shape.width,
        "feed_forward": shape.feed_forward,
        "layers": shape.layers,
        "heads": shape.heads,
        "parameters": sum(p.numel() for p in Denoiser(shape).parameters()),
        "threads": options.threads,
        "repeats": options.repeats,
        "audio_encoder": "not included",
    }
    ledger = Ledger(options.json, config)
    wanted = [{"method": method, "seconds": float(s)} for s in options.seconds for method in METHODS]
    missing = [identity for identity in wanted if not ledger.find(**identity)]
    for identity in tqdm(missing, desc="measuring", unit="run", disable=None):
        ledger.record(identity, measure(**identity, shape=shape, repeats=options.repeats))
    print(table({"runs": ledger.runs}))
    return 0


if __name__ == "__main__":
    run_command("parallel", main)
