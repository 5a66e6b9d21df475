"""The diffusion: its schedule and its samplers, as plain functions of a denoiser.

1000 steps, scaled-linear β from 0.00085 to 0.012, x0 prediction (arXiv 2402.05712). A ``denoise`` argument is
``(noisy (B, T, C), step (B,)) -> x0 (B, T, C)``; everything is normalised motion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STEPS = 1000
Denoise = Callable[[Tensor, Tensor], Tensor]

# The student's steps by their number: from pure noise, then from where less and less is left to decide. What
# ships takes two.
SCHEDULES: dict[int, tuple[int, ...]] = {1: (999,), 2: (999, 420), 4: (999, 700, 420, 180)}
STUDENT_STEPS = SCHEDULES[2]


def signal_levels() -> Tensor:
    """ᾱ per step, float32 (1000,)."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64).square()
    return (1 - beta).cumprod(0).float()


ALPHA_BAR = signal_levels()


def add_noise(clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """q(x_t | x_0): √ā·x0 + √(1 − ā)·ε, with one step per batch entry."""
    level = ALPHA_BAR.to(step.device)[step][:, None, None]
    return level.sqrt() * clean + (1 - level).sqrt() * noise


def spaced_steps(count: int) -> list[int]:
    """``count`` steps from 999 down, evenly spaced, the last above 0."""
    return [int(step) for step in torch.linspace(STEPS - 1, 0, count + 1)[:-1]]


def ddim(denoise: Denoise, noise: Tensor, steps: Sequence[int]) -> Tensor:
    """Deterministic DDIM (eta 0) that returns x̂0 at the last step (Song et al. 2021, eq. 12)."""
    x = noise
    clean = noise
    for index, step in enumerate(steps):
        clean = denoise(x, torch.full((x.shape[0],), step, device=x.device))
        if index + 1 < len(steps):
            level, following = ALPHA_BAR[step], ALPHA_BAR[steps[index + 1]]
            implied_noise = (x - level.sqrt() * clean) / (1 - level).sqrt()
            x = following.sqrt() * clean + (1 - following).sqrt() * implied_noise
    return clean


def published_steps(count: int = 50) -> list[int]:
    """The paper's steps: ``count`` of them, evenly spaced from 0 and shifted by one; 981, 961, …, 21, 1."""
    return list(range(1, STEPS + 1, STEPS // count))[:count][::-1]


def ddim_legacy(denoise: Denoise, noise: Tensor, steps: Sequence[int]) -> Tensor:
    """What the paper's figures were sampled with: its library's DDIM took x̂0 for the noise ε̂ as well.

    x_prev = (√ā_prev + √(1 − ā_prev)) · x̂0, so that only the first step sees noise at all. After the last
    step, ā_prev is that of step 0, and 1.0287 · x̂0 is returned. For the published checkpoints only: our
    own are sampled by ``ddim``. See docs/decisions/0004.
    """
    x = noise
    for step, following in zip(steps, [*steps[1:], 0], strict=True):
        level = ALPHA_BAR[following]
        x = (level.sqrt() + (1 - level).sqrt()) * denoise(x, torch.full((x.shape[0],), step, device=x.device))
    return x


def few_steps(denoise: Denoise, noise: Tensor, steps: Sequence[int] = STUDENT_STEPS) -> Tensor:
    """The student's sampler: predict x0, add the same noise again at the next step's level, predict again.

    The noise is never re-estimated, so that neighbouring windows, which share their frames' noise, agree.
    """
    clean = denoise(noise, torch.full((len(noise),), steps[0], device=noise.device))
    for step in steps[1:]:
        at = torch.full((len(noise),), step, device=noise.device)
        clean = denoise(add_noise(clean, noise, at), at)
    return clean
