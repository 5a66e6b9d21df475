"""``python -m benchmarks.experiments.attention CORPUS``: does biased conditional attention help, and when?

The paper gives its attention two beliefs to begin with. Self-attention is biased by how many periods lie
between two frames, and positions repeat every period. In cross-attention a mask lets frame i see the tokens
[style, step] and its own audio only. Plain attention is a transformer decoder's: positions that do not
repeat, on frames and on audio, no bias, no mask. The paper's argument: paired speech and faces are scarce, so
what need not be learnt should not be.

So: the same network with the same parameters and, seed for seed, the same first weights, lessons and noise,
trained on 100, 25 and 5 % of the speech, in segments of 24 frames (what this server denoises) and of 120
(four seconds, a sentence of the paper's data sets). In 24 frames, fewer than a period, the bias is zero, and
the two differ by the mask alone; in 120 a third kind, the mask without the bias, says which of the two
matters. Because plain attention may only be slow to learn, the long segments are learnt again with four
times the training. Measured on voices that no run heard: lip-vertex error and closure AUC after four DDIM
steps from the same noise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.experiments.ledger import Ledger, arguments, run_command
from benchmarks.experiments.small import (
    LONG,
    RULES,
    SMALL,
    Draw,
    Lessons,
    SmallSpeaker,
    default_face,
    draw,
    draw_styles,
    lip_figures,
    read_lessons,
    sample,
    train,
)
from model.measures import Face
from model.network import DenoiserLayer, attend, join_heads, periodic_encoding, split_heads
from model.shape import GRID, Shape

SHARES = (1.0, 0.25, 0.05)
SAMPLER_STEPS = 4
NEVER = 10_000  # a period longer than any segment: positions do not repeat, and the bias is zero


@dataclass(frozen=True)
class Attention:
    """Which of the paper's two beliefs a network has."""

    biased: bool
    masked: bool


KINDS = {
    "biased": Attention(biased=True, masked=True),
    "plain": Attention(biased=False, masked=False),
    "mask only": Attention(biased=False, masked=True),
}
LENGTHS = (GRID.segment_frames, LONG.segment_frames)
PATIENCE = 4  # times the training, one seed


class OpenLayer(DenoiserLayer):
    """A ``DenoiserLayer`` whose frames attend to both tokens and to the audio of every frame.

    ``positions`` (T, d) are added to the audio, without which a frame could not find its own; ``mask``, if it
    is set, is added to the logits, (T, 2 + T).
    """

    def __init__(self, shape: Shape, frames: int) -> None:
        super().__init__(shape)
        self.mask: Tensor | None = None
        self.register_buffer("positions", periodic_encoding(frames, shape.width, NEVER), persistent=False)
        self.positions: Tensor

    def _cross(self, x: Tensor, tokens: Tensor, audio: Tensor) -> Tensor:
        query = split_heads(self.cross_query(self.norm2(x)), self.heads)
        seen = self.cross_key_value(torch.cat([tokens, audio + self.positions], dim=1))
        key, value = (split_heads(part, self.heads) for part in seen.chunk(2, dim=-1))
        x = x + self.cross_out(join_heads(attend(query, key, value, self.mask)))
        return x + self.feed_forward(self.norm3(x))


def own_audio_mask(frames: int) -> Tensor:
    """The paper's mask for dense attention, (T, 2 + T): 0 at both tokens and the own audio, else −∞."""
    mask = torch.full((frames, 2 + frames), -torch.inf)
    mask[:, :2] = 0
    mask[:, 2:].fill_diagonal_(0)
    return mask


def build(kind: str, frames: int, seed: int) -> SmallSpeaker:
    """An untrained network; those of one seed start from the same weights, whatever their kind."""
    torch.manual_seed(seed)
    attention = KINDS[kind]
    layer: Any = DenoiserLayer if attention.masked else partial(OpenLayer, frames=frames)
    return SmallSpeaker(frames, SMALL.period if attention.biased else NEVER, layer)


def parameters(net: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in net.parameters())


def subset(count: int, share: float, seed: int) -> np.ndarray:
    """The windows that a run may learn from: a smaller share lies within a larger one of the same seed."""
    shuffled = np.random.default_rng(seed).permutation(count)
    return np.asarray(shuffled[: max(1, round(share * count))])


