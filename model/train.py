"""``python -m model.train CONFIG.toml``: trains a model; ``configs/default.toml`` is the one that ships.

Four stages in one resumable, seeded run (a file with ``system = "paper"`` trains the paper's models instead,
see ``model.paper.train``):

1. **ear**: Whisper tiny.en's lower layers learn to name the phone at each of their tokens within one window.
   A lip shape is mostly its phone, and this lesson is denser than any curve.
2. **teacher**: the denoiser learns to denoise at every step. One draw in two comes from the noisy end, where
   nothing but the sound tells what to say; the ear's top layer goes on learning, phones included.
3. **contacts**: how likely the ear hears lips that meet (``model.contacts``); nothing else learns.
4. **student**: starts as the teacher's copy and learns to arrive where the teacher's DDIM arrives, in 1, 2 or
   4 steps from the part of its noise that decides something (``DiffSpeaker.quieted``).

With ``init`` a run starts from trained weights instead of Whisper's; with ``captures`` it learns from
captured faces, beside the corpus or alone, and leaves out what these do not teach
(``configs/fine-tune.toml``).

Every stage leaves ``STAGE.safetensors`` (averaged weights) in the run's folder, TensorBoard logs lie beside
them, and ``run.json`` says what was done on what. A CUDA device is used where there is one.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from model.captures import UNKNOWN_PHONE, Captures, Mixed
from model.contacts import contact_loss
from model.diffusion import SCHEDULES, STUDENT_STEPS, add_noise, ddim, few_steps, spaced_steps
from model.draws import draw_prefix, draw_steps, draw_warp
from model.fine_tune import load_trained, phone_head, widen
from model.network import DiffSpeaker, Ear
from model.options import OptionError, as_table, load, option, read
from model.shape import CHANNELS
from model.speech import PHONES, Batch, Windows, build_strip
from model.trainer import Lessons, Stage, Trainer
from model.whisper import find_whisper, load_whisper

DRAWS = 2  # noise and step are drawn this often per window: the ear is the costly part, its answer is reused
TEACHER_SAMPLER_STEPS = 8
PHONE_WEIGHT = 0.1  # of the ear's own lesson, while the teacher learns
_JAW, _CLOSE = CHANNELS.index("jawOpen"), CHANNELS.index("mouthClose")


@dataclass(frozen=True)
class Options:
    """Trains the default model."""

    system: str = option("default", "what is trained", choices=("default", "paper"))
    corpus: Path | None = option(None, "folder of Ogg files and *.jsonl with phone times", metavar="DIR")
    captures: Path | None = option(None, "folder of captured faces, CSV beside sound", metavar="DIR")
    capture_share: float = option(0.5, "share of the captures beside a corpus", minimum=0, maximum=1)
    init: Path | None = option(None, "trained weights to start from instead of Whisper's", metavar="FILE")
    out: Path = option(Path("runs/default"), "checkpoints and logs", metavar="DIR")
    cache: Path = option(Path("runs/strip"), "the decoded corpus, made once", metavar="DIR")
    budget_minutes: float = option(115.0, "all stages together", unit="min", minimum=0)
    ear_share: float = option(
        0.365, "share of the budget for the ear; 0: it hears well enough", minimum=0, maximum=1
    )
    contacts_share: float = option(
        0.08, "share of the budget for lips that meet; 0: they do well enough", minimum=0, maximum=1
    )
    student_share: float = option(0.2, "share of the budget for the student", minimum=0, maximum=1)
    batch: int = option(40, "windows per step", minimum=1)
    ear_rate: float = option(3e-4, "peak learning rate of the ear", minimum=0)
    teacher_rate: float = option(6e-4, "peak learning rate of the teacher", minimum=0)
    contacts_rate: float = option(2e-3, "peak learning rate of the contacts", minimum=0)
    student_rate: float = option(2e-4, "peak learning rate of the student", minimum=0)
    seed: int = option(0, "of everything random", minimum=0)
    threads: int = option(2, "CPU threads", minimum=1)
    max_steps: int = option(0, "ends each stage after so many steps; 0: never", minimum=0)

    def __post_init__(self) -> None:
        if self.corpus is None and self.captures is None:
            raise OptionError("Give --corpus, a folder of speech, or --captures, a folder of captured faces.")
        if self.init is not None and self.init.resolve().parent == self.out.resolve():
            raise OptionError(f"Give another --out: {self.out} holds the weights to start from.")

    @property
    def teaches_ear(self) -> bool:
        """Captures do not name their phones, so the ear's stage needs a corpus."""
        return self.ear_share > 0 and self.corpus is not None

    @property
    def teaches_contacts(self) -> bool:
        """As for the ear."""
        return self.contacts_share > 0 and self.corpus is not None

    def stage(self, name: str) -> Stage:
        """The stage of this name; the teacher gets what the others leave of the budget."""
        shares = {
            "ear": self.ear_share if self.teaches_ear else 0.0,
            "contacts": self.contacts_share if self.teaches_contacts else 0.0,
            "student": self.student_share,
        }
        rates = {
            "ear": self.ear_rate,
            "teacher": self.teacher_rate,
            "contacts": self.contacts_rate,
            "student": self.student_rate,
        }
        share = shares.get(name, max(0.0, 1 - sum(shares.values())))
        return Stage(name, share * self.budget_minutes, rates[name], self.batch, self.max_steps)


