"""The avatar with its animation baked in: a ``.glb`` that plays wherever glTF plays.

It is the bundle's ``avatar.glb`` as it is, morph targets and their names included, and one animation: a
single sampler of all weights over time, which every mesh that moves shares.

1. Keys stand at the frames' times on the audio's clock, linear between them, so sound and face start
   together.
2. Weights are 16-bit, normalised, where the bundle's coefficients lie in [0, 1]: 104 bytes a frame, and a
   step of 1/65,535 is far below what a face shows. Other ranges are kept as float32.
3. Weights go to the file as they come and the times after them, so no animation is too long for the memory.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.contract.errors import FaceError
from streamer.core.crossfader import FrameBlock
from streamer.engine.animation import glb
from streamer.engine.animation.whole import whole_file
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]

_TIMES_AT_ONCE = 4096
_OURS = ("input", "output")  # paths on this machine are nobody else's business
_ROOM, _ROOM_PER_NODE = 2048, 80  # bytes of JSON for what an animation adds, without its extras


def write_glb(
    path: Path, blocks: Iterable[FrameBlock], bundle: Bundle, metadata: Mapping[str, object]
) -> int:
    """Writes the avatar, moving; returns how many frames.

    Args:
        path: the file.
        blocks: frames in order.
        bundle: one with coefficients and an avatar.
        metadata: what the animation should say of itself, in its ``extras``.

    Raises:
        FaceError: ``bad_bundle``, its avatar cannot be animated; ``bad_output``; whatever ``blocks`` raises.
    """
    document, binary = _avatar(bundle)
    names = _target_names(document, bundle)
    channels = {name: place for place, name in enumerate(bundle.manifest.motion.channels)}
    places = [(target, channels[name]) for target, name in enumerate(names) if name in channels]
    targets, chosen = [target for target, _ in places], [place for _, place in places]
    motion, rate_hz, count = bundle.manifest.motion, bundle.manifest.timing.frame_rate_hz, 0
    is_unit = motion.minimum >= 0 and motion.maximum <= 1
    extras = {"extras": {name: value for name, value in metadata.items() if name not in _OURS}}
    with whole_file(path) as stream:
        room = len(glb.encode(document)) + len(glb.encode(extras))
        room += _ROOM + _ROOM_PER_NODE * len(document["nodes"])
        file = glb.GlbWriter(stream, room)
        file.write(binary)
        weights_at = file.align()
        for block in blocks:
            weights = np.zeros((len(block.values), len(names)), np.float32)
            weights[:, targets] = block.values[:, chosen]
            file.write(_unsigned_shorts(weights) if is_unit else weights.astype("<f4").tobytes())
            count += len(weights)
        check_length(path, count)
        times_at = file.align()
        for times in frame_times(count, rate_hz):
            file.write(times)
        views, accessors = document["bufferViews"], document["accessors"]
        size = count * len(names) * (2 if is_unit else 4)
        views += [
            {"buffer": 0, "byteOffset": weights_at, "byteLength": size},
            {"buffer": 0, "byteOffset": times_at, "byteLength": 4 * count},
        ]
        accessors += [
            time_accessor(len(views) - 1, count, rate_hz),
            {
                "bufferView": len(views) - 2,
                "componentType": glb.UNSIGNED_SHORT if is_unit else glb.FLOAT,
                **({"normalized": True} if is_unit else {}),
                "count": count * len(names),
                "type": "SCALAR",
            },
        ]
        moving = [node for node, entry in enumerate(document["nodes"]) if _targets_of(document, entry)]
        document["animations"] = [
            {
                "name": path.stem,
                "samplers": [
                    {
                        "input": len(accessors) - 2,
                        "output": len(accessors) - 1,
                        "interpolation": "LINEAR",
                    }
                ],
                "channels": [{"sampler": 0, "target": {"node": node, "path": "weights"}} for node in moving],
                **extras,
            }
        ]
        file.finish(document)
    return count


def frame_times(count: int, rate_hz: int) -> Iterator[bytes]:
    """The times of ``count`` frames in seconds, little-endian float32, a few thousand at a time."""
    for first in range(0, count, _TIMES_AT_ONCE):
        frames = np.arange(first, min(first + _TIMES_AT_ONCE, count))
        yield (frames / rate_hz).astype("<f4").tobytes()


def time_accessor(view: int, count: int, rate_hz: int) -> glb.Document:
    """The accessor over the times that ``frame_times`` gives; glTF wants to know their ends exactly."""
    return {
        "bufferView": view,
        "componentType": glb.FLOAT,
        "count": count,
        "type": "SCALAR",
        "min": [0.0],
        "max": [float(np.float32((count - 1) / rate_hz))],
    }


def check_length(path: Path, count: int) -> None:
    """Refuses an animation of no frames, which glTF has no way to say; FaceError ``bad_output``."""
    if not count:
        raise FaceError("bad_output", f"{path} would hold no frame: the recording is too short.", "")


def _unsigned_shorts(weights: F32) -> bytes:
    return np.round(np.clip(weights, 0, 1) * 65_535).astype("<u2").tobytes()


def _avatar(bundle: Bundle) -> tuple[glb.Document, bytes]:
    """The avatar's JSON, ready to be added to, and its binary chunk."""
    path = bundle.avatar_file
    if path is None:
        raise FaceError("bad_bundle", f"The bundle {bundle.folder} has no avatar.")
    try:
        document, binary = glb.parse(path.read_bytes())
        size = document["buffers"][0]["byteLength"]
        for accessor in document["accessors"]:
            # An accessor without a view may not have an offset into it; a library's default writes 0.
            if "bufferView" not in accessor:
                accessor.pop("byteOffset", None)
        moves = any(_targets_of(document, node) for node in document["nodes"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise FaceError("bad_bundle", f"{path} is not an avatar that can be animated: {error}.") from None
    if not moves:
        raise FaceError("bad_bundle", f"{path} has no morph targets, so it cannot be animated.")
    return document, binary[:size]


def _targets_of(document: glb.Document, node: Any) -> list[Any]:
    """The morph targets of a node's mesh, none where it has no mesh or does not move."""
    if "mesh" not in node:
        return []
    targets: list[Any] = document["meshes"][node["mesh"]]["primitives"][0].get("targets", [])
    return targets


def _target_names(document: glb.Document, bundle: Bundle) -> list[str]:
    """The names of the morph targets, which must be the same on every mesh that has any."""
    sets = {
        json.dumps(mesh.get("extras", {}).get("targetNames"))
        for mesh in document["meshes"]
        if mesh["primitives"][0].get("targets")
    }
    names = json.loads(sets.pop()) if len(sets) == 1 else None
    if not isinstance(names, list):
        raise FaceError("bad_bundle", f"The meshes of {bundle.avatar_file} do not name the same targets.")
    return [str(name) for name in names]
