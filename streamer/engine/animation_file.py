"""Frames into a file of the format that was chosen: the one door to the writers in ``engine/animation``.

Rules: what a writer may take for granted, ``formats.check`` has seen to. The packages that draw are imported
only when something is drawn, so that a server and a table need neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from streamer.core.crossfader import FrameBlock
from streamer.engine.animation.arrays import write_npz
from streamer.engine.animation.baked import write_glb
from streamer.engine.animation.look import Look
from streamer.engine.animation.tables import write_csv, write_live_link
from streamer.engine.animation.vrma import write_vrma
from streamer.engine.bundle import Bundle
from streamer.engine.recording import Recording


def write(
    kind: str,
    path: Path,
    blocks: Iterable[FrameBlock],
    bundle: Bundle,
    recording: Recording,
    metadata: Mapping[str, object],
    look: Look,
) -> int:
    """Writes frames as they come into a file, or a folder, of this format; returns how many frames.

    Args:
        kind: a key of ``formats.FORMATS``; ``formats.check`` has let it pass.
        path: what to write. It appears when it is whole.
        blocks: the frames in order.
        bundle: whose frames they are.
        recording: what they were heard in; a film plays it.
        metadata: what a file should say of itself, where it has a place for that.
        look: of pictures.

    Raises:
        FaceError: ``bad_output``, ``bad_bundle``, ``bad_config``; whatever ``blocks`` raises.
    """
    if kind == "csv":
        return write_csv(path, blocks, bundle)
    if kind == "npz":
        return write_npz(path, blocks, bundle, metadata)
    if kind == "livelink":
        return write_live_link(path, blocks, bundle)
    if kind == "glb":
        return write_glb(path, blocks, bundle, metadata)
    if kind in ("vrma", "perfectsync"):
        return write_vrma(path, blocks, bundle, perfect_sync=kind == "perfectsync")
    from streamer.engine.animation import pictures

    if kind == "mp4":
        return pictures.write_film(path, blocks, bundle, recording, look)
    if kind == "sheet":
        return pictures.write_sheet(path, blocks, bundle, recording, look)
    return pictures.write_frames(path, blocks, bundle, look)
