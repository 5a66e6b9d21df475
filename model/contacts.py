"""Lips that meet, and a lip under the teeth: how likely a contact is, beside what the denoiser draws.

A network that is taught by squared errors and cannot tell a /p/ from a /t/ draws what lies between, lips
that are half closed, and half closed is wrong for both. How likely a contact is can be read from the ear's
features by itself, and is taught by its own loss; ``meet`` then closes the drawn lips as far as a contact
is likely. It never opens them.

Kinds of contact, in order: seal (the lips meet: P, B, M) and tuck (the lower lip under the teeth: F, V).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.shape import CHANNELS

KINDS = ("seal", "tuck")
UNKNOWN = -1.0  # in place of a target where nobody knows, as in captures
_WIDTH = 96
_NEVER = -5.0  # as a logit: what has not been taught closes nothing

_AT = {name: index for index, name in enumerate(CHANNELS)}
_JAW, _CLOSE = _AT["jawOpen"], _AT["mouthClose"]


def _of_channels(values: dict[str, float]) -> Tensor:
    return torch.tensor([values.get(name, 0.0) for name in CHANNELS])


# What a seal takes from the channels that part the lips, and what a tuck shows at least, as the lessons have
# it (``articulation.speech_coefficients``).
_PARTED = {"mouthLowerDownLeft": 1.0, "mouthLowerDownRight": 1.0, "mouthFunnel": 1.0}
_TAKEN = _of_channels(_PARTED | {"mouthUpperUpLeft": 0.9, "mouthUpperUpRight": 0.9})
_CLOSED = _of_channels({"mouthClose": 1.0})
_TUCKED = _of_channels({"mouthRollLower": 0.45})


class Contacts(nn.Module):
    """Ear features (B, L, width) -> a logit for each kind of contact at each token, (B, L, 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(width, _WIDTH, 3, padding=1)
        self.out = nn.Linear(_WIDTH, len(KINDS))
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, _NEVER)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.out(F.gelu(self.hidden(features.transpose(1, 2)).transpose(1, 2)))
        return logits


def contact_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of logits (B, T, 2) where ``wanted`` is known; 0 where nothing is."""
    known = (wanted >= 0).float()
    each = F.binary_cross_entropy_with_logits(logits.float(), wanted.clamp(min=0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def meet(motion: Tensor, likely: Tensor) -> Tensor:
    """Coefficients (B, T, 52) with their lips closed as far as a contact is likely, (B, T, 2) in [0, 1].

    The lips meet where mouthClose equals jawOpen, so a seal takes the rest of the way there, and what else
    parts them.
    """
    seal, tuck = likely.chunk(2, dim=-1)
    way = (motion[..., _JAW : _JAW + 1] - motion[..., _CLOSE : _CLOSE + 1]).clamp(min=0)
    closed = motion * (1 - seal * _TAKEN.to(motion)) + seal * way * _CLOSED.to(motion)
    return torch.maximum(closed, tuck * _TUCKED.to(motion))
