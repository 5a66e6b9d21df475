"""``python -m benchmarks.experiments.liveliness CORPUS``: is lip accuracy paid for with a lifeless face?

Speech decides the lips and leaves the blinks, the gaze and the brows open. A network that hedges gets the
lips right and the rest averaged: lids half shut that never blink. Three knobs of a sampler move along that
trade: how many steps it takes, how strongly the sound guides it (classifier-free: deaf + w (hearing − deaf),
the network having heard nothing in a tenth of its training), and how loud the noise is that it starts from.

Two small networks are trained here that differ in their lessons alone. ``coupled``: idle motion is read off
the diffusion's own noise, as the default model learns it (docs/decisions/0002-blinks-live-in-the-noise.md).
``uncoupled``: idle motion is random for itself, as in recordings of people. Measured on held-out
voices, four seconds at a time, over several draws of the noise:

- ``lve_mm2``, ``closure_auc``: the lips, as in the first experiment;
- ``fdd_mm``: how much stiller the upper face is than in the lessons (``model.measures``; 0 is right);
  ``fdd_abs_mm``, the mean of its size over the windows;
- ``blinks_per_minute``: how often an eyelid goes over 0.6;
- ``upper_diversity_mm``, ``lip_diversity_mm``: mean distance of a vertex between two draws of the noise.

``--checkpoint`` sweeps steps and noise of a default model's weights as well, in its own windows of 24 frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from benchmarks.experiments.ledger import Ledger, arguments, run_command
from benchmarks.experiments.small import (
    F32,
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
from model.diffusion import ddim, spaced_steps
from model.measures import Face, blinks, upper_face_dynamics_mm
from model.network import DiffSpeaker
from model.shape import GRID
from model.speech import build_strip

LESSONS = ("coupled", "uncoupled")
DEAF_SHARE = 0.1
CENTRE = {"steps": 4, "guidance": 1.0, "noise_scale": 1.0}
SWEEPS: dict[str, tuple[float, ...]] = {
    "steps": (1, 2, 4, 8, 16, 50),
    "guidance": (0, 0.5, 1, 1.5, 2, 3),
    "noise_scale": (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5),
}
Sampler = Callable[..., F32]  # (draw, steps, guidance, noise_scale) -> coefficients (N, T, C)


def apart_mm(one: F32, other: F32, basis: F32) -> float:
    """Mean distance of a vertex between two motions (N, T, C); basis (C, V, 3) in mm."""
    pairs = zip(one, other, strict=True)
    return float(np.mean([np.linalg.norm(np.tensordot(a - b, basis, 1), axis=-1).mean() for a, b in pairs]))


def figures(motions: Sequence[F32], draws: Sequence[Draw], lessons: Lessons, face: Face) -> dict[str, float]:
    """The module's figures, means over the draws of the noise; each motion is (N, T, C)."""
    truths = [lesson.motion.numpy() for lesson in draws]
    both = list(zip(motions, truths, strict=True))
    lips = [lip_figures(motion, truth, lessons, face) for motion, truth in both]
    stiller = [upper_face_dynamics_mm(face, t, m) for ms, ts in both for m, t in zip(ms, ts, strict=True)]
    minutes = motions[0].shape[0] * motions[0].shape[1] / LONG.frame_rate_hz / 60
    pairs = list(combinations(motions, 2))
    return {
        **{name: round(float(np.mean([row[name] for row in lips])), 4) for name in lips[0]},
        "fdd_mm": round(float(np.mean(stiller)), 5),
        "fdd_abs_mm": round(float(np.abs(stiller).mean()), 5),
        "blinks_per_minute": round(sum(blinks(m) for ms in motions for m in ms) / minutes / len(motions), 2),
        "upper_diversity_mm": round(float(np.mean([apart_mm(a, b, face.upper) for a, b in pairs])), 4),
        "lip_diversity_mm": round(float(np.mean([apart_mm(a, b, face.lips) for a, b in pairs])), 4),
    }


def make_draws(lessons: Lessons, count: int, coupled: bool) -> list[Draw]:
    """The same windows and styles under ``count`` draws of the noise."""
    everything = np.arange(len(lessons.first))
    style = draw_styles(len(everything), torch.Generator().manual_seed(11))
    return [
        draw(lessons, everything, style, torch.Generator().manual_seed(100 + k), coupled)
        for k in range(count)
    ]


