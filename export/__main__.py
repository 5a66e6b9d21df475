"""``python -m export CHECKPOINT --speech CORPUS --out BUNDLE``: a checkpoint becomes a bundle that the server
can load.

Writes the graph and its variants (``export.variants``), compares each with PyTorch on fresh random inputs
(``export.parity``), and writes the manifest with the hash of every file in the bundle's folder. The rig
(``python -m export.rig``) must lie there already. The variant int8 is fixed by listening to speech, so there
is none without a corpus.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from export.graph import INPUTS, Fused, build_graph
from export.parity import agree
from export.variants import FILES, Window, round_weights, write_variants
from model.diffusion import SCHEDULES, STUDENT_STEPS
from model.network import DiffSpeaker
from model.shape import (
    CHANNELS,
    DEFAULT_HOP_FRAMES,
    DEFAULT_LOOKAHEAD_FRAMES,
    GRID,
    MAX_HOP_FRAMES,
    MAX_LOOKAHEAD_FRAMES,
    PREFIX_FRAMES,
    STYLE_SCALES,
    STYLES,
)
from model.speech import Windows, build_strip
from streamer.contract.errors import FaceError
from streamer.contract.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    REFERENCE,
    Choice,
    Manifest,
    Model,
    Motion,
    Rig,
    Timing,
    Training,
    sha256,
    write_manifest,
)

LISTENING_SEED, LISTENING_BATCHES = 7, 16  # of 16 windows each
NAMES = {"kokoro": "Kokoro-82M", "espeak": "eSpeak NG", "festival": "Festival"}


def timing() -> Timing:
    """The manifest's time base, from the model's shape."""
    hop_samples = GRID.frame_sample(DEFAULT_HOP_FRAMES)
    lookahead_samples = GRID.lookahead_samples(DEFAULT_LOOKAHEAD_FRAMES)
    return Timing(
        sample_rate_hz=GRID.sample_rate_hz,
        frame_rate_hz=GRID.frame_rate_hz,
        window_samples=GRID.window_samples,
        tail_samples=GRID.tail_samples,
        segment_frames=GRID.segment_frames,
        context_frames=GRID.context_frames(DEFAULT_HOP_FRAMES, DEFAULT_LOOKAHEAD_FRAMES),
        context_samples=GRID.window_samples - hop_samples - lookahead_samples,
        hop=Choice(1, MAX_HOP_FRAMES, DEFAULT_HOP_FRAMES, hop_samples),
        lookahead=Choice(0, MAX_LOOKAHEAD_FRAMES, DEFAULT_LOOKAHEAD_FRAMES, lookahead_samples),
        prefix_frames=PREFIX_FRAMES,
    )


def listening(corpus: Path | None, cache: Path) -> list[Window]:
    """Windows of a corpus as training draws them, with noise, rooms and prefixes; none without a corpus."""
    if corpus is None:
        return []
    lessons = Windows(build_strip(corpus, cache, held_out=False), seed=LISTENING_SEED)
    generator = torch.Generator().manual_seed(LISTENING_SEED)
    windows = []
    for _ in range(LISTENING_BATCHES):
        batch = lessons.draw(16)
        back = torch.randint(1, MAX_HOP_FRAMES + MAX_LOOKAHEAD_FRAMES + 1, (16, 1), generator=generator)
        place = torch.arange(GRID.segment_frames)[None] - (GRID.segment_frames - back)
        mask = ((place < 0) & (place >= -PREFIX_FRAMES)).float()
        values = (batch.audio, batch.noise, batch.motion * mask[..., None], mask, batch.style)
        windows.append({name: value.numpy() for name, value in zip(INPUTS, values, strict=True)})
    return windows


def english(engines: Sequence[str]) -> str:
    """Who spoke the lessons, in words."""
    names = [NAMES.get(engine, engine) for engine in engines if engine != "people"]
    people = " and actors in free games" if "people" in engines else ""
    return f"synthetic English ({', '.join(names)}){people}, curves from aligned phones"


def training_facts(checkpoint: Path, hardware: str | None) -> Training:
    """Where the weights come from, out of the run's ``run.json`` beside the checkpoint where there is one."""
    run = checkpoint.parent / "run.json"
    facts = json.loads(run.read_text()) if run.exists() else {}
    lessons = []
    if facts.get("corpus") or facts.get("init") or not facts:
        lessons.append(english(facts.get("engines", ["kokoro", "hibari", "flite"])))
    if "capture_minutes" in facts:
        lessons.append(f"{facts['capture_minutes']:g} minutes of captured faces")
    return Training(
        speech=facts.get("speech") or " and ".join(lessons),
        speech_hours=round(float(facts.get("speech_hours", 0)), 2),
        audio_encoder="Whisper tiny.en encoder, 3 layers (MIT)",
        hardware=hardware or str(facts.get("hardware", "unknown")),
        hours=round(float(facts.get("hours", 0)), 2),
        commit=str(facts.get("commit", "")),
    )


