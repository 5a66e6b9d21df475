"""DiffSpeaker Live's server: live speech in, a moving 3D face out. See docs/architecture.md."""

import os

# ONNX Runtime reports its use to its makers unless this is set before it is imported. This project reports
# nothing to anybody; whoever wants it sets ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