def trained(lesson: str, corpus: Path, cache: Path, steps: int, windows: int) -> SmallSpeaker:
    """The network of these lessons, from the cache where it has been trained before."""
    net = SmallSpeaker(LONG.segment_frames)
    path = cache / f"liveliness-{lesson}-{RULES}-{steps}-{windows}.safetensors"
    if not path.exists():
        lessons = read_lessons(corpus, cache, held_out=False, limit=windows)
        torch.manual_seed(0)
        net = SmallSpeaker(LONG.segment_frames)
        everything = np.arange(len(lessons.first))
        net = train(
            net,
            lessons,
            everything,
            steps=steps,
            batch=8,
            seed=0,
            title=lesson,
            deaf_share=DEAF_SHARE,
            coupled=lesson == "coupled",
        )
        save_file(net.state_dict(), path)
    net.load_state_dict(load_file(path))
    return net.eval()


def checkpoint_sampler(path: Path, corpus: Path, cache: Path, lessons: Lessons) -> Sampler:
    """Samples a default model's weights on windows of 24 frames, heard once; it knows no guidance."""
    net = DiffSpeaker().eval()
    net.load_state_dict(load_file(path))
    audio = build_strip(corpus, cache / "strip", held_out=True).audio
    ends = [GRID.window_end(int(first) + GRID.segment_frames - 1) for first in lessons.first]
    with torch.inference_mode():
        windows = (audio[end - GRID.window_samples : end].astype(np.float32) / 32768 for end in ends)
        heard = torch.cat([net.listen(torch.from_numpy(window)[None]) for window in windows])

    @torch.inference_mode()
    def run(lesson: Draw, steps: int, guidance: float, noise_scale: float) -> F32:
        nothing = torch.zeros_like(lesson.noise)

        def denoise(noisy: Tensor, step: Tensor) -> Tensor:
            return net.denoiser(noisy, heard, lesson.style, step, nothing, nothing[..., 0])

        return (
            net.denormalise(ddim(denoise, noise_scale * lesson.noise, spaced_steps(steps)))
            .clamp(0, 1)
            .numpy()
        )

    return run


def settings(sweeps: Sequence[str]) -> list[dict[str, Any]]:
    """Every setting of these sweeps once; one knob is turned, the others stay at ``CENTRE``."""
    found: list[dict[str, Any]] = []
    for knob in sweeps:
        for value in SWEEPS[knob]:
            setting = {**CENTRE, knob: value}
            if setting not in found:
                found.append(setting)
    return found


# ---- what the page shows ---------------------------------------------------------------------------------

ROWS = (
    ("lve_mm2", "lip-vertex error, mm²"),
    ("fdd_mm", "FDD, mm (0: as lively)"),
    ("blinks_per_minute", "blinks per minute"),
    ("upper_diversity_mm", "diversity above, mm"),
)
COLOURS = {"coupled": "#0b6e99", "uncoupled": "#d1495b"}
TITLES = {"steps": "DDIM steps", "guidance": "guidance w", "noise_scale": "noise scale"}


def find(result: dict[str, Any], **identity: Any) -> dict[str, Any]:
    """The one run with these values; KeyError where there is none."""
    for run in result["runs"]:
        if identity.items() <= run.items():
            return dict(run)
    raise KeyError(f"no run with {identity}")


def swept(result: dict[str, Any], **identity: Any) -> dict[str, Any] | None:
    """``find``, or None where that setting was not run."""
    try:
        return find(result, **identity)
    except KeyError:
        return None


def plot(result: dict[str, Any]) -> Figure:
    """Every figure against every knob."""
    figure = Figure(figsize=(10, 10), layout="constrained")
    axes = figure.subplots(len(ROWS), len(SWEEPS), sharey="row", sharex="col")
    for (name, label), row in zip(ROWS, axes, strict=True):
        for knob, ax in zip(SWEEPS, row, strict=True):
            for model in LESSONS:
                runs = {v: swept(result, model=model, **{**CENTRE, knob: v}) for v in SWEEPS[knob]}
                points = [(v, run[name]) for v, run in runs.items() if run is not None]
                if len(points) > 1:  # a knob that was not turned has the point of its centre alone
                    ax.plot(*zip(*points, strict=True), "o-", markersize=4, color=COLOURS[model], label=model)
            ax.axhline(
                find(result, model="lesson")[name], color="#777777", linestyle="--", label="the lessons"
            )
            if knob == "steps":
                ax.set_xscale("log", base=2)
                ax.set_xticks(SWEEPS[knob], [str(value) for value in SWEEPS[knob]])
                ax.set_ylabel(label)
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
    for knob, ax in zip(SWEEPS, axes[-1], strict=True):
        rest = ", ".join(f"{TITLES[k]} {v:g}" for k, v in CENTRE.items() if k != knob)
        ax.set_xlabel(f"{TITLES[knob]}\n({rest})")
    axes[0, 0].legend(frameon=False)
    return figure


