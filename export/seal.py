"""``python -m export.seal [BUNDLE]``: takes a bundle's files as they now are, and writes their hashes anew.

For when a file of a bundle was replaced on purpose, such as a rebuilt face.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from streamer.contract.errors import FaceError
from streamer.contract.manifest import MANIFEST_NAME, Manifest, sha256, write_manifest


def reseal(bundle: Path) -> None:
    """Lists every file of the bundle's folder with its hash, and the rig's vertices; checks the result.

    Raises:
        FaceError: ``bad_bundle``.
        OSError: there is no manifest.
    """
    manifest = msgspec.json.decode((bundle / MANIFEST_NAME).read_bytes(), type=Manifest)
    with np.load(bundle / manifest.rig.file, allow_pickle=False) as rig:
        vertices = len(rig["template"])
    names = sorted(path.name for path in bundle.iterdir() if path.is_file() and path.name != MANIFEST_NAME)
    files = {name: sha256(bundle / name) for name in names}
    rig_facts = msgspec.structs.replace(manifest.rig, vertices=vertices)
    write_manifest(msgspec.structs.replace(manifest, files=files, rig=rig_facts), bundle)


def main(argv: list[str] | None = None) -> int:
    """Reseals one bundle; returns the exit code."""
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m export.seal", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("streamer/bundles/default"))
    options = parser.parse_args(argv)
    try:
        reseal(options.bundle)
    except (FaceError, OSError, msgspec.DecodeError) as error:
        print(f"export.seal: {error}", file=sys.stderr)
        return 2
    print(f"sealed {options.bundle}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
