"""Frames into files: ``.csv`` for people and tools, ``.npz`` for programs.

A file appears under its name only when it is complete: it is written beside it under a temporary name and
then moved, so an error or Ctrl-C never leaves half an animation. Neither format holds the whole animation's
vertices in memory: csv rows are written as they come, npz gathers the coefficients and derives the vertices
block by block.

csv: a header ``time_s,<channel names>``, then one row per frame; the time is on the audio's own clock. npz:
``coefficients`` float32 (n, C), ``vertices`` float32 (n, V, 3) in metres, ``time_s`` float64 (n,),
``faces`` (F, 3), ``channels`` (C,) of text and ``metadata``, one text of JSON. It loads without pickle.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.core.crossfader import FrameBlock
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]

FORMATS = ("csv", "npz")
_VERTEX_BLOCK_FRAMES = 64


def write_csv(path: Path, blocks: Iterable[FrameBlock], bundle: Bundle) -> int:
    """Writes frames as they come; returns how many.

    Raises:
        FaceError: ``bad_output``, and whatever ``blocks`` raises.
    """
    manifest = bundle.manifest
    grid, count = manifest.timing.grid(), 0
    with _complete_or_absent(path) as stream:
        stream.write(",".join(["time_s", *manifest.motion.channels]).encode() + b"\n")
        for block in blocks:
            times = [grid.frame_time_s(block.first_frame + row) for row in range(len(block.values))]
            np.savetxt(stream, np.column_stack([times, block.values]), fmt="%.6f", delimiter=",")
            count += len(block.values)
    return count


def write_npz(
    path: Path, blocks: Iterable[FrameBlock], bundle: Bundle, metadata: Mapping[str, object]
) -> int:
    """Writes all frames, their vertices and the metadata; returns how many frames.

    Raises:
        FaceError: ``bad_output``, and whatever ``blocks`` raises.
    """
    manifest, rig = bundle.manifest, bundle.rig
    grid = manifest.timing.grid()
    with _complete_or_absent(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        gathered = [np.zeros((0, len(manifest.motion.channels)), np.float32)]
        gathered += [block.values for block in blocks]
        coefficients = np.concatenate(gathered)
        count = len(coefficients)
        _write_array(archive, "coefficients", coefficients)
        _write_array(archive, "time_s", np.array([grid.frame_time_s(frame) for frame in range(count)]))
        _write_array(archive, "faces", rig.faces)
        _write_array(archive, "channels", np.array(manifest.motion.channels))
        _write_array(archive, "metadata", np.array(json.dumps(metadata)))
        with archive.open("vertices.npy", "w", force_zip64=True) as member:
            shape = (count, *rig.template.shape)
            np.lib.format.write_array_header_2_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
            for start in range(0, count, _VERTEX_BLOCK_FRAMES):
                moved = bundle.vertices(coefficients[start : start + _VERTEX_BLOCK_FRAMES])
                member.write(moved.astype("<f4").tobytes())
    return count


def _write_array(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


@contextmanager
def _complete_or_absent(path: Path) -> Iterator[IO[bytes]]:
    """A stream that becomes ``path`` when the block ends well, and leaves nothing when it does not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            yield stream
        part.replace(path)
    except OSError as error:
        raise FaceError("bad_output", f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        part.unlink(missing_ok=True)
