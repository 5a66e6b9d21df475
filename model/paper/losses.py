"""What the paper's network is taught with: one noised clip, two squared errors of equal weight.

x0 is the vertices' offsets from the speaker's template, as they are: the paper adds noise of variance 1 to
motion of some millimetres given in metres. The step t is drawn uniformly. The motion and the features of a
clip seldom have the same number of frames, because the encoder's first and last states stand inside the
sound; the longer of the two is cut at its end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.diffusion import STEPS, add_noise
from model.paper.network import PaperDiffSpeaker


def motion_loss(predicted: Tensor, clean: Tensor) -> Tensor:
    """MSE of the vertices plus MSE of their frame differences, weights 1 and 1; both (B, T, V·3), T ≥ 2."""
    error = predicted - clean
    return error.square().mean() + error.diff(dim=1).square().mean()


def denoising_loss(
    net: PaperDiffSpeaker, audio: Tensor, offsets: Tensor, style: Tensor, half_precision: bool = False
) -> Tensor:
    """One training loss, a scalar in float32; noise and steps come from torch's own generator.

    Args:
        net: in training.
        audio: float32 (B, N), 16 kHz.
        offsets: float32 (B, T, V·3), vertices − template.
        style: int64 (B,), the speakers' indices.
        half_precision: whether the audio encoder runs in bfloat16. The denoiser never does: its values are
            millimetres in metres beside noise of size 1, and bfloat16 keeps three digits.
    """
    with torch.autocast(audio.device.type, torch.bfloat16, enabled=half_precision):
        features = net.encode(audio)
    frames = min(features.shape[1], offsets.shape[1])
    clean = offsets[:, :frames]
    step = torch.randint(0, STEPS, (len(clean),), device=clean.device)
    noisy = add_noise(clean, torch.randn_like(clean), step)
    predicted = net.denoiser(noisy, features[:, :frames].float(), style, step)
    return motion_loss(predicted, clean)
