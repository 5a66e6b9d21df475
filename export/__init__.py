"""Turns checkpoints into bundles: the fused ONNX graph, its manifest, and the face rig."""

import streamer  # noqa: F401  # before ONNX Runtime, which it keeps from reporting its use
