"""Turns checkpoints into bundles: the fused ONNX graph, its manifest, and the face rig."""
