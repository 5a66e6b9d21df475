"""VRM animation, ``.vrma`` (VRMC_vrm_animation 1.0): one file that moves the face of any VRM avatar.

It is a GLB without meshes. Each expression is a node, and the x of its translation is the expression's
weight; the gaze is a node's rotation. There are two kinds, since an avatar that took both would move its
mouth twice:

- ``vrma`` moves VRM's presets (vowels and blinks, see ``expressions``) and the gaze: every VRM avatar has
  them.
- ``perfectsync`` moves custom expressions that bear the bundle's own channel names, ``jawOpen`` and so on,
  for avatars that were given the 52 ARKit shapes (*perfect sync*); its eyes move by ``eyeLook…`` expressions.

1. A skeleton stands in it, the fifteen bones that VRM asks for in VRM's T-pose, because readers refuse a file
   without one. Nothing moves it, so the face mixes with an animation of the body.
2. The skeleton's nodes come first and the expressions' last, each channel in its node's order: Unity's reader
   takes the expressions' nodes out of the list from behind and keeps the first root alone.
3. glTF wants each track in one piece, and frames come across all tracks: each track is gathered in a
   temporary file of its own and copied at the end. Nothing is held in memory.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.core.crossfader import FrameBlock
from streamer.engine.animation import glb
from streamer.engine.animation.baked import check_length, frame_times, time_accessor
from streamer.engine.animation.expressions import PRESETS, gaze, presets
from streamer.engine.animation.whole import whole_file
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]

# name: (parent, metres from it), the body's left at +X; the right side mirrors the left one.
_BONES: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "hips": (None, (0.0, 0.95, 0.0)),
    "spine": ("hips", (0.0, 0.12, 0.0)),
    "head": ("spine", (0.0, 0.46, 0.0)),
    **{
        f"{side}{part}": (f"{side}{parent[1:]}" if parent[0] == "+" else parent, (sign * x, y, 0.0))
        for side, sign in (("left", 1), ("right", -1))
        for part, parent, x, y in (
            ("UpperArm", "spine", 0.16, 0.33),
            ("LowerArm", "+UpperArm", 0.26, 0.0),
            ("Hand", "+LowerArm", 0.24, 0.0),
            ("UpperLeg", "hips", 0.09, -0.05),
            ("LowerLeg", "+UpperLeg", 0.0, -0.42),
            ("Foot", "+LowerLeg", 0.0, -0.40),
        )
    },
}
_EYES_ABOVE_HEAD_BONE_M = 0.06
_EXTENSION = "VRMC_vrm_animation"
_GAZE = "lookAt"
_LARGEST = 10**10  # no place and no count in a file has more digits


def write_vrma(path: Path, blocks: Iterable[FrameBlock], bundle: Bundle, perfect_sync: bool = False) -> int:
    """Writes a bundle's coefficients as a VRM animation; returns how many frames.

    Args:
        path: the file.
        blocks: frames in order.
        bundle: one with coefficients.
        perfect_sync: custom expressions with the channels' names, in place of VRM's presets and the gaze.

    Raises:
        FaceError: ``bad_output``, and whatever ``blocks`` raises.
    """
    channels = bundle.manifest.motion.channels
    names = tuple(channels) if perfect_sync else (_GAZE, *PRESETS)
    rate_hz, count = bundle.manifest.timing.frame_rate_hz, 0
    with whole_file(path) as stream, ExitStack() as stack:
        tracks = [stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in names]
        for block in blocks:
            weights = np.clip(block.values, 0, 1) if perfect_sync else presets(block.values, channels)
            if not perfect_sync:
                tracks[0].write(gaze(block.values, channels).astype("<f4").tobytes())
            for track, column in zip(tracks[-weights.shape[1] :], weights.T, strict=True):
                moved = np.zeros((len(column), 3), "<f4")
                moved[:, 0] = column
                track.write(moved.tobytes())
            count += len(block.values)
        check_length(path, count)
        longest = _document(path.stem, names, [_LARGEST] * (1 + len(names)), count, rate_hz, perfect_sync)
        file = glb.GlbWriter(stream, len(glb.encode(longest | {"buffers": [{"byteLength": _LARGEST}]})))
        starts = [file.align()]
        for times in frame_times(count, rate_hz):
            file.write(times)
        for track in tracks:
            starts.append(file.align())
            track.seek(0)
            shutil.copyfileobj(track, file)
        file.finish(_document(path.stem, names, starts, count, rate_hz, perfect_sync))
    return count


def _document(
    title: str, names: tuple[str, ...], starts: list[int], count: int, rate_hz: int, perfect_sync: bool
) -> glb.Document:
    """The JSON of tracks whose times and values begin at ``starts`` (1 + len(names),) in the binary chunk."""
    widths = [1, *(4 if name == _GAZE else 3 for name in names)]
    kinds = {3: "VEC3", 4: "VEC4"}
    bones = list(_BONES)
    nodes: list[glb.Document] = [
        {"name": bone, "translation": list(place)} for bone, (_, place) in _BONES.items()
    ]
    for node, (parent, _) in enumerate(_BONES.values()):
        if parent is not None:
            nodes[bones.index(parent)].setdefault("children", []).append(node)
    tracked = {name: len(nodes) + track for track, name in enumerate(names)}
    nodes += [{"name": name} for name in names]
    expressions = {name: {"node": node} for name, node in tracked.items() if name != _GAZE}
    extension: glb.Document = {
        "specVersion": "1.0",
        "humanoid": {"humanBones": {bone: {"node": node} for node, bone in enumerate(bones)}},
        "expressions": {"custom" if perfect_sync else "preset": expressions},
    }
    if _GAZE in tracked:
        nodes[bones.index("head")].setdefault("children", []).append(tracked[_GAZE])
        extension["lookAt"] = {
            "node": tracked[_GAZE],
            "offsetFromHeadBone": [0.0, _EYES_ABOVE_HEAD_BONE_M, 0.0],
        }
    roots = [0, *(entry["node"] for entry in expressions.values())]
    return {
        "asset": {"version": "2.0", "generator": "diffspeaker-live"},
        "extensionsUsed": [_EXTENSION],
        "extensions": {_EXTENSION: extension},
        "scene": 0,
        "scenes": [{"name": "face", "nodes": roots}],
        "nodes": nodes,
        "animations": [
            {
                "name": title,
                "samplers": [
                    {"input": 0, "output": 1 + track, "interpolation": "LINEAR"}
                    for track in range(len(names))
                ],
                "channels": [
                    {
                        "sampler": track,
                        "target": {"node": node, "path": "rotation" if name == _GAZE else "translation"},
                    }
                    for track, (name, node) in enumerate(tracked.items())
                ],
            }
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": 4 * width * count}
            for start, width in zip(starts, widths, strict=True)
        ],
        "accessors": [
            time_accessor(0, count, rate_hz),
            *(
                {"bufferView": view, "componentType": glb.FLOAT, "count": count, "type": kinds[width]}
                for view, width in enumerate(widths[1:], start=1)
            ),
        ],
    }
