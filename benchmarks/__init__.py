"""Speed and quality, measured: every command prints figures and writes JSON with its provenance."""

import streamer  # noqa: F401  # before ONNX Runtime, which it keeps from reporting its use
