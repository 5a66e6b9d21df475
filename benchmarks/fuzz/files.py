"""The readers of files that are fuzzed: a bundle, whoever made it, and a sound file.

A reader of files becomes a function of bytes by writing them to a file first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

Function = Callable[[bytes], None]

_MOST_SAMPLES = 1 << 22  # read of one sound file: a file may rightly last for hours


def in_file(folder: Path, name: str, read: Callable[[Path], object]) -> Function:
    path = folder / name

    def function(given: bytes) -> None:
        path.write_bytes(given)
        read(path)

    return function


def bundle(folder: Path) -> Function:
    """A bundle one file of which is the input, with a hash that matches: the first byte says which.

    ``M`` the manifest, ``R`` the rig's npz, ``A`` an array of it without the zip around it, ``G`` the graph.
    """
    import numpy as np

    from streamer.contract.manifest import read_manifest
    from streamer.engine.backend import OnnxBackend
    from streamer.engine.bundle import Bundle
    from tests import fakes

    made = fakes.write_bundle(folder / "bundle")
    files = {b"R": made / "rig.npz", b"A": made / "rig.npz", b"G": made / "model.onnx"}
    good = {path: path.read_bytes() for path in (*files.values(), made / "manifest.json")}
    hashes = read_manifest(made).files

    def read(given: bytes) -> None:
        kind, rest = given[:1], given[1:]
        for path, content in good.items():
            path.write_bytes(content)
        if kind == b"A":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for name in ("template", "basis", "faces", "names"):
                    archive.writestr(f"{name}.npy", rest)
            rest = packed.getvalue()
        if kind in files:
            path = files[kind]
            path.write_bytes(rest)
            right = hashlib.sha256(rest).hexdigest().encode()
            manifest = good[made / "manifest.json"].replace(hashes[path.name].encode(), right)
            (made / "manifest.json").write_bytes(manifest)
        else:
            (made / "manifest.json").write_bytes(rest)
        loaded = Bundle.load(made)
        if kind in (b"R", b"A"):
            assert np.isfinite(loaded.rig.template).all()
        else:
            OnnxBackend(loaded, threads=1)

    return read


def bundle_seeds(folder: Path) -> list[bytes]:
    from tests import fakes

    made = fakes.write_bundle(folder / "seeds")
    rig, plain = made / "rig.npz", folder / "plain.npz"
    with zipfile.ZipFile(rig) as packed, zipfile.ZipFile(plain, "w") as stored:
        arrays = [packed.read(name) for name in packed.namelist()]
        for name in packed.namelist():
            stored.writestr(name, packed.read(name))
    manifest = (made / "manifest.json").read_bytes()
    compact = json.dumps(json.loads(manifest), separators=(",", ":")).encode()
    graph = (made / "model.onnx").read_bytes()
    huge = b"{'descr':'<f4','fortran_order':False,'shape':(1000000000000,3)}\n"
    return [
        *(b"M" + text for text in (manifest, compact)),
        *(b"R" + path.read_bytes() for path in (rig, plain)),
        *(b"A" + array for array in arrays),
        b"A\x93NUMPY\x01\0" + struct.pack("<H", len(huge)) + huge,
        b"G" + graph,
    ]


def sound(folder: Path) -> Function:
    from streamer.engine.recording import Recording

    def read(path: Path) -> None:
        heard = 0
        for chunk in Recording.open(path).chunks():
            assert len(chunk) <= 1 << 20
            heard += len(chunk)
            if heard > _MOST_SAMPLES:
                break

    return in_file(folder, "sound", read)


_SOUNDS = (
    *(("WAV", kind) for kind in ("PCM_16", "PCM_U8", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    *(("FLAC", kind) for kind in ("PCM_16", "PCM_24")),
    *(("OGG", kind) for kind in ("VORBIS", "OPUS")),
    ("MP3", "MPEG_LAYER_III"),
    *((kind, "PCM_16") for kind in ("AIFF", "AU", "CAF", "W64", "RF64", "NIST", "IRCAM", "VOC", "PVF")),
    *((kind, "PCM_16") for kind in ("AVR", "HTK", "MAT4", "MAT5", "MPC2K", "PAF", "SDS", "SVX")),
    ("XI", "DPCM_16"),
)


def sound_seeds(folder: Path) -> list[bytes]:
    import soundfile

    from tests import fakes

    found = [endless_flac()]
    for form, kind in _SOUNDS:
        packed = io.BytesIO()
        with contextlib.suppress(soundfile.SoundFileError):  # a build of the library may lack a format
            soundfile.write(packed, fakes.speech(0.1, 8_000), 8_000, format=form, subtype=kind)
            found.append(packed.getvalue())
    return found


def endless_flac(samples: int = (1 << 36) - 1) -> bytes:
    """A FLAC file of 42 bytes whose header promises so many samples, and 655,350 of them each second."""
    packed = (655_350 << 44) | (7 << 41) | (15 << 36) | samples
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80" + len(info).to_bytes(3, "big") + info
