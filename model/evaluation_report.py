"""The JSON that an evaluation grows: accounts by set, kept from run to run as long as they answer for the
same.

A report stands on a *basis*: the digest of the model, of the rules and measures, and which recordings were
taken. Accounts on another basis are thrown away, so that one file never mixes two bundles. It is written
after every account, in one step, so that it is whole whenever a run is stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from model.provenance import provenance
from streamer.contract.manifest import Manifest

Account = dict[str, Any]


class Report:
    """The accounts so far, and the file that holds them.

    Args:
        path: the file.
        basis: what the accounts answer for.
        bundle: what was measured, for people.
        sets: the names under which accounts stand.
    """

    def __init__(self, path: Path, basis: Mapping[str, Any], bundle: Account, sets: tuple[str, ...]) -> None:
        self._path = path
        self.facts: Account = {"bundle": bundle, "basis": dict(basis)}
        if not path.exists():
            return
        earlier: Account = json.loads(path.read_text())
        if earlier.get("basis") == basis:
            self.facts |= {name: earlier[name] for name in sets if name in earlier}
        else:
            print(
                f"{path} holds figures of another bundle, other rules or another --every: they are replaced."
            )

    def put(self, figures: Mapping[str, float], *place: str) -> None:
        """Puts an account where the names lead and writes the file; what is not finite becomes null."""
        *folders, name = place
        section = self.facts
        for folder in folders:
            section = section.setdefault(folder, {})
        section[name] = {key: value if math.isfinite(value) else None for key, value in figures.items()}
        part = self._path.with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({**self.facts, **provenance()}, indent=2) + "\n")
        part.replace(self._path)


def about(manifest: Manifest, megabytes: float) -> Account:
    """What a model card says of a bundle of this size."""
    model, training = manifest.model, manifest.training
    return {
        "name": manifest.name,
        "version": manifest.version,
        "parameters": model.parameters,
        "denoise_steps": model.denoise_steps,
        "precision": model.precision,
        "megabytes": round(megabytes, 1),
        "speech": training.speech,
        "speech_hours": training.speech_hours,
        "audio_encoder": training.audio_encoder,
        "hardware": training.hardware,
        "hours": training.hours,
        "commit": training.commit,
    }


def digest(*sources: ModuleType | Path) -> str:
    """Twelve hex digits of modules' sources and of all sources in folders."""
    found = hashlib.sha256()
    for source in sources:
        path = source if isinstance(source, Path) else Path(str(source.__file__))
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    return found.hexdigest()[:12]
