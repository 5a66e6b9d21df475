"""``python -m model.import_checkpoint FILE.ckpt --out BUNDLE``: a checkpoint of the paper's becomes a bundle.

FILE is a published Lightning checkpoint, or one of our own (``model.paper.checkpoint``). What it holds is
compared, name by name, with what the configuration needs; then the weights are written as ``OUT.safetensors``
beside the bundle, the template as ``rig.npz`` into it, and ``python -m export.paper`` does the rest.

A Lightning checkpoint is a pickle. It is read with ``weights_only``: tensors, numbers and texts. Whatever
else was pickled along (the training's configuration, as a rule) is replaced by an empty stand-in of the same
name, so nothing in the file is ever run, and nothing of the sort needs to be installed.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from transformers import Wav2Vec2Config

from model.diffusion import STEPS
from model.paper.checkpoint import read_checkpoint, write_checkpoint
from model.paper.network import PaperDiffSpeaker
from model.paper.recordings import EDITIONS
from model.paper.shape import SHAPES, PaperShape
from model.paper.unpickle import read_pickle

PARTS = ("audio_encoder.", "denoiser.")
IGNORED = ("denoiser.PPE.pe",)  # a table, which is computed
_MASK = "audio_encoder.masked_spec_embed"
_NAMED = 8  # keys in one message


def read_lightning(path: Path) -> dict[str, Tensor]:
    """The network's weights in a Lightning checkpoint, by the names that the network gives them.

    Prefixes before ``audio_encoder.`` and ``denoiser.`` are cut off; what belongs to neither (losses,
    metrics) is left out, and so are the names in ``IGNORED``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such checkpoint.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    held: list[str] = []
    try:
        held = sorted(get_unsafe_globals_in_checkpoint(path))
        with safe_globals([(_stand_in(name), name) for name in held]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError):
        what = f"asks for {_few(held)} to be run" if held else "is no checkpoint that PyTorch reads"
        raise ValueError(
            f"{path} {what}, so it was not opened: where you trust it, load it with the library that wrote "
            "it and save its state_dict alone."
        ) from None
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
    found: dict[str, Tensor] = {}
    for key, value in weights.items():
        start = min((place for part in PARTS if (place := f".{key}".find(f".{part}")) >= 0), default=-1)
        if start >= 0 and isinstance(value, Tensor) and key[start:] not in IGNORED:
            found[key[start:]] = value
    if not found:
        raise ValueError(
            f"{path} holds no weights named {PARTS[0]}… or {PARTS[1]}…, so it is no DiffSpeaker."
        )
    return found


def _stand_in(name: str) -> type:
    """An empty class for what a checkpoint pickled beside its weights: takes any state and does nothing."""

    class StandIn:
        def __new__(cls, *_arguments: object, **_named: object) -> StandIn:
            return super().__new__(cls)

        def __setstate__(self, _state: object) -> None:
            pass

    StandIn.__qualname__ = StandIn.__name__ = name.rpartition(".")[2]
    return StandIn


def read_shape(config: str) -> PaperShape:
    """A configuration by its published name, or from a JSON file of ``PaperShape``'s fields.

    Raises:
        ValueError: it is neither.
    """
    if config in SHAPES:
        return SHAPES[config]
    try:
        return PaperShape(**json.loads(Path(config).read_text()))
    except (OSError, TypeError, json.JSONDecodeError) as error:
        known = ", ".join(SHAPES)
        raise ValueError(
            f"--config {config} is none of {known}, and no file of a shape's fields: {error}"
        ) from None


def detect_shape(weights: Mapping[str, Tensor]) -> PaperShape:
    """The published configuration whose vertices and width these weights have.

    Raises:
        ValueError: neither has.
    """
    name = "denoiser.vertice_map.weight"
    found = tuple(weights[name].shape) if name in weights else None
    for shape in SHAPES.values():
        if found == (shape.width, shape.channels):
            return shape
    raise ValueError(
        f"{name} is {_list(found)}, which belongs to neither {' nor '.join(SHAPES)}: say which with --config."
    )


def network_of(
    weights: Mapping[str, Tensor], shape: PaperShape, encoder: Wav2Vec2Config | None = None
) -> PaperDiffSpeaker:
    """The network with these weights, in evaluation mode.

    Raises:
        ValueError: names are missing, left over, or of another shape; the message lists them.
    """
    with torch.device("meta"):  # names and shapes alone
        needed = PaperDiffSpeaker(shape, encoder).state_dict()
    given = {_modern(name): value for name, value in weights.items()}
    if _MASK in needed and _MASK not in given:  # only training masks; some checkpoints come without it
        given[_MASK] = torch.zeros(needed[_MASK].shape)
    faults = []
    if missing := sorted(needed.keys() - given.keys()):
        faults.append(f"missing: {_few(missing)}")
    if unknown := sorted(given.keys() - needed.keys()):
        faults.append(f"unknown: {_few(unknown)}")
    if wrong := [
        f"{name} is {_list(tuple(given[name].shape))} where {_list(tuple(value.shape))} is needed"
        for name, value in needed.items()
        if name in given and given[name].shape != value.shape
    ]:
        faults.append(_few(wrong))
    if faults:
        raise ValueError(f"the weights are not those of {shape.name}: {'; '.join(faults)}")
    net = PaperDiffSpeaker(shape, encoder).eval()
    net.load_state_dict(given)
    return net


def _modern(name: str) -> str:
    """A weight norm's two parameters under the names that PyTorch gives them since version 2."""
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        if name.endswith(f".{old}"):
            return f"{name.removesuffix(old)}parametrizations.weight.{new}"
    return name