def _row(title: str, run: dict[str, Any]) -> str:
    cells = (
        *(f"{run['lve_mm2']:.2f}", f"{run['closure_auc']:.3f}", f"{run['fdd_mm']:+.3f}"),
        *(
            f"{run['blinks_per_minute']:.1f}",
            f"{run['upper_diversity_mm']:.3f}",
            f"{run['lip_diversity_mm']:.3f}",
        ),
    )
    return f"| {title} | " + " | ".join(cells) + " |"


_HEAD = (
    "| | LVE, mm² | closure AUC | FDD, mm | blinks a minute | diversity above, mm | of the lips, mm |",
    "|---|---|---|---|---|---|---|",
)


def table(result: dict[str, Any]) -> str:
    """One table per knob, both networks; then the default model's, where it was measured."""
    lines = [*_HEAD, _row("the lessons themselves", find(result, model="lesson"))]
    for setting in settings(list(SWEEPS)):
        turned = [k for k in CENTRE if setting[k] != CENTRE[k]]
        title = ", ".join(f"{TITLES[k]} {setting[k]:g}" for k in turned or CENTRE)
        runs = {model: swept(result, model=model, **setting) for model in LESSONS}
        lines += [_row(f"{model}: {title}", run) for model, run in runs.items() if run is not None]
    default = [run for run in result["runs"] if run["model"] == "default"]
    if default:
        lines += ["", "The default model's teacher, in windows of 24 frames without a prefix:", "", *_HEAD]
        lines.append(_row("the lessons themselves", find(result, model="lesson, 24 frames")))
        lines += [_row(f"DDIM steps {r['steps']}, noise scale {r['noise_scale']:g}", r) for r in default]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = arguments("liveliness", __doc__)
    parser.add_argument("corpus", type=Path, help="folder of Ogg files and *.jsonl with phone times")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/experiments"),
        help="corpus, features, networks (%(default)s)",
    )
    parser.add_argument("--steps", type=int, default=1500, help="optimiser steps of a network (%(default)s)")
    parser.add_argument(
        "--windows",
        type=int,
        default=2250,
        help="of four seconds, spread over the corpus (0: all; %(default)s)",
    )
    parser.add_argument("--held-out", type=int, default=100, help="windows to measure on (%(default)s)")
    parser.add_argument("--draws", type=int, default=5, help="draws of the noise (%(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="a default model's weights (.safetensors), swept too")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    config = {
        "steps": options.steps,
        "windows": options.windows,
        "held_out": options.held_out,
        "draws": options.draws,
        "deaf_share": DEAF_SHARE,
        "articulation": RULES,
        "width": SMALL.width,
        "layers": SMALL.layers,
    }
    ledger = Ledger(options.json, config)
    face = default_face()
    every = read_lessons(options.corpus, options.cache, True, options.windows)
    held_out = every.take(options.held_out)

    def sweep(
        model: str, lessons: Lessons, coupled: bool, knobs: Sequence[str], make: Callable[[], Sampler]
    ) -> None:
        missing = [s for s in settings(knobs) if not ledger.find(model=model, **s)]
        if not missing:
            return
        draws, run = make_draws(lessons, options.draws, coupled), make()
        for setting in tqdm(missing, desc=model, unit="setting", disable=None):
            motions = [run(lesson, **setting) for lesson in draws]
            ledger.record({"model": model, **setting}, figures(motions, draws, lessons, face))

    def itself(model: str, lessons: Lessons) -> None:
        if not ledger.find(model=model):
            draws = make_draws(lessons, options.draws, coupled=True)
            ledger.record({"model": model}, figures([d.motion.numpy() for d in draws], draws, lessons, face))

    itself("lesson", held_out)
    for lesson in LESSONS:

        def small(lesson: str = lesson) -> Sampler:
            net = trained(lesson, options.corpus, options.cache, options.steps, options.windows)
            return lambda drawn, **setting: sample(net, drawn, **setting)

        sweep(lesson, held_out, lesson == "coupled", list(SWEEPS), small)
    if options.checkpoint:
        short = every.cut(GRID.segment_frames).take(2 * options.held_out)
        itself("lesson, 24 frames", short)
        path = options.checkpoint
        sweep(
            *("default", short, True, ["steps", "noise_scale"]),
            lambda: checkpoint_sampler(path, options.corpus, options.cache, short),
        )
    print(table({"runs": ledger.runs}))
    return 0


if __name__ == "__main__":
    run_command("liveliness", main)