class PhoneEar(nn.Module):
    """The ear and what it is taught with: a phone's name per token."""

    def __init__(self, ear: Ear) -> None:
        super().__init__()
        self.ear = ear
        self.head = nn.Linear(ear.position.shape[1], len(PHONES))

    def forward(self, audio: Tensor, warp: Tensor | None = None) -> Tensor:
        """Audio (B, N) -> logits over ``PHONES`` (B, L, 40)."""
        logits: Tensor = self.head(self.ear(audio, warp))
        return logits


def phone_loss(logits: Tensor, phones: Tensor) -> Tensor:
    """Cross-entropy per token; boundaries are only known to some 10 ms, hence the smoothing. Places of −100
    have no known phone; where no place has one, the loss is 0."""
    logits, known = logits.float().flatten(0, 1), (phones != UNKNOWN_PHONE).sum()
    total = F.cross_entropy(logits, phones.flatten(), label_smoothing=0.05, reduction="sum")
    return total / known.clamp(min=1)


def motion_loss(net: DiffSpeaker, predicted: Tensor, target: Tensor) -> Tensor:
    """MSE on motion and on its frame differences (weights 1 and 1, the paper's), plus one on the lips' gap.

    The gap is jawOpen − mouthClose, and the lips meet where it is 0: two channels may each be nearly right
    and still leave a /p/ open.
    """
    difference = predicted.float() - target
    loss = difference.square().mean() + difference.diff(dim=1).square().mean()
    gap = difference[..., _JAW] * net.std[_JAW] - difference[..., _CLOSE] * net.std[_CLOSE]
    return loss + (gap / net.std[_JAW]).square().mean()


def train_ear(net: PhoneEar, lessons: Lessons, options: Options, log: SummaryWriter) -> PhoneEar:
    """Phones from sound; the convolutions stay Whisper's."""
    ear = [*net.ear.layers.parameters(), net.ear.position]
    trainer = Trainer(
        net, options.stage("ear"), [(ear, 1.0), ([*net.head.parameters()], 5.0)], options.seed + 1
    )

    def loss_of(batch: Batch, generator: torch.Generator) -> Tensor:
        return phone_loss(net(batch.audio, draw_warp(batch.audio, generator)), batch.phones)

    trainer.run(lessons, loss_of, options.out / "ear.safetensors", log)
    return trainer.average


def train_teacher(
    net: DiffSpeaker, head: nn.Linear | None, lessons: Lessons, options: Options, log: SummaryWriter
) -> DiffSpeaker:
    """Denoising at every step; the ear's top layer moves at a tenth of the pace. Without the head that the
    ear was taught with, there is no lesson in phones."""
    top = [*net.ear.layers[-1].parameters()]
    rest = [p for name, p in net.named_parameters() if not name.startswith(("ear.", "contacts."))]
    trainer = Trainer(net, options.stage("teacher"), [(rest, 1.0), (top, 0.1)], options.seed + 2)

    def loss_of(batch: Batch, generator: torch.Generator) -> Tensor:
        features = net.ear(batch.audio, draw_warp(batch.audio, generator))
        audio, style, noise = (repeat(x) for x in (net.project(features), batch.style, batch.noise))
        clean = repeat(net.normalise(batch.motion))
        step = draw_steps(len(clean), generator).to(clean.device)
        prefix, mask = draw_prefix(clean, generator)
        predicted = net.denoiser(add_noise(clean, noise, step), audio, style, step, prefix, mask)
        loss = motion_loss(net, predicted, clean)
        return loss if head is None else loss + PHONE_WEIGHT * phone_loss(head(features), batch.phones)

    trainer.run(lessons, loss_of, options.out / "teacher.safetensors", log)
    return trainer.average


