"""The arrays that a graph reads and writes, allocated once for each batch size.

On a CPU the graph reads the gathered arrays where they lie. On a GPU each input has a twin on the device that
keeps its address, because a captured CUDA graph replays with the addresses it was captured with; for the same
reason batches are filled up to a few fixed sizes there (``fixed_size``), and each size is captured by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.contract.manifest import Manifest

F32 = npt.NDArray[np.float32]


OUTPUT = "motion"


def graph_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """What a manifest says of the graph's inputs and its output, without the batch."""
    frames, width = manifest.timing.segment_frames, manifest.frame_width
    prefix = {"prefix": (frames, width), "prefix_mask": (frames,)}
    return {
        "audio": (manifest.timing.window_samples,),
        "noise": (frames, manifest.noise_width),
        **(prefix if manifest.timing.prefix_frames else {}),
        "style": (len(manifest.styles) + len(manifest.style_scales),),
        OUTPUT: (frames, width),
    }


def input_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Those of the inputs alone, in the graph's order."""
    return {name: shape for name, shape in graph_shapes(manifest).items() if name != OUTPUT}


def fixed_size(batch: int) -> int:
    """The least power of two that holds a batch: with it, a dozen captured graphs serve every batch."""
    return 1 << (batch - 1).bit_length()


class Binding:
    """One batch size of one session.

    Args:
        runtime: the ``onnxruntime`` module. session: an inference session.
        shapes: of each input and of ``output``, without the batch.
        output: the output's name. batch: windows at a time. device: ``cpu`` or ``cuda``.

    Attributes:
        inputs: float32 (batch, …) by name, to be filled before ``run``.
    """

    def __init__(
        self,
        runtime: Any,
        session: Any,
        shapes: Mapping[str, tuple[int, ...]],
        output: str,
        batch: int,
        device: str,
    ) -> None:
        self.inputs: dict[str, F32] = {
            name: np.zeros((batch, *shape), np.float32) for name, shape in shapes.items() if name != output
        }
        self._session, self._on_cpu = session, device == "cpu"
        self._bound = session.io_binding()
        values = {
            name: runtime.OrtValue.ortvalue_from_numpy(array, device, 0)
            for name, array in self.inputs.items()
        }
        for name, value in values.items():
            self._bound.bind_ortvalue_input(name, value)
        self._twins: dict[str, Any] = {} if self._on_cpu else values
        self._answer = np.zeros((batch, *shapes[output]), np.float32)
        self._result = runtime.OrtValue.ortvalue_from_numpy(self._answer, device, 0)
        self._bound.bind_ortvalue_output(output, self._result)
        self._options = runtime.RunOptions()
        if not self._on_cpu:
            self._options.add_run_config_entry("gpu_graph_id", str(batch))

    def run(self, count: int) -> F32:
        """The first ``count`` rows' answer, float32 (count, …), a copy of its own."""
        for name, twin in self._twins.items():
            twin.update_inplace(self.inputs[name])
        self._session.run_with_iobinding(self._bound, self._options)
        answer = self._answer if self._on_cpu else self._result.numpy()
        return np.array(answer[:count], np.float32)
