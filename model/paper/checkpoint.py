"""Our own checkpoints of the paper's network: one safetensors file that says by itself what it holds.

The weights carry the published checkpoints' names (``audio_encoder.…``, ``denoiser.…``). The file's header
holds the network's shape and the audio encoder's configuration as JSON, so that reading it needs nothing
else, no folder of the audio encoder and no pickle.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config

from model.paper.network import PaperDiffSpeaker
from model.paper.shape import PaperShape


def write_checkpoint(net: PaperDiffSpeaker, path: Path, step: int) -> None:
    """Writes the weights, float32, and what they belong to; never leaves half a file under ``path``."""
    about = {
        "shape": json.dumps(asdict(net.shape)),
        "audio_encoder": json.dumps(net.audio_encoder.config.to_dict()),
        "step": str(step),
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    part = path.with_name(path.name + ".part")
    save_file(weights, part, metadata=about)
    part.replace(path)


def read_checkpoint(path: Path) -> PaperDiffSpeaker:
    """The network of a file that ``write_checkpoint`` wrote, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it was not written by ``write_checkpoint``.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        shape = PaperShape(**json.loads(about["shape"]))
        encoder = Wav2Vec2Config.from_dict(json.loads(about["audio_encoder"]))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint of the paper's network ({error}).") from None
    net = PaperDiffSpeaker(shape, encoder)
    net.load_state_dict(load_file(path))
    return net.eval()