def train_contacts(net: DiffSpeaker, lessons: Lessons, options: Options, log: SummaryWriter) -> DiffSpeaker:
    """How likely a contact is, from an ear that has learnt."""
    trainer = Trainer(net, options.stage("contacts"), [([*net.contacts.parameters()], 1.0)], options.seed + 4)

    def loss_of(batch: Batch, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            features = net.ear(batch.audio, draw_warp(batch.audio, generator))
        return contact_loss(net.contact_logits(features), batch.contacts)

    trainer.run(lessons, loss_of, options.out / "contacts.safetensors", log)
    return trainer.average


def train_student(
    teacher: DiffSpeaker, lessons: Lessons, options: Options, log: SummaryWriter
) -> DiffSpeaker:
    """Few steps to where the teacher's DDIM arrives, from the part of its noise that decides something; the
    ear is the teacher's."""
    net = deepcopy(teacher).train()
    rest = [p for name, p in net.named_parameters() if not name.startswith(("ear.", "contacts."))]
    trainer = Trainer(net, options.stage("student"), [(rest, 1.0)], options.seed + 3)
    counts = list(SCHEDULES)

    def loss_of(batch: Batch, generator: torch.Generator) -> Tensor:
        clean = net.normalise(batch.motion)
        prefix, mask = draw_prefix(clean, generator)
        with torch.no_grad():
            features = teacher.ear(batch.audio, draw_warp(batch.audio, generator))
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

        chosen = counts[int(torch.randint(len(counts), (1,), generator=generator))]
        few_steps(learn, net.quieted(batch.noise), SCHEDULES[chosen])
        return torch.stack(losses).mean()  # whatever the step, the answer should be the teacher's

    trainer.run(lessons, loss_of, options.out / "student.safetensors", log)
    return trainer.average


def repeat(x: Tensor) -> Tensor:
    """Each window once per draw."""
    return x.repeat(DRAWS, *([1] * (x.dim() - 1)))


def find_lessons(options: Options) -> tuple[Lessons, dict[str, object]]:
    """What the run learns from, and how much it is, for ``run.json``."""
    windows, captures = None, None
    facts: dict[str, object] = {}
    if options.corpus is not None:
        strip = build_strip(options.corpus, options.cache, held_out=False)
        windows, facts["speech_hours"] = Windows(strip, options.seed), round(strip.hours, 2)
        facts["engines"] = sorted({str(utterance.get("engine", "speech")) for utterance in strip.utterances})
    if options.captures is not None:
        captures = Captures([options.captures], options.seed)
        facts["capture_minutes"] = round(captures.minutes, 2)
    if windows and captures:
        return Mixed(windows, captures, options.capture_share), facts
    lessons = windows or captures
    assert lessons is not None, "Options saw to it"
    return lessons, facts


def train(options: Options) -> None:
    """All three stages, then ``run.json``."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    lessons, amounts = find_lessons(options)
    net = DiffSpeaker()
    head: nn.Linear | None = None
    if options.init is None:
        load_whisper(net.ear, find_whisper())
        sample = lessons.draw(2048).motion
        net.mean.copy_(sample.mean((0, 1)))
        net.std.copy_(sample.std((0, 1)).clamp(min=0.02))
    else:
        load_trained(net, options.init)
        widen(net, lessons.draw(512).motion)
        head = phone_head(options.init, device)
    with SummaryWriter(str(options.out / "log")) as log:
        if options.teaches_ear:
            listener = PhoneEar(net.ear)
            listener.head = head or listener.head
            listener = train_ear(listener.to(device), lessons, options, log)
            net.ear, head = listener.ear, listener.head
        teacher = train_teacher(net.to(device), head, lessons, options, log)
        if options.teaches_contacts:
            teacher = train_contacts(teacher.train(), lessons, options, log)
        train_student(teacher, lessons, options, log)
    facts: dict[str, object] = {
        **as_table(options),
        **amounts,
        "hardware": torch.cuda.get_device_name() if device.type == "cuda" else _cpu(options.threads),
        "hours": round(hours_spent(options.out) + hours_before(options.init), 4),
        "student_steps": STUDENT_STEPS,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    (options.out / "run.json").write_text(json.dumps(facts, indent=2) + "\n")


def hours_spent(out: Path) -> float:
    """How long all stages took, over however many calls."""
    stages = (torch.load(path, weights_only=True, map_location="cpu") for path in out.glob("*.resume"))
    return sum(float(stage["spent_s"]) for stage in stages) / 3600


def hours_before(init: Path | None) -> float:
    """How long the weights that a run starts from were trained, out of the ``run.json`` beside them."""
    run = init.with_name("run.json") if init is not None else None
    return float(json.loads(run.read_text())["hours"]) if run is not None and run.exists() else 0.0


def _cpu(threads: int) -> str:
    return f"{threads} of {os.cpu_count()} shared cores, {platform.machine()}"


def main(argv: list[str] | None = None) -> int:
    """Runs what the configuration names; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0].startswith("-"):
        print("usage: python -m model.train CONFIG.toml [--help] [--option value …]", file=sys.stderr)
        print("Start from configs/default.toml or configs/vocaset.toml.", file=sys.stderr)
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    config = Path(argv[0])
    try:
        if load(config).get("system") == "paper":
            from model.paper import train as paper

            paper.run(read(paper.Options, config, argv[1:]))
        else:
            train(read(Options, config, argv[1:]))
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    except (OptionError, FileNotFoundError, ValueError) as error:
        print(f"model.train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
