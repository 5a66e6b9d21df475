"""What a lesson draws at random, besides its windows: a prefix, a vocal tract, a diffusion step.

Every function takes the generator that it draws from, so that a run can be repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.diffusion import STEPS
from model.shape import MAX_HOP_FRAMES, MAX_LOOKAHEAD_FRAMES, PREFIX_FRAMES

NOISY_END = 700  # every second draw takes its step from here up
WARP = 0.17  # of a vocal tract's length, as a logarithm: the corpus has few speakers, and no child


def draw_prefix(motion: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A clean motion prefix as streaming gives it: the frames before a random hop, 35 % of the time none.

    The hop and the lookahead that it stands before are drawn from all that a session may choose. Returns
    normalised values (B, T, C), roughened so that the network does not trust them more than the sound, and
    their mask (B, T).
    """
    count, frames, channels = motion.shape
    back = torch.randint(1, MAX_HOP_FRAMES + MAX_LOOKAHEAD_FRAMES + 1, (count, 1), generator=generator)
    place = torch.arange(frames)[None]
    stop = frames - back
    length = torch.randint(1, PREFIX_FRAMES + 1, (count, 1), generator=generator)
    mask = ((place < stop) & (place >= stop - length)).float()
    mask = mask * (torch.rand(count, 1, generator=generator) < 0.65)
    rough = 0.2 * torch.randn(count, 1, channels, generator=generator)
    rough = rough + 0.1 * torch.randn(motion.shape, generator=generator)
    mask, rough = mask.to(motion.device), rough.to(motion.device)
    return (motion + rough) * mask[..., None], mask


def draw_warp(audio: Tensor, generator: torch.Generator) -> Tensor:
    """A vocal tract for each window, up to 18 % longer or shorter; half of them keep their own, (B,)."""
    count = len(audio)
    warp = torch.exp(WARP * (2 * torch.rand(count, generator=generator) - 1))
    return torch.where(torch.rand(count, generator=generator) < 0.5, warp, 1).to(audio.device)


def draw_steps(count: int, generator: torch.Generator) -> Tensor:
    """Diffusion steps (count,): the first half of all, the second half of the noisy end."""
    half = count // 2
    anywhere = torch.randint(0, STEPS, (half,), generator=generator)
    noisy = torch.randint(NOISY_END, STEPS, (count - half,), generator=generator)
    return torch.cat([anywhere, noisy])
