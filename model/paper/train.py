"""Trains the paper's network and measures it: ``python -m model.train configs/vocaset.toml``.

One clip is one step, as everywhere in this field. Rules of a run:

- Everything random in step n hangs on the seed and n alone (order of clips, noise, dropout, the audio
encoder's
  masking), so a run that was stopped and went on gives the weights of one that was not.
- ``OUT/last.safetensors`` are the newest weights, ``OUT/best.safetensors`` those with the least LVE on the
  validation split; ``OUT/last.resume`` is what it takes to go on. TensorBoard logs lie in ``OUT/log``.
- Validation and test sample as the published figures were sampled: 50 steps, the published sampler, the
moving
  average where the configuration has one.
- When the epochs or the minutes are over, the best weights are tested, and ``OUT/metrics.json`` puts the
result
  beside what was published. The same command with more epochs or minutes goes on.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from transformers import AutoModel

from model.diffusion import published_steps
from model.options import as_table, option, required
from model.paper.checkpoint import read_checkpoint, write_checkpoint
from model.paper.evaluate import SAMPLERS, measure_clips, seed_all, table
from model.paper.losses import denoising_loss
from model.paper.metrics import PUBLISHED, VertexSets, known, mean_measures, read_vertex_sets
from model.paper.network import PaperDiffSpeaker, load_audio_encoder
from model.paper.recordings import EDITIONS, Clip, Clips, open_recordings
from model.paper.shape import SHAPES, PaperShape

SAVE_EVERY_S = 600


@dataclass(frozen=True)
class Options:
    """Trains the paper's network on VOCASET or BIWI, and tests it beside the published figures."""

    system: str = option("paper", "which system is trained", choices=("paper",))
    recordings: str = required("the data set, and with it the network's sizes", choices=tuple(EDITIONS))
    folder: Path = required("where the data set lies, in the official or FaceFormer's layout", metavar="DIR")
    audio_encoder: Path = required(
        "folder of a wav2vec2 or HuBERT base model for transformers", metavar="DIR"
    )
    download: str | None = option(
        None, "name on the Hugging Face hub to fetch into audio_encoder, if that folder is missing"
    )
    out: Path = option(Path("runs/paper"), "checkpoints, logs and results", metavar="DIR")

    lip_vertices: Path = required("file with the numbers of the lips' vertices, for LVE", metavar="FILE")
    upper_face_vertices: Path | None = option(None, "the same for the upper face, for FDD", metavar="FILE")
    lip_gap_vertices: Path | None = option(
        None, "pairs of vertices, upper lip and lower lip, for MTM", metavar="FILE"
    )

    epochs: int = option(100, "times that every training clip is seen", minimum=0)
    budget_minutes: float | None = option(
        None, "ends training sooner; counts what earlier calls spent", unit="min", minimum=0
    )
    learning_rate: float = option(1e-4, "of AdamW, constant", minimum=0)
    weight_decay: float = option(0.01, "of AdamW", minimum=0)
    gradient_clip: float = option(0.0, "greatest norm of the gradient, 0 for no limit", minimum=0)
    average: float = option(0.0, "decay of a moving average of the weights, 0 for none", minimum=0, maximum=1)
    half_precision: bool = option(True, "the audio encoder in bfloat16 on a GPU")
    seed: int = option(0, "of everything random", minimum=0)
    device: str = option("auto", "where it runs", choices=("auto", "cpu", "cuda"))
    threads: int = option(1, "CPU threads", minimum=1)

    validate_every: int = option(5, "how often the validation split is measured", unit="epochs", minimum=1)
    sampler: str = option("ddim_legacy", "sampler of validation and test", choices=tuple(SAMPLERS))
    sampler_steps: int = option(50, "denoise steps of validation and test", minimum=1, maximum=1000)

    vertices: int | None = option(None, "vertices of a face, if not the data set's", minimum=1)
    width: int | None = option(None, "d, if not the paper's", minimum=2)
    feed_forward: int | None = option(None, "FF, if not the paper's", minimum=1)
    layers: int | None = option(None, "denoiser layers, if not the paper's", minimum=1)
    heads: int | None = option(None, "attention heads, if not the paper's", minimum=1)

    @property
    def shape(self) -> PaperShape:
        """The network's sizes: the paper's, but for those that are given."""
        names = ("vertices", "width", "feed_forward", "layers", "heads")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(SHAPES[self.recordings], **given)

    def measure(
        self, net: PaperDiffSpeaker, clips: Clips, sets: VertexSets, split: str
    ) -> dict[str, dict[str, float]]:
        """The measures of every clip, sampled as these options say."""
        steps = published_steps(self.sampler_steps)
        return measure_clips(net, clips, sets, SAMPLERS[self.sampler], steps, self.seed, split)


