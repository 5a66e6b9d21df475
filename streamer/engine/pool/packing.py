"""A micro-batch on its way to the pool and back: windows and motion as bytes. Pure.

Little-endian. There: ``DSW1``, u32 B, then float32 arrays one behind the other: each input of the graph,
(B, …), in the manifest's order. Back: ``DSM1``, u32 B, then the motion, float32 (B, T, C). The sizes are the
manifest's, which both ends hold and compare first (``replica``); what does not fit them is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.engine.backend import Question

F32 = npt.NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]

VERSION = 1
_HEAD = struct.Struct("<4sI")
_WINDOWS, _MOTION = b"DSW1", b"DSM1"


class Packed:
    """A window that came as bytes; its arrays by the names of the graph's inputs."""

    audio: F32
    noise: F32
    prefix: F32
    prefix_mask: F32
    style: F32


def pack_windows(requests: Sequence[Question], shapes: Shapes) -> bytes:
    """B windows as bytes; ``shapes`` are the graph's inputs', without the batch."""
    parts = [_HEAD.pack(_WINDOWS, len(requests))]
    for name in shapes:
        parts += [np.ascontiguousarray(getattr(request, name), "<f4").tobytes() for request in requests]
    return b"".join(parts)


def unpack_windows(message: bytes, shapes: Shapes) -> list[Packed]:
    """The windows of a message, as views of it.

    Raises:
        FaceError: ``bad_message``, it is none, or its size is not that of so many windows.
    """
    count, arrays = _arrays(message, _WINDOWS, shapes)
    windows = [Packed() for _ in range(count)]
    for name, array in arrays.items():
        for row, window in enumerate(windows):
            setattr(window, name, array[row])
    return windows


def pack_motion(motion: F32) -> bytes:
    """Motion, float32 (B, T, C), as bytes."""
    return _HEAD.pack(_MOTION, len(motion)) + np.ascontiguousarray(motion, "<f4").tobytes()


def unpack_motion(message: bytes, shape: tuple[int, ...]) -> F32:
    """The motion of a message, float32 (B, T, C), where ``shape`` is (T, C); raises as ``unpack_windows``."""
    return _arrays(message, _MOTION, {"motion": shape})[1]["motion"]


def _arrays(message: bytes, kind: bytes, shapes: Shapes) -> tuple[int, dict[str, F32]]:
    if len(message) < _HEAD.size or message[:4] != kind:
        raise FaceError("bad_message", f"This is no message {kind.decode()} of {len(message)} bytes.")
    count = _HEAD.unpack_from(message)[1]
    size = 4 * count * sum(math.prod(shape) for shape in shapes.values())
    if len(message) != _HEAD.size + size:
        raise FaceError("bad_message", f"{count} windows are {size} bytes, not {len(message) - _HEAD.size}.")
    values = np.frombuffer(message, "<f4", offset=_HEAD.size)
    arrays, place = {}, 0
    for name, shape in shapes.items():
        length = count * math.prod(shape)
        arrays[name] = values[place : place + length].reshape(count, *shape)
        place += length
    return count, arrays
