"""Trained weights as a beginning: what ``model.train --init`` does before its first step.

The network keeps what it knows, phones included: their names are read by the head that its ear was taught
with, where ``ear.safetensors`` lies beside the checkpoint. What it does not know is how far a real face goes.
Its motion is normalised by how much each channel moved in its own lessons, and our rules never move some at
all; ``widen`` makes room.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model.network import DiffSpeaker
from model.speech import PHONES


def load_trained(net: DiffSpeaker, path: Path) -> None:
    """Fills the network from a teacher's or a student's checkpoint; ValueError where it is neither."""
    try:
        found = load_file(path)
        untaught = {name: value for name, value in net.state_dict().items() if name.startswith("contacts.")}
        net.load_state_dict(untaught | found)  # weights of before there were contacts close none
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{path} is no checkpoint (teacher.safetensors, student.safetensors) of this version's network"
        ) from error


def phone_head(path: Path, device: torch.device) -> nn.Linear | None:
    """The head that names phones, from ``ear.safetensors`` in the checkpoint's folder; None without one."""
    beside = path.with_name("ear.safetensors")
    if not beside.exists():
        return None
    state = load_file(beside)
    head = nn.Linear(state["head.weight"].shape[1], len(PHONES))
    head.load_state_dict({name: state[f"head.{name}"] for name in ("weight", "bias")})
    return head.to(device)


@torch.no_grad()
def widen(net: DiffSpeaker, motion: Tensor) -> None:
    """Widens each channel's normalisation to the spread of these lessons, (B, T, C), never narrows it.

    The means stay, and spread is measured around them, so no lesson is far out. The decoder's output and the
    prefix's input are scaled to match: from pure noise, the network answers what it answered before.
    """
    spread = (motion - net.mean).square().mean((0, 1)).sqrt()
    wider = torch.maximum(net.std, spread)
    shrink = net.std / wider
    decoder, into = net.denoiser.motion_decoder, net.denoiser.motion_map.weight
    decoder.weight.mul_(shrink[:, None])
    decoder.bias.mul_(shrink)
    into[:, len(shrink) : 2 * len(shrink)].div_(shrink)
    net.std.copy_(wider)
