"""``diffspeaker info``: what the model is, where it comes from, and what this machine can run it on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamer.cli.config import option, parse
from streamer.contract.errors import FaceError
from streamer.engine.backend import OnnxBackend, available_providers, default_threads
from streamer.engine.bundle import Bundle
from streamer.engine.providers import NAMES, Rung, preferred_providers, short

DESCRIPTION = "Shows the model bundle, its origin, what a session may choose, and the processors found."


@dataclass(frozen=True)
class InfoOptions:
    """The options of ``diffspeaker info``."""

    bundle: Path | None = option(None, "the model's folder; the one that ships where none is given")
    json: bool = option(False, "print one JSON object")


def run(argv: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = parse(InfoOptions, argv, "diffspeaker info", DESCRIPTION)
    facts = _facts(Bundle.load(options.bundle))
    print(json.dumps(facts, indent=2) if options.json else _table(facts))
    return 0


def _facts(bundle: Bundle) -> dict[str, object]:
    """Everything, as JSON types. Loading the bundle has checked every file's hash already."""
    manifest = bundle.manifest
    timing, grid = manifest.timing, manifest.timing.grid()
    return {
        "bundle": f"{manifest.name} {manifest.version}",
        "folder": str(bundle.folder),
        "licence": manifest.licence,
        "files": {name: "sha256 ok" for name in manifest.files},
        "model": msgspec.to_builtins(manifest.model),
        "motion": {
            "kind": manifest.motion.kind,
            "channels": len(manifest.motion.channels),
            "unit": manifest.motion.unit,
        },
        "rig": msgspec.to_builtins(manifest.rig),
        "styles": manifest.styles,
        "style_scales": manifest.style_scales,
        "default_style": manifest.default_style,
        "timing": {
            "sample_rate_hz": timing.sample_rate_hz,
            "frame_rate_hz": timing.frame_rate_hz,
            "window_ms": round(1000 * timing.window_samples / timing.sample_rate_hz, 1),
            "hop_ms": [
                round(grid.hop_ms(frames), 1)
                for frames in (timing.hop.min_frames, timing.hop.default_frames, timing.hop.max_frames)
            ],
            "lookahead_ms": [
                round(grid.lookahead_ms(frames), 1)
                for frames in (
                    timing.lookahead.min_frames,
                    timing.lookahead.default_frames,
                    timing.lookahead.max_frames,
                )
            ],
        },
        "training": msgspec.to_builtins(manifest.training),
        "computes": _computes(bundle),
    }


def _computes(bundle: Bundle) -> dict[str, object]:
    """What computes on this machine, and of everything else why it does not."""
    try:
        found = available_providers()
        backend = OnnxBackend(bundle)
    except FaceError as error:
        if error.code == "bad_bundle":
            raise
        return {"error": str(error)}
    used = Rung(backend.provider, backend.variant)
    reasons = {str(tried.rung): tried.reason for tried in backend.tried if tried.reason}
    for name, provider in NAMES.items():
        if provider not in found:
            reasons[name] = "the installed ONNX Runtime was built without it"
        elif provider not in {tried.rung.provider for tried in backend.tried}:
            named = "it is used only when --provider names it"
            reasons[name] = f"{used} is better" if provider in preferred_providers(found) else named
    for variant in bundle.variants:
        if variant != backend.variant and f"{short(backend.provider)} {variant}" not in reasons:
            reasons[f"{short(backend.provider)} {variant}"] = f"{used} is better"
    return {"with": str(used), "threads": default_threads(), "not_with": reasons}


def _table(facts: dict[str, object]) -> str:
    """The facts as indented lines, a name and its value each."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines.append(name.replace("_", " "))
            for key, entry in value.items():
                text = _text(key, entry)
                lines += [f"  {key.replace('_', ' '):<16} {line}" for line in text.splitlines()[:1]]
                lines += [f"  {'':<16} {line}" for line in text.splitlines()[1:]]
        else:
            lines.append(f"{name.replace('_', ' '):<18} {_text(name, value)}")
    return "\n".join(lines)


def _text(name: str, value: object) -> str:
    if name in ("hop_ms", "lookahead_ms") and isinstance(value, list):
        low, default, high = value
        return f"{default} (from {low} to {high})"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return "\n".join(f"{key}: {entry}" for key, entry in value.items()) or "none"
    return str(value)
