"""Trains the default model: ``python -m model.train CORPUS --out runs/default``.

Two stages in one resumable run. The teacher learns to denoise at every step; the student starts as its copy
and learns to reach the teacher's many-step answer in two. The ear is Whisper tiny.en's lower layers, frozen
but for ``--tune-ear`` upper ones. Everything is seeded; the checkpoint is safetensors and holds the averaged
weights; TensorBoard logs lie beside it. On a CPU the arithmetic runs in bfloat16 under autocast.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.diffusion import STEPS, STUDENT_STEPS, add_noise, ddim, few_steps, spaced_steps
from model.network import DiffSpeaker
from model.shape import CHANNELS, MAX_HOP_FRAMES, MAX_LOOKAHEAD_FRAMES, PREFIX_FRAMES
from model.speech import Batch, Windows, build_strip
from model.whisper import find_whisper, load_whisper

DRAWS = (
    2  # noise and step are drawn this often per window: the ear is the costly part, so its answer is reused
)
TEACHER_SAMPLER_STEPS = 5
_JAW, _CLOSE = CHANNELS.index("jawOpen"), CHANNELS.index("mouthClose")


@dataclass(frozen=True)
class Options:
    """The run. Minutes are wall-clock and add up over resumed runs."""

    corpus: Path
    out: Path
    cache: Path
    teacher_minutes: float
    student_minutes: float
    batch: int
    learning_rate: float
    tune_ear: int
    seed: int
    threads: int
    max_steps: int = 0


def parse(argv: list[str] | None = None) -> Options:
    """Command line to options."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", type=Path, help="folder of Ogg files and *.jsonl with phone times")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/default"), help="checkpoints and logs (%(default)s)"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/strip"), help="decoded corpus (%(default)s)")
    parser.add_argument(
        "--teacher-minutes", type=float, default=60, help="minutes of teacher training (%(default)s)"
    )
    parser.add_argument(
        "--student-minutes", type=float, default=15, help="minutes of distillation (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=48, help="windows per step (%(default)s)")
    parser.add_argument(
        "--learning-rate", type=float, default=6e-4, help="peak of the schedule (%(default)s)"
    )
    parser.add_argument(
        "--tune-ear", type=int, default=0, help="upper ear layers that are trained too (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    parser.add_argument("--max-steps", type=int, default=0, help="end a stage after so many steps (0: never)")
    return Options(**vars(parser.parse_args(argv)))


def draw_prefix(motion: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A clean motion prefix as streaming gives it: the frames before a random hop, 35 % of the time none.

    Returns normalised values (B, T, C), roughened so that the network does not trust them more than the
    sound, and their mask (B, T).
    """
    count, frames, channels = motion.shape
    back = torch.randint(1, MAX_HOP_FRAMES + MAX_LOOKAHEAD_FRAMES + 1, (count, 1), generator=generator)
    place = torch.arange(frames)[None]
    stop = frames - back
    length = torch.randint(1, PREFIX_FRAMES + 1, (count, 1), generator=generator)
    mask = ((place < stop) & (place >= stop - length)).float()
    mask = mask * (torch.rand(count, 1, generator=generator) < 0.65)
    offset = 0.2 * torch.randn(count, 1, channels, generator=generator)
    rough = 0.1 * torch.randn(motion.shape, generator=generator)
    return (motion + offset + rough) * mask[..., None], mask


def motion_loss(net: DiffSpeaker, predicted: Tensor, target: Tensor) -> Tensor:
    """MSE on motion and on its frame differences (weights 1 and 1, the paper's), plus one on the lips' gap.

    The gap is jawOpen − mouthClose, and the lips meet where it is 0: two channels may each be nearly right
    and still leave a /p/ open.
    """
    difference = predicted - target
    loss = difference.square().mean() + difference.diff(dim=1).square().mean()
    gap = difference[..., _JAW] * net.std[_JAW] - difference[..., _CLOSE] * net.std[_CLOSE]
    return loss + 0.5 * (gap / net.std[_JAW]).square().mean()


def repeat(x: Tensor) -> Tensor:
    """Each window once per draw."""
    return x.repeat(DRAWS, *([1] * (x.dim() - 1)))


class Trainer:
    """One stage's state: the network in training, its moving average, the optimiser, the minutes spent."""

    def __init__(self, net: DiffSpeaker, options: Options, minutes: float, peak: float) -> None:
        self.net, self.average = net, deepcopy(net).eval()
        self.options, self.minutes, self.peak = options, minutes, peak
        self.generator = torch.Generator().manual_seed(options.seed + 1)
        for parameter in net.ear.parameters():
            parameter.requires_grad = False
        for layer in list(net.ear.layers)[len(net.ear.layers) - options.tune_ear :]:
            layer.requires_grad_(True)
        ear = [p for p in net.ear.parameters() if p.requires_grad]
        rest = [p for name, p in net.named_parameters() if not name.startswith("ear.")]
        groups: list[dict[str, Any]] = [{"params": rest, "scale": 1.0}, {"params": ear, "scale": 0.1}]
        self.optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=peak, weight_decay=0.01)
        self.spent_s, self.step = 0.0, 0

    @property
    def done(self) -> float:
        """How much of the stage is over, 0 to 1, by its minutes or its steps, whichever is further."""
        by_steps = self.step / self.options.max_steps if self.options.max_steps else 0.0
        return min(1.0, max(by_steps, self.spent_s / (60 * self.minutes)))

    def learning_rate(self) -> float:
        """Linear warm-up over the first 2 % of the stage, then a cosine to 2 % of the peak."""
        done = self.done
        cosine = 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * done)))
        return self.peak * min(1.0, done / 0.02 + 0.01) * max(0.02, cosine)

    def update(self, loss: Tensor) -> None:
        """One optimiser step and one step of the moving average."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        rate = self.learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimiser.step()
        self.step += 1
        keep = min(0.999, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
                if now.requires_grad:
                    mean.lerp_(now, 1 - keep)

    def save(self, path: Path) -> None:
        """Averaged weights to ``path``; what is needed to resume, beside it."""
        part = path.with_suffix(".part")
        save_file(self.average.state_dict(), part)
        part.replace(path)
        torch.save(
            {
                "net": self.net.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "spent_s": self.spent_s,
                "step": self.step,
            },
            path.with_suffix(".resume"),
        )

    def resume(self, path: Path) -> None:
        """Goes on from ``save``, where there is one."""
        state = path.with_suffix(".resume")
        if not state.exists():
            return
        saved = torch.load(state, weights_only=True)
        self.net.load_state_dict(saved["net"])
        self.average.load_state_dict(load_file(path))
        self.optimiser.load_state_dict(saved["optimiser"])
        self.spent_s, self.step = saved["spent_s"], saved["step"]


def run_stage(
    name: str, trainer: Trainer, windows: Windows, loss_of: Any, path: Path, log: SummaryWriter
) -> None:
    """Trains until the stage is over, saving every two minutes and on Ctrl-C."""
    trainer.resume(path)
    windows.seed(
        trainer.options.seed + trainer.step
    )  # so that a resumed run does not draw the same windows again
    total = 60 * trainer.minutes
    bar = tqdm(total=round(total), initial=round(trainer.spent_s), desc=name, unit="s", disable=None)
    saved_at, smooth = trainer.spent_s, None
    try:
        while trainer.done < 1:
            started = time.monotonic()
            batch = windows.draw(trainer.options.batch)
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(batch)
            trainer.update(loss)
            smooth = loss.item() if smooth is None else 0.99 * smooth + 0.01 * loss.item()
            trainer.spent_s += time.monotonic() - started
            bar.n = round(min(total, trainer.spent_s))
            if trainer.step % 50 == 0:
                log.add_scalar(f"{name}/loss", smooth, trainer.step)
                log.add_scalar(f"{name}/learning_rate", trainer.learning_rate(), trainer.step)
                bar.set_postfix(step=trainer.step, loss=f"{smooth:.4f}")
            if trainer.step % 500 == 0:
                print(f"{name} step {trainer.step} {trainer.spent_s:.0f}s loss {smooth:.4f}", flush=True)
            if trainer.spent_s - saved_at > 120:
                trainer.save(path)
                saved_at = trainer.spent_s
    finally:
        trainer.save(path)
        bar.close()


def train_teacher(net: DiffSpeaker, windows: Windows, options: Options, log: SummaryWriter) -> DiffSpeaker:
    """Denoising at uniformly drawn steps."""
    trainer = Trainer(net, options, options.teacher_minutes, options.learning_rate)

    def loss_of(batch: Batch) -> Tensor:
        if options.tune_ear:
            features = net.ear(batch.audio)
        else:
            with torch.no_grad():
                features = net.ear(batch.audio)
        audio = repeat(net.project(features))
        clean = repeat(net.normalise(batch.motion))
        noise = repeat(batch.noise)
        step = torch.randint(0, STEPS, (len(clean),), generator=trainer.generator)
        prefix, mask = draw_prefix(clean, trainer.generator)
        predicted = net.denoiser(
            add_noise(clean, noise, step), audio, repeat(batch.style), step, prefix, mask
        )
        return motion_loss(net, predicted.float(), clean)

    run_stage("teacher", trainer, windows, loss_of, options.out / "teacher.safetensors", log)
    return trainer.average


def train_student(
    teacher: DiffSpeaker, windows: Windows, options: Options, log: SummaryWriter
) -> DiffSpeaker:
    """Two steps to where the teacher's DDIM arrives, from the same noise; the ear is the teacher's."""
    net = deepcopy(teacher).train()
    trainer = Trainer(
        net, Options(**{**vars(options), "tune_ear": 0}), options.student_minutes, options.learning_rate / 3
    )

    def loss_of(batch: Batch) -> Tensor:
        clean = net.normalise(batch.motion)
        prefix, mask = draw_prefix(clean, trainer.generator)
        with torch.no_grad():
            features = teacher.ear(batch.audio)
            heard = teacher.project(features)

            def teach(noisy: Tensor, step: Tensor) -> Tensor:
                return teacher.denoiser(noisy, heard, batch.style, step, prefix, mask).float()

            goal = ddim(teach, batch.noise, spaced_steps(TEACHER_SAMPLER_STEPS))
        audio = net.project(features)
        losses: list[Tensor] = []

        def learn(noisy: Tensor, step: Tensor) -> Tensor:
            predicted = net.denoiser(noisy, audio, batch.style, step, prefix, mask).float()
            losses.append(0.7 * motion_loss(net, predicted, goal) + 0.3 * motion_loss(net, predicted, clean))
            return predicted

        few_steps(learn, batch.noise)
        return 0.5 * losses[0] + losses[-1]

    run_stage("student", trainer, windows, loss_of, options.out / "student.safetensors", log)
    return trainer.average


def main(argv: list[str] | None = None) -> int:
    """Runs both stages; returns the exit code."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    strip = build_strip(options.corpus, options.cache, held_out=False)
    windows = Windows(strip, options.seed)
    net = DiffSpeaker()
    load_whisper(net.ear, find_whisper())
    sample = windows.draw(2048).motion
    net.mean.copy_(sample.mean((0, 1)))
    net.std.copy_(sample.std((0, 1)).clamp(min=0.02))
    started = time.time()
    with SummaryWriter(str(options.out / "log")) as log:
        teacher = train_teacher(net, windows, options, log)
        train_student(teacher, windows, options, log)
    facts = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()}
    facts |= {"hours": (options.teacher_minutes + options.student_minutes) / 60, "speech_hours": strip.hours}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    facts |= {
        "last_run_s": time.time() - started,
        "student_steps": STUDENT_STEPS,
        "commit": commit.stdout.strip(),
    }
    (options.out / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)
    except (FileNotFoundError, ValueError) as error:
        print(f"model.train: {error}", file=sys.stderr)
        sys.exit(2)
