"""Frames as numpy arrays, ``.npz``: everything there is, for programs.

``coefficients`` float32 (n, C), ``vertices`` float32 (n, V, 3) in metres, ``time_s`` float64 (n,), ``faces``
(F, 3), ``channels`` (C,) of text and ``metadata``, one text of JSON. It loads without pickle. A model that
moves vertices itself has no coefficients, so its file has neither ``coefficients`` nor ``channels``.

The animation is never whole in memory: the model's frames are kept in a temporary file, and the vertices are
derived from it block by block.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from streamer.core.crossfader import FrameBlock
from streamer.engine.animation.whole import whole_file
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]

_VERTEX_BLOCK_FRAMES, _TIMES_AT_ONCE = 64, 4096


def write_npz(
    path: Path, blocks: Iterable[FrameBlock], bundle: Bundle, metadata: Mapping[str, object]
) -> int:
    """Writes all frames, their vertices and the metadata; returns how many frames.

    Raises:
        FaceError: ``bad_output``, and whatever ``blocks`` raises.
    """
    manifest, rig = bundle.manifest, bundle.rig
    rate_hz, width = manifest.timing.frame_rate_hz, manifest.frame_width
    with (
        whole_file(path) as stream,
        zipfile.ZipFile(stream, "w") as archive,
        tempfile.TemporaryFile(dir=path.parent) as gathered,
    ):
        count = 0
        for block in blocks:
            gathered.write(block.values.astype("<f4").tobytes())
            count += len(block.values)
        with _member(archive, "time_s", (count,), "<f8") as member:
            for first in range(0, count, _TIMES_AT_ONCE):
                frames = np.arange(first, min(first + _TIMES_AT_ONCE, count))
                member.write((frames / rate_hz).astype("<f8").tobytes())
        _write_array(archive, "faces", rig.faces)
        _write_array(archive, "metadata", np.array(json.dumps(metadata)))
        if manifest.motion.kind == "coefficients":
            _write_array(archive, "channels", np.array(manifest.motion.channels))
            with _member(archive, "coefficients", (count, width)) as member:
                for values in _frames(gathered, width):
                    member.write(values.tobytes())
        with _member(archive, "vertices", (count, *rig.template.shape)) as member:
            for values in _frames(gathered, width):
                member.write(bundle.vertices(values).astype("<f4").tobytes())
    return count


def _frames(gathered: IO[bytes], width: int) -> Iterator[F32]:
    """What was gathered, from the start, in blocks of frames."""
    gathered.seek(0)
    while block := gathered.read(4 * width * _VERTEX_BLOCK_FRAMES):
        yield np.frombuffer(block, "<f4").reshape(-1, width)


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], descr: str = "<f4"
) -> Iterator[IO[bytes]]:
    """An array's place in the archive, its header written; its values follow in order."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, {"descr": descr, "fortran_order": False, "shape": shape})
        yield member


def _write_array(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
