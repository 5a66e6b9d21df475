"""Frames into files: ``.csv`` for people and tools, ``.npz`` for programs.

A file appears under its name only when it is complete: it is written beside it under a temporary name and
then moved, so an error or Ctrl-C never leaves half an animation. Neither format holds the whole animation's
vertices in memory: csv rows are written as they come, npz keeps the model's frames in a temporary file and
derives the vertices block by block.

csv: a header ``time_s,<channel names>``, then one row per frame; the time is on the audio's own clock. npz:
``coefficients`` float32 (n, C), ``vertices`` float32 (n, V, 3) in metres, ``time_s`` float64 (n,),
``faces`` (F, 3), ``channels`` (C,) of text and ``metadata``, one text of JSON. It loads without pickle.

A model that moves vertices itself has no coefficients, so its npz has neither ``coefficients`` nor
``channels``, and it has no csv: thousands of numbers in a row are for programs.
"""

from __future__ import annotations

import json
import os
import tempfile
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
    if manifest.motion.kind == "vertices":
        raise FaceError(
            "bad_output",
            f"{path} cannot be a csv: this bundle moves vertices and has no coefficients.",
            "Name the output .npz, or choose --format npz.",
        )
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
    grid, width = manifest.timing.grid(), manifest.frame_width
    with (
        _complete_or_absent(path) as stream,
        zipfile.ZipFile(stream, "w") as archive,
        tempfile.TemporaryFile(dir=path.parent) as gathered,
    ):
        count = 0
        for block in blocks:
            gathered.write(block.values.astype("<f4").tobytes())
            count += len(block.values)
        _write_array(archive, "time_s", np.array([grid.frame_time_s(frame) for frame in range(count)]))
        _write_array(archive, "faces", rig.faces)
        _write_array(archive, "metadata", np.array(json.dumps(metadata)))
        if manifest.motion.kind == "coefficients":
            _write_array(archive, "channels", np.array(manifest.motion.channels))
            with _member(archive, "coefficients", (count, width)) as member:
                for frames in _frames(gathered, width):
                    member.write(frames.tobytes())
        with _member(archive, "vertices", (count, *rig.template.shape)) as member:
            for frames in _frames(gathered, width):
                member.write(bundle.vertices(frames).astype("<f4").tobytes())
    return count


def _frames(gathered: IO[bytes], width: int) -> Iterator[F32]:
    """What was gathered, from the start, in blocks of frames."""
    gathered.seek(0)
    while block := gathered.read(4 * width * _VERTEX_BLOCK_FRAMES):
        yield np.frombuffer(block, "<f4").reshape(-1, width)


@contextmanager
def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """A float32 array's place in the archive, its header written; its values follow in order."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
        yield member


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