def main(argv: list[str] | None = None) -> int:
    """Writes the bundle; returns the exit code."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", type=Path, help="student.safetensors of a training run")
    parser.add_argument(
        "--out", type=Path, default=Path("streamer/bundles/default"), help="the bundle (%(default)s)"
    )
    parser.add_argument("--name", default="default", help="the bundle's name (%(default)s)")
    parser.add_argument("--version", default="0.1.0", help="the bundle's version (%(default)s)")
    parser.add_argument(
        "--speech", type=Path, metavar="CORPUS", help="what int8 is fixed by: the corpus of the training"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/strip"), help="the decoded corpus (%(default)s)"
    )
    parser.add_argument(
        "--steps",
        type=int,
        choices=sorted(SCHEDULES),
        default=len(STUDENT_STEPS),
        help="denoise steps (%(default)s)",
    )
    parser.add_argument("--hardware", help="what it was trained on (what the run's run.json says)")
    options = parser.parse_args(argv)
    out: Path = options.out
    with safe_open(options.checkpoint, framework="pt") as file:
        is_paper = "audio_encoder" in (file.metadata() or {})
    if is_paper:
        print(f"export: {options.checkpoint} holds the paper's network: use export.paper", file=sys.stderr)
        return 2
    rig_path = out / "rig.npz"
    if not rig_path.exists():
        print(f"export: {rig_path} is missing: run `python -m export.rig --out {out}` first", file=sys.stderr)
        return 2
    net = DiffSpeaker()
    net.load_state_dict(load_file(options.checkpoint))
    round_weights(net)
    steps = SCHEDULES[options.steps]
    print(f"exporting {options.checkpoint} …")
    facts = {"bundle": options.name, "licence": "Apache-2.0", "steps": " ".join(map(str, steps))}
    variants = write_variants(
        build_graph(Fused(net, steps), facts), out, listening(options.speech, options.cache)
    )
    if "int8" not in variants:
        print("without --speech there is no int8 variant, which a processor computes fastest")
    if not agree(net, steps, {REFERENCE: out / FILES[REFERENCE]} | {n: out / f for n, f in variants.items()}):
        return 1
    with np.load(rig_path, allow_pickle=False) as rig:
        vertices = len(rig["template"])
    names = sorted(path.name for path in out.iterdir() if path.is_file() and path.name != MANIFEST_NAME)
    manifest = Manifest(
        format="diffspeaker-bundle",
        format_version=FORMAT_VERSION,
        name=options.name,
        version=options.version,
        licence="Apache-2.0",
        timing=timing(),
        model=Model(
            file=FILES[REFERENCE],
            denoise_steps=len(steps),
            parameters=sum(p.numel() for p in net.parameters()),
            precision="8-bit weights",
            variants=variants,
        ),
        motion=Motion("coefficients", list(CHANNELS), "ARKit coefficient", 0.0, 1.0),
        styles=list(STYLES),
        style_scales=list(STYLE_SCALES),
        default_style=STYLES[0],
        rig=Rig("MakeHuman head", rig_path.name, "avatar.glb", vertices, "CC0-1.0"),
        training=training_facts(options.checkpoint, options.hardware),
        files={name: sha256(out / name) for name in names},
    )
    write_manifest(manifest, out)
    print(f"wrote {out} ({sum((out / name).stat().st_size for name in names) / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (FaceError, FileNotFoundError) as error:
        print(f"export: {error}", file=sys.stderr)
        sys.exit(2)