@dataclass
class Progress:
    """How far a run is: clips seen, seconds spent on them, the least validation LVE so far."""

    step: int = 0
    spent_s: float = 0.0
    best_lve: float = math.inf


class Run:
    """A run's state: the network, its average, the optimiser, the progress, and the folder it lives in."""

    def __init__(self, options: Options, net: PaperDiffSpeaker, device: torch.device) -> None:
        self.options, self.device, self.progress = options, device, Progress()
        self.net = net.to(device).train()
        self.average = deepcopy(net).eval() if options.average else None
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            trained, lr=options.learning_rate, weight_decay=options.weight_decay
        )

    @property
    def result(self) -> PaperDiffSpeaker:
        """The weights that are measured and kept."""
        return self.net if self.average is None else self.average

    def learn(self, clip: Clip) -> float:
        """One step on one clip; returns its loss."""
        seed_all(self.options.seed, self.progress.step)
        audio = torch.from_numpy(clip.audio)[None].to(self.device)
        offsets = torch.from_numpy(clip.vertices - clip.template)[None].to(self.device)
        style = torch.tensor([clip.style], device=self.device)
        half = self.options.half_precision and self.device.type == "cuda"
        loss = denoising_loss(self.net, audio, offsets, style, half)
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss of {clip.name} in step {self.progress.step} is not a number: go on with a lower "
                "learning_rate or with --no-half-precision."
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.options.gradient_clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.options.gradient_clip)
        self.optimiser.step()
        if self.average is not None:
            with torch.no_grad():
                for mean, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
                    mean.lerp_(now, 1 - self.options.average)
        self.progress.step += 1
        return loss.item()

    def save(self) -> None:
        """Writes the newest weights, and beside them what it takes to go on."""
        write_checkpoint(self.result, self.options.out / "last.safetensors", self.progress.step)
        state = {
            "shape": asdict(self.options.shape),
            "net": self.net.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
        }
        part = self.options.out / "last.resume.part"
        torch.save(state, part)
        part.replace(self.options.out / "last.resume")

    def resume(self) -> None:
        """Goes on from ``save``, where there is something to go on from."""
        path = self.options.out / "last.resume"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["shape"] != asdict(self.options.shape):
            raise ValueError(
                f"{self.options.out} holds a run of another shape: give another folder with --out."
            )
        self.net.load_state_dict(state["net"])
        if self.average is not None:
            self.average.load_state_dict(state["average"] or state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:
            group["lr"], group["weight_decay"] = self.options.learning_rate, self.options.weight_decay
        self.progress = Progress(**state["progress"])


def run(options: Options) -> dict[str, Any]:
    """Trains until the epochs or the minutes are over, then tests; returns what ``metrics.json`` holds.

    Raises:
        FileNotFoundError, ValueError: something that it needs is missing or wrong, in one sentence.
        KeyboardInterrupt: after saving; the same command goes on.
    """
    torch.set_num_threads(options.threads)
    shape, edition = options.shape, EDITIONS[options.recordings]
    train, validation, test = (
        open_recordings(edition, options.folder, split, shape.vertices)
        for split in ("train", "validation", "test")
    )
    sets = read_vertex_sets(
        options.lip_vertices, options.upper_face_vertices, options.lip_gap_vertices, shape.vertices
    )
    device = device_of(options.device)
    state = Run(options, build(options), device)
    options.out.mkdir(parents=True, exist_ok=True)
    state.resume()
    with SummaryWriter(str(options.out / "log")) as log:
        learn_until_over(state, train, validation, sets, log)
    best = read_checkpoint(options.out / "best.safetensors").to(state.device)
    clips = options.measure(best, test, sets, "test")
    figures = mean_measures(list(clips.values()))
    cpu = f"{options.threads} CPU threads, {platform.machine()}"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    result: dict[str, Any] = {
        "recordings": edition.name,
        "clips": {
            name: len(part) for name, part in zip(edition.subjects, (train, validation, test), strict=True)
        },
        "step": state.progress.step,
        "minutes": round(state.progress.spent_s / 60, 2),
        "hardware": torch.cuda.get_device_name() if device.type == "cuda" else cpu,
        "commit": commit.stdout.strip(),
        "validation_lve": state.progress.best_lve,
        "test": known(figures),
        "published": PUBLISHED[options.recordings],
        "test_clips": {name: known(measures) for name, measures in clips.items()},
        "options": as_table(options),
    }
    text = json.dumps(result, indent=2, allow_nan=False)
    (options.out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    print(table(figures, PUBLISHED[options.recordings]))
    return result


def learn_until_over(
    state: Run, train: Clips, validation: Clips, sets: VertexSets, log: SummaryWriter
) -> None:
    """The training loop: learns, validates every few epochs, saves every ten minutes and at the end."""
    options, progress = state.options, state.progress
    total, between = options.epochs * len(train), options.validate_every * len(train)
    budget_s = math.inf if options.budget_minutes is None else 60 * options.budget_minutes
    began, saved_at, smooth = time.monotonic() - progress.spent_s, progress.spent_s, None
    bar = tqdm(total=total, initial=progress.step, desc="training", unit="clip", disable=None)
    try:
        while progress.step < total and progress.spent_s < budget_s:
            loss = state.learn(train[place(options.seed, progress.step, len(train))])
            progress.spent_s = time.monotonic() - began
            smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
            log.add_scalar("loss", loss, progress.step)
            bar.update()
            bar.set_postfix(loss=f"{smooth:.3e}", lve=f"{progress.best_lve:.3e}")
            over = progress.step >= total or progress.spent_s >= budget_s
            if over or progress.step % between == 0:
                validate(state, validation, sets, log)
                progress.spent_s = time.monotonic() - began
            if progress.spent_s - saved_at > SAVE_EVERY_S:
                state.save()
                saved_at = progress.spent_s
        if not (options.out / "best.safetensors").exists():
            progress.best_lve = math.inf
            validate(state, validation, sets, log)
    finally:
        state.save()
        bar.close()


def validate(state: Run, clips: Clips, sets: VertexSets, log: SummaryWriter) -> None:
    """Measures the validation split and keeps the weights if none had a smaller LVE before."""
    progress, options = state.progress, state.options
    found = mean_measures(list(options.measure(state.result, clips, sets, "validation").values()))
    for name, value in found.items():
        log.add_scalar(f"validation/{name}", value, progress.step)
    if found["lve"] < progress.best_lve:
        progress.best_lve = found["lve"]
        write_checkpoint(state.result, options.out / "best.safetensors", progress.step)


def device_of(name: str) -> torch.device:
    """``auto`` is a CUDA GPU where there is one, and the CPU elsewhere."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("No CUDA GPU was found: give --device cpu, or install a torch that knows the GPU.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def build(options: Options) -> PaperDiffSpeaker:
    """The network as training begins: a pretrained audio encoder and a denoiser that predicts no motion."""
    torch.manual_seed(options.seed)
    folder = options.audio_encoder
    if options.download and not folder.exists():
        AutoModel.from_pretrained(options.download).save_pretrained(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no audio encoder: put config.json and the weights of a wav2vec2 or HuBERT base "
            "model there, or fetch one with --download facebook/wav2vec2-base-960h."
        )
    try:
        encoder = load_audio_encoder(folder)
    except OSError as error:
        raise ValueError(f"{folder} holds no audio encoder that can be read: {error}") from None
    net = PaperDiffSpeaker(options.shape, encoder.config)
    net.audio_encoder.load_state_dict(encoder.state_dict())
    return net


def place(seed: int, step: int, count: int) -> int:
    """Which of ``count`` clips a step learns: every epoch has each once, in an order of its own."""
    epoch, index = divmod(step, count)
    return int(np.random.default_rng((seed, epoch)).permutation(count)[index])
