"""Frames into files: one module per family of formats, and what they share.

``tables`` and ``arrays`` write numbers, ``baked`` and ``vrma`` write glTF, ``pictures`` draws. ``whole``
makes files appear whole or not at all, ``glb`` is glTF's binary container, ``expressions`` turns ARKit
coefficients into VRM's. Which format has which name and ending is one table, in
``streamer.engine.animation_file``.

Rules: every writer takes blocks of frames as they come, holds no more than a few of them, and returns how
many frames it wrote; a two-hour recording needs no more memory than a short one.
"""
