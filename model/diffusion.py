"""The diffusion: its schedule and its samplers, as plain functions of a denoiser.

1000 steps, scaled-linear β from 0.00085 to 0.012, x0 prediction (arXiv 2402.05712). A ``denoise`` argument is
``(noisy (B, T, C), step (B,)) -> x0 (B, T, C)``; everything is normalised motion.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STEPS = 1000
Denoise = Callable[[Tensor, Tensor], Tensor]

# The student's steps by their number: from pure noise, then from where less and less is left to decide. What
# ships takes one.
SCHEDULES: dict[int, tuple[int, ...]] = {1: (999,), 2: (999, 420), 4: (999, 700, 420, 180)}
STUDENT_STEPS = SCHEDULES[1]


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


def ddim_weights(steps: Sequence[int]) -> list[tuple[float, float]]:
    """``ddim`` as what each step makes of x̂0 and x: x ← a · x̂0 + b · x, with (1, 0) at the last."""
    weights = []
    for step, following in itertools.pairwise(steps):
        level, later = float(ALPHA_BAR[step]), float(ALPHA_BAR[following])
        keep = ((1 - later) / (1 - level)) ** 0.5
        weights.append((later**0.5 - keep * level**0.5, keep))
    return [*weights, (1.0, 0.0)]


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
    for step, (weight, _) in zip(steps, ddim_legacy_weights(steps), strict=True):
        x = weight * denoise(x, torch.full((x.shape[0],), step, device=x.device))
    return x


def ddim_legacy_weights(steps: Sequence[int]) -> list[tuple[float, float]]:
    """``ddim_legacy`` as what each step makes of x̂0 and x: x ← a · x̂0 + b · x."""
    levels = [float(ALPHA_BAR[following]) for following in (*steps[1:], 0)]
    return [(level**0.5 + (1 - level) ** 0.5, 0.0) for level in levels]


def few_steps(denoise: Denoise, noise: Tensor, steps: Sequence[int] = STUDENT_STEPS) -> Tensor:
    """The student's sampler: predict x0, add the same noise again at the next step's level, predict again.

    The noise is never re-estimated, so that neighbouring windows, which share their frames' noise, agree.
    """
    clean = denoise(noise, torch.full((len(noise),), steps[0], device=noise.device))
    for step in steps[1:]:
        at = torch.full((len(noise),), step, device=noise.device)
        clean = denoise(add_noise(clean, noise, at), at)
    return clean