def examination(held_out: Lessons) -> Draw:
    """The held-out windows, each in one of the styles, with the noise that every run starts from."""
    random = torch.Generator().manual_seed(20_240)
    everything = np.arange(len(held_out.first))
    return draw(held_out, everything, draw_styles(len(everything), random), random)


def plan(seeds: int, steps: int) -> list[dict[str, Any]]:
    """The identity of every run, the paper's question first."""

    def runs(frames: int, kinds: Sequence[str], count: int, patience: int = 1) -> list[dict[str, Any]]:
        return [
            {"frames": frames, "attention": kind, "share": share, "steps": patience * steps, "seed": seed}
            for seed in range(count)
            for share in SHARES
            for kind in kinds
        ]

    short, long = LENGTHS
    return [
        *runs(long, ("biased", "plain"), seeds),
        *runs(short, ("biased", "plain"), seeds),
        *runs(long, ("mask only",), seeds),
        *runs(long, ("biased", "plain"), 1, PATIENCE),
    ]


def run_one(
    lessons: Lessons, held_out: Lessons, face: Face, batch_frames: int, identity: dict[str, Any]
) -> dict[str, Any]:
    """Trains and measures one network; the lessons are long windows and are cut to the run's segments."""
    frames, seed = identity["frames"], identity["seed"]
    long_windows = subset(len(lessons.first), identity["share"], seed)
    parts = lessons.frames // frames
    chosen = (long_windows[:, None] * parts + np.arange(parts)).ravel()
    title = f"{identity['attention']}, {frames} frames, {100 * identity['share']:g} %, seed {seed}"
    net = build(identity["attention"], frames, seed)
    began = time.process_time()
    net = train(
        *(net, lessons.cut(frames), chosen),
        steps=identity["steps"],
        batch=batch_frames // frames,
        seed=seed,
        title=title,
    )
    spent = time.process_time() - began
    held_out = held_out.cut(frames)
    lesson = examination(held_out)
    motion = sample(net, lesson, SAMPLER_STEPS)
    return {
        **lip_figures(motion, lesson.motion.numpy(), held_out, face),
        "minutes_of_speech": round(len(long_windows) * LONG.segment_frames / LONG.frame_rate_hz / 60, 1),
        "parameters": parameters(net),
        "training_cpu_s": round(spent, 1),
    }


# ---- what the page shows ---------------------------------------------------------------------------------


def over_seeds(result: dict[str, Any], figure: str, **identity: Any) -> tuple[float, float, float]:
    """Mean, least and greatest of a figure over the seeds; KeyError where there is no such run."""
    identity = {"steps": result["config"]["steps"], **identity}
    values = [run[figure] for run in result["runs"] if identity.items() <= run.items()]
    if not values:
        raise KeyError(f"no run with {identity}")
    return float(np.mean(values)), min(values), max(values)


def longer(result: dict[str, Any], figure: str, kind: str, share: float) -> float:
    """A figure of the run of the long segments with ``PATIENCE`` times the training."""
    steps = PATIENCE * result["config"]["steps"]
    identity = {"frames": LONG.segment_frames, "attention": kind, "share": share, "steps": steps}
    return over_seeds(result, figure, **identity)[0]


def lengths(result: dict[str, Any]) -> list[int]:
    """The segment lengths that were compared so far."""
    return [frames for frames in LENGTHS if shown(result, frames)]


def was_patient(result: dict[str, Any]) -> bool:
    """Whether the runs with ``PATIENCE`` times the training are there."""
    return sum(run["steps"] > result["config"]["steps"] for run in result["runs"]) == 2 * len(SHARES)


def shown(result: dict[str, Any], frames: int) -> list[str]:
    """The kinds that the result compares at this length, in the order of ``KINDS``."""
    there = {run["attention"] for run in result["runs"] if run["frames"] == frames}
    return [kind for kind in KINDS if kind in there]


COLOURS = {"biased": "#0b6e99", "plain": "#d1495b", "mask only": "#66a182"}


