"""Frames as rows of text: our own ``.csv``, and the one that Apple's Live Link Face app records.

Ours is a header ``time_s,<channel names>``, then one row per frame; the time is on the audio's own clock. A
model that moves vertices has no csv: thousands of numbers in a row are for programs.

Live Link Face's is ``Timecode,BlendShapeCount``, the 52 coefficients in PascalCase in the app's order (which
has right before left for jaw and mouth), and nine rotations of head and eyes. Unreal's importer and Blender's
add-ons read it, and so does ``model.captures``.

1. ``Timecode`` is ``HH:MM:SS:FF.mmm`` from 00:00:00:00.000, the recording's beginning. FF counts frames at 30
   or 60 a second, because Unreal guesses between these two; mmm are thousandths of a frame.
2. A channel that the model does not have, and the nine rotations, are 0: the head does not turn, and the
   eyes' ways are in the ``EyeLook`` columns already.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from streamer.contract.errors import FaceError
from streamer.core.crossfader import FrameBlock
from streamer.engine.animation.whole import whole_file
from streamer.engine.bundle import Bundle

_BOTH = ("Left", "Right")
LIVE_LINK_SHAPES: tuple[str, ...] = (
    *(
        f"Eye{what}{side}"
        for side in _BOTH
        for what in ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
    ),
    *("JawForward", "JawRight", "JawLeft", "JawOpen"),
    *("MouthClose", "MouthFunnel", "MouthPucker", "MouthRight", "MouthLeft"),
    *(f"Mouth{what}{side}" for what in ("Smile", "Frown", "Dimple", "Stretch") for side in _BOTH),
    *("MouthRollLower", "MouthRollUpper", "MouthShrugLower", "MouthShrugUpper"),
    *(f"Mouth{what}{side}" for what in ("Press", "LowerDown", "UpperUp") for side in _BOTH),
    *("BrowDownLeft", "BrowDownRight", "BrowInnerUp", "BrowOuterUpLeft", "BrowOuterUpRight"),
    *("CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft", "NoseSneerRight", "TongueOut"),
)
LIVE_LINK_ROTATIONS: tuple[str, ...] = tuple(
    f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll")
)
_COUNTED_RATES = (30, 60)


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
    with whole_file(path) as stream:
        stream.write(",".join(["time_s", *manifest.motion.channels]).encode() + b"\n")
        for block in blocks:
            times = [grid.frame_time_s(block.first_frame + row) for row in range(len(block.values))]
            np.savetxt(stream, np.column_stack([times, block.values]), fmt="%.6f", delimiter=",")
            count += len(block.values)
    return count


def write_live_link(path: Path, blocks: Iterable[FrameBlock], bundle: Bundle) -> int:
    """Writes frames of a bundle that has coefficients as the Live Link Face app does; returns how many.

    Raises:
        FaceError: ``bad_output``, and whatever ``blocks`` raises.
    """
    rate_hz, count = bundle.manifest.timing.frame_rate_hz, 0
    places = {name.lower(): place for place, name in enumerate(bundle.manifest.motion.channels)}
    known = [(column, places.get(name.lower())) for column, name in enumerate(LIVE_LINK_SHAPES)]
    columns = [column for column, place in known if place is not None]
    chosen = [place for _, place in known if place is not None]
    width = len(LIVE_LINK_SHAPES) + len(LIVE_LINK_ROTATIONS)
    with whole_file(path) as stream:
        names = ("Timecode", "BlendShapeCount", *LIVE_LINK_SHAPES, *LIVE_LINK_ROTATIONS)
        stream.write(",".join(names).encode() + b"\n")
        for block in blocks:
            values = np.zeros((len(block.values), width))
            values[:, columns] = block.values[:, chosen]
            for row, numbers in enumerate(values):
                code = timecode(block.first_frame + row, rate_hz)
                texts = (f"{number:.6f}" for number in numbers)
                stream.write(f"{code},{width},{','.join(texts)}\n".encode())
            count += len(values)
    return count


def timecode(frame: int, rate_hz: int) -> str:
    """When frame ``frame`` of ``rate_hz`` a second stands, as ``HH:MM:SS:FF.mmm``."""
    counted_hz = rate_hz if rate_hz in _COUNTED_RATES else _COUNTED_RATES[-1]
    thousandths = (2 * frame * counted_hz * 1000 + rate_hz) // (2 * rate_hz)  # to the nearest
    seconds, thousandths = divmod(thousandths, counted_hz * 1000)
    return (
        f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        f":{thousandths // 1000:02d}.{thousandths % 1000:03d}"
    )