def _list(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"[{', '.join(map(str, shape))}]"


def _few(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def read_template(path: Path, subject: str | None) -> NDArray[np.float32]:
    """A face at rest, float32 (V, 3): an ``.npy`` file, or one subject's of a ``templates.pkl``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no such template.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no template {path}.")
    held = np.load(path, allow_pickle=False) if path.suffix == ".npy" else read_pickle(path)
    if isinstance(held, Mapping):
        if subject not in held:
            asked = "say whose with --subject" if subject is None else f"there is no {subject} in it"
            raise ValueError(f"{path} holds several templates, {asked}: {', '.join(map(str, held))}.")
        held = held[subject]
    template = np.asarray(held, np.float32)
    if template.size % 3 or not np.isfinite(template).all():
        raise ValueError(f"{path} holds no (V, 3) finite numbers.")
    return template.reshape(-1, 3)


def write_rig(path: Path, template: NDArray[np.float32]) -> None:
    """The rig of a bundle that moves vertices: a template, and neither channels nor triangles."""
    np.savez_compressed(
        path,
        template=template,
        basis=np.zeros((0, *template.shape), np.float32),
        names=np.zeros(0, "U1"),
        faces=np.zeros((0, 3), np.int32),
    )


def style_names(shape: PaperShape, asked: str | None) -> list[str]:
    """A name for each style: those asked for, else the training subjects', else numbers.

    Raises:
        ValueError: too few or too many are asked for.
    """
    if asked is not None:
        names = [name.strip() for name in asked.split(",")]
        if len(names) != shape.styles or len(set(names)) != len(names):
            raise ValueError(f"--styles needs {shape.styles} different names, not {asked!r}.")
        return names
    if shape.name in EDITIONS and len(EDITIONS[shape.name].subjects["train"]) == shape.styles:
        return list(EDITIONS[shape.name].subjects["train"])
    return [f"style {number + 1}" for number in range(shape.styles)]


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    assert __doc__
    command = argparse.ArgumentParser(
        prog="python -m model.import_checkpoint", description=__doc__.split("\n\n")[0]
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a Lightning .ckpt, or our .safetensors")
    command.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="the folder to make")
    command.add_argument(
        "--config",
        metavar="NAME",
        help=f"{' or '.join(SHAPES)}, or a .json file of sizes; seen from the weights where not said",
    )
    command.add_argument(
        "--audio-encoder",
        type=Path,
        metavar="DIR",
        help="transformers folder whose config.json describes the checkpoint's audio encoder (wav2vec2 base)",
    )
    command.add_argument(
        "--template", type=Path, metavar="FILE", help="the face at rest: V x 3 as .npy, or templates.pkl"
    )
    command.add_argument("--subject", metavar="NAME", help="whose template, where the file holds several")
    command.add_argument("--styles", metavar="NAME,...", help="names for the styles (the training subjects')")
    command.add_argument(
        "--sampler",
        choices=("ddim_legacy", "ddim"),
        default="ddim_legacy",
        help="ddim_legacy, as published, or the correct ddim (%(default)s)",
    )
    command.add_argument("--steps", type=int, default=50, help="denoise steps (%(default)s)")
    command.add_argument("--name", help="the bundle's name (the configuration's)")
    command.add_argument("--licence", help="under which the weights may be used, for the manifest")
    return command


def import_checkpoint(options: argparse.Namespace) -> int:
    """Does what the command says; returns the export's exit code.

    Raises:
        FileNotFoundError, ValueError: in one sentence.
    """
    if not 1 <= options.steps <= STEPS:
        raise ValueError(f"--steps must lie between 1 and {STEPS}.")
    out: Path = options.out
    weights_file = options.file
    if options.file.suffix == ".safetensors":
        shape = read_checkpoint(options.file).shape
    else:
        print(f"reading {options.file} …")
        weights = read_lightning(options.file)
        shape = read_shape(options.config) if options.config else detect_shape(weights)
        folder = options.audio_encoder
        encoder = Wav2Vec2Config.from_pretrained(folder, local_files_only=True) if folder else None
        net = network_of(weights, shape, encoder)
        weights_file = out.with_name(out.name + ".safetensors")
        out.mkdir(parents=True, exist_ok=True)
        write_checkpoint(net, weights_file, step=0)
        print(f"wrote {weights_file}: {shape.name}, {sum(p.numel() for p in net.parameters()):,} parameters")
        del net, weights
    styles = style_names(shape, options.styles)
    out.mkdir(parents=True, exist_ok=True)
    if options.template is None:
        print("no --template: the bundle sends offsets from a template that only you have")
        template = np.zeros((shape.vertices, 3), np.float32)
    else:
        template = read_template(options.template, options.subject)
    if len(template) != shape.vertices:
        raise ValueError(
            f"{options.template} has {len(template)} vertices, where {shape.name} has {shape.vertices}."
        )
    write_rig(out / "rig.npz", template)
    command = [sys.executable, "-m", "export.paper", str(weights_file), "--out", str(out)]
    command += ["--name", options.name or shape.name, "--sampler", options.sampler]
    command += ["--steps", str(options.steps), "--styles", ",".join(styles)]
    if options.licence:
        command += ["--licence", options.licence]
    return subprocess.run(command, check=False).returncode


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        return import_checkpoint(parser().parse_args(argv))
    except (FileNotFoundError, ValueError, OSError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nimport_checkpoint: stopped; run the same command again to start over", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