def plot(result: dict[str, Any]) -> Figure:
    """Lip error and closures against the amount of speech, one column per segment length."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    rows = (
        ("lve_mm2", "lip-vertex error, mm²  (lower is better)"),
        ("closure_auc", "closure AUC  (higher is better)"),
    )
    axes = figure.subplots(2, len(lengths(result)), sharex=True, sharey="row", squeeze=False)
    for column, frames in enumerate(lengths(result)):
        for row, (name, label) in enumerate(rows):
            ax = axes[row, column]
            for kind in shown(result, frames):
                points = []
                for share in SHARES:
                    identity = {"frames": frames, "attention": kind, "share": share}
                    minutes, _, _ = over_seeds(result, "minutes_of_speech", **identity)
                    points.append((minutes, *over_seeds(result, name, **identity)))
                x, mean, low, high = np.array(points).T
                ax.errorbar(
                    x, mean, [mean - low, high - mean], marker="o", capsize=4, color=COLOURS[kind], label=kind
                )
                if frames == LONG.segment_frames and kind != "mask only" and was_patient(result):
                    more = [longer(result, name, kind, share) for share in SHARES]
                    label = f"{kind}, {PATIENCE} times the training"
                    ax.plot(x, more, "x:", color=COLOURS[kind], label=label)
            ax.set_xscale("log")
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
            if column == 0:
                ax.set_ylabel(label)
        axes[0, column].set_title(f"segments of {frames} frames ({frames / LONG.frame_rate_hz:g} s)")
        axes[1, column].set_xlabel("minutes of speech in training")
        ticks = sorted({run["minutes_of_speech"] for run in result["runs"]})
        axes[1, column].set_xticks(ticks, [f"{tick:.0f}" for tick in ticks], minor=False)
        axes[1, column].minorticks_off()
        axes[0, column].legend(frameon=False)
    return figure


def table(result: dict[str, Any]) -> str:
    """Means over seeds with their ranges."""
    lines = ["| frames | attention | speech | LVE, mm² | closure AUC |", "|---|---|---|---|---|"]
    for frames in lengths(result):
        for share in SHARES:
            for kind in shown(result, frames):
                identity = {"frames": frames, "attention": kind, "share": share}
                minutes, _, _ = over_seeds(result, "minutes_of_speech", **identity)
                lve = "{:.2f} ({:.2f}–{:.2f})".format(*over_seeds(result, "lve_mm2", **identity))
                closure = "{:.3f} ({:.3f}–{:.3f})".format(*over_seeds(result, "closure_auc", **identity))
                lines.append(
                    f"| {frames} | {kind} | {100 * share:g} %, {minutes:.0f} min | {lve} | {closure} |"
                )
    if not was_patient(result):
        return "\n".join(lines)
    lines += [
        f"\nWith {PATIENCE} times the training, one seed, {LONG.segment_frames} frames:\n",
        "| attention | speech | LVE, mm² | closure AUC |",
        "|---|---|---|---|",
    ]
    for share in SHARES:
        for kind in ("biased", "plain"):
            lve, closure = (longer(result, name, kind, share) for name in ("lve_mm2", "closure_auc"))
            lines.append(f"| {kind} | {100 * share:g} % | {lve:.2f} | {closure:.3f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = arguments("attention", __doc__)
    parser.add_argument("corpus", type=Path, help="folder of Ogg files and *.jsonl with phone times")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/experiments"),
        help="decoded corpus and features (%(default)s)",
    )
    parser.add_argument("--steps", type=int, default=600, help="optimiser steps of a run (%(default)s)")
    parser.add_argument("--batch-frames", type=int, default=960, help="frames per step (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (%(default)s)")
    parser.add_argument(
        "--windows",
        type=int,
        default=2250,
        help="of four seconds, spread over the corpus (0: all; %(default)s)",
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    config = {
        "steps": options.steps,
        "batch_frames": options.batch_frames,
        "sampler_steps": SAMPLER_STEPS,
        "windows": options.windows,
        "articulation": RULES,
        "width": SMALL.width,
        "layers": SMALL.layers,
    }
    ledger = Ledger(options.json, config)
    wanted = plan(options.seeds, options.steps)
    missing = [identity for identity in wanted if not ledger.find(**identity)]
    if missing:
        face = default_face()
        lessons, held_out = (
            read_lessons(options.corpus, options.cache, h, options.windows) for h in (False, True)
        )
        for identity in tqdm(missing, desc="networks", unit="network", disable=None):
            ledger.record(identity, run_one(lessons, held_out, face, options.batch_frames, identity))
    print(table({"config": ledger.config, "runs": ledger.runs}))
    return 0


if __name__ == "__main__":
    run_command("attention", main)
