"""``python -m export CHECKPOINT --out BUNDLE``: a checkpoint becomes a bundle that the server can load.

Writes ``model.onnx``, compares it with PyTorch on fresh random inputs, and writes the manifest with the hash
of every file in the bundle's folder. The rig (``python -m export.rig``) must lie there already.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from export.graph import INPUTS, OUTPUT, Fused, example_inputs, rounded, write_graph
from model.diffusion import STUDENT_STEPS
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
from streamer.contract.errors import FaceError
from streamer.contract.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
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

TOLERANCE = (
    1e-4  # coefficients; both sides compute in float32 with equal weights, so only summation order differs
)


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


def worst_difference(fused: Fused, path: Path) -> float:
    """The largest difference between PyTorch and the graph over several batch sizes and styles."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, batch in enumerate((1, 3, 8), start=1):
        inputs = example_inputs(batch, seed)
        with torch.no_grad():
            expected = fused(*inputs.values()).numpy()
        (got,) = session.run([OUTPUT], {name: inputs[name].numpy() for name in INPUTS})
        worst = max(worst, float(np.abs(got - expected).max()))
    return worst


def training_facts(checkpoint: Path, hardware: str | None) -> Training:
    """Where the weights come from, out of the run's ``run.json`` beside the checkpoint where there is one."""
    run = checkpoint.parent / "run.json"
    facts = json.loads(run.read_text()) if run.exists() else {}
    lessons = []
    if facts.get("corpus") or facts.get("init") or not facts:
        lessons.append("synthetic English (Kokoro-82M, hibari, flite), curves from aligned phones")
    if "capture_minutes" in facts:
        lessons.append(f"{facts['capture_minutes']:g} minutes of captured faces")
    return Training(
        speech=" and ".join(lessons),
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
    fused = Fused(rounded(net))
    model_path = out / "model.onnx"
    print(f"exporting {options.checkpoint} …")
    write_graph(
        fused, model_path, {"bundle": options.name, "licence": "Apache-2.0", "steps": str(STUDENT_STEPS)}
    )
    worst = worst_difference(fused, model_path)
    print(f"PyTorch and ONNX differ by at most {worst:.2e} (allowed {TOLERANCE:.0e})")
    if worst > TOLERANCE:
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
            file=model_path.name,
            denoise_steps=len(STUDENT_STEPS),
            parameters=sum(p.numel() for p in net.parameters()),
            precision="float32 arithmetic, float16 storage",
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
