"""One training stage: the network, its moving average, the optimiser, the clock, and the loop around a loss.

A stage ends by its minutes or its steps, whichever comes first, and its learning rate follows how much of it
is over, so a stage of five minutes and one of five hours run the same schedule. A checkpoint is two files:
``NAME.safetensors``, the averaged weights, which everything else reads, and ``NAME.resume``, what it takes to
go on, which nothing but ``resume`` reads. Minutes add up over resumed runs. Randomness hangs on the seed and
the step alone. The arithmetic is bfloat16 under autocast on a GPU, and on a CPU that computes it (one that
only imitates it takes ten times as long as in float32); the weights are float32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.speech import Batch

Net = TypeVar("Net", bound=nn.Module)

SAVE_EVERY_S = 120
WARM_UP, FLOOR, AVERAGE, CLIP = 0.02, 0.02, 0.999, 1.0


class Lessons(Protocol):
    """Where batches come from."""

    def seed(self, seed: int) -> None:
        """Starts the sequence of draws that belongs to this seed."""

    def draw(self, count: int) -> Batch:
        """``count`` windows with their answers, on the CPU."""


@dataclass(frozen=True)
class Stage:
    """A stage's name, its length, and how it learns.

    Attributes:
        minutes: wall-clock, added up over resumed runs. max_steps: ends it sooner; 0 never.
        learning_rate: the schedule's peak. batch: windows per step.
    """

    name: str
    minutes: float
    learning_rate: float
    batch: int
    max_steps: int = 0


class Trainer(Generic[Net]):
    """The state of one stage; ``groups`` are (parameters, factor on the learning rate)."""

    def __init__(
        self, net: Net, stage: Stage, groups: list[tuple[list[nn.Parameter], float]], seed: int
    ) -> None:
        self.net, self.stage, self.seed = net, stage, seed
        self.average = deepcopy(net).eval()
        self.device = next(net.parameters()).device
        learnt = {id(p) for parameters, _ in groups for p in parameters}
        for parameter in net.parameters():
            parameter.requires_grad_(id(parameter) in learnt)
        self.optimiser = torch.optim.AdamW(
            [{"params": parameters, "factor": factor} for parameters, factor in groups if parameters],
            lr=stage.learning_rate,
            weight_decay=0.01,
        )
        self.spent_s, self.step = 0.0, 0
        self.has_bfloat16 = self.device.type != "cpu" or cpu_has_bfloat16()

    @property
    def done(self) -> float:
        """How much of the stage is over, 0 to 1, by its minutes or its steps, whichever is further."""
        by_steps = self.step / self.stage.max_steps if self.stage.max_steps else 0.0
        by_clock = self.spent_s / (60 * self.stage.minutes) if self.stage.minutes else 1.0
        return min(1.0, max(by_steps, by_clock))

    def learning_rate(self) -> float:
        """Linear warm-up over the first 2 % of the stage, then a cosine to 2 % of the peak."""
        warm = min(1.0, self.done / WARM_UP + 0.01)
        return self.stage.learning_rate * warm * max(FLOOR, 0.5 + 0.5 * math.cos(math.pi * self.done))

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser and one of the moving average."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        rate = self.learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.step()
        self.step += 1
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.net.parameters(), strict=True):
                if now.requires_grad:
                    mean.lerp_(now, 1 - keep)

    def save(self, path: Path) -> None:
        """Averaged weights to ``path``; what is needed to go on, beside it. Neither is ever half a file."""
        write_weights(self.average, path)
        rest: dict[str, Any] = {
            "net": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "spent_s": self.spent_s,
            "step": self.step,
        }
        part = path.with_suffix(".part")
        torch.save(rest, part)
        part.replace(path.with_suffix(".resume"))

    def resume(self, path: Path) -> None:
        """Goes on from ``save``, where there is one."""
        state = path.with_suffix(".resume")
        if not state.exists():
            return
        saved = torch.load(state, weights_only=True, map_location=self.device)
        self.net.load_state_dict(saved["net"])
        self.average.load_state_dict(load_file(path, device=str(self.device)))
        self.optimiser.load_state_dict(saved["optimiser"])
        self.spent_s, self.step = saved["spent_s"], saved["step"]

    def run(
        self,
        lessons: Lessons,
        loss_of: Callable[[Batch, torch.Generator], Tensor],
        path: Path,
        log: SummaryWriter,
    ) -> None:
        """Trains until the stage is over, saving every two minutes and on Ctrl-C.

        ``loss_of`` gets a batch on the network's device and a CPU generator for what it draws itself.
        """
        self.resume(path)
        lessons.seed(self.seed + self.step)  # so that a resumed run does not draw the same windows again
        generator = torch.Generator().manual_seed(self.seed + self.step)
        name, total = self.stage.name, 60 * self.stage.minutes
        bar = tqdm(total=round(total), initial=round(self.spent_s), desc=name, unit="s", disable=None)
        saved_at, smooth = self.spent_s, math.nan
        try:
            while self.done < 1:
                started = time.monotonic()
                batch = lessons.draw(self.stage.batch).to(self.device)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.has_bfloat16):
                    loss = loss_of(batch, generator)
                self.update(loss)
                value = loss.item()
                smooth = value if math.isnan(smooth) else 0.99 * smooth + 0.01 * value
                self.spent_s += time.monotonic() - started
                bar.n = round(min(total, self.spent_s))
                if self.step % 50 == 0:
                    log.add_scalar(f"{name}/loss", smooth, self.step)
                    log.add_scalar(f"{name}/learning_rate", self.learning_rate(), self.step)
                    bar.set_postfix(step=self.step, loss=f"{smooth:.4f}")
                if bar.disable and self.step % 250 == 0:
                    print(f"{name}: step {self.step}, {self.spent_s:.0f} s, loss {smooth:.4f}", flush=True)
                if self.spent_s - saved_at > SAVE_EVERY_S:
                    self.save(path)
                    saved_at = self.spent_s
        finally:
            self.save(path)
            bar.close()


def cpu_has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16, or has the wide registers in which it is imitated fast."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bw", "avx512_bf16", "amx_bf16", "arm_bf16"))


def write_weights(net: nn.Module, path: Path) -> None:
    """A network's state as safetensors, whole or not at all."""
    part = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, part)
    part.replace(path)
