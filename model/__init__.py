"""The DiffSpeaker network, its training and its distillation. Needs torch; the server never imports it."""

import streamer  # noqa: F401  # before ONNX Runtime, which it keeps from reporting its use
