"""One file of weights, several graphs: the variants of a bundle.

Every learnt weight is stored once, as int8 with one scale per output (``round_weights`` puts the network on
that grid first, so nothing is lost in storing it). The graphs refer to the same bytes of ``weights.bin``:

- ``fp32``: each weight is scaled to float32 when the graph is loaded, and all arithmetic is float32. It is
  the reference that the others are compared with.
- ``fp16``: the same in float16, for GPUs; what comes before the first learnt weight (the spectrum, whose
  powers overflow float16) stays float32.
- ``int8``: what enters a product is rounded to 8 bits as well, on a scale that was fixed by listening to
  speech (static quantisation), so that integer instructions do the work. A fixed scale is what keeps a
  window's answer independent of its neighbours in the batch. Speech takes up 7 of the 8 bits: processors
  without VNNI add two 8-bit products in 16 bits, which then hold them.

Rules: a scale has 16 significant bits, so that 8-bit multiples of it are exact float32 numbers; equal bytes
are stored once, wherever they come from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import Tensor, nn

from streamer.contract.manifest import REFERENCE

F32 = npt.NDArray[np.float32]
Window = dict[str, F32]

WEIGHTS = "weights.bin"
FILES = {REFERENCE: "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
_LEVELS = 127
_SMALL = 4096  # values; what is smaller stays float32, in the graph's own file
_ALIGN = 64


def scale_of(largest: F32) -> F32:
    """The step of a grid of ±127 that reaches ``largest``: the least of 16 significant bits that does."""
    mantissa, exponent = np.frexp(np.where(largest > 0, largest, _LEVELS) / np.float64(_LEVELS))
    return np.asarray(np.ldexp(np.ceil(mantissa * 2**16) / 2**16, exponent), np.float32)


@torch.no_grad()
def round_weights(net: nn.Module) -> None:
    """Puts every large weight of linear and convolutional layers on its int8 grid, one per output."""
    for layer in net.modules():
        if not isinstance(layer, nn.Linear | nn.Conv1d) or layer.weight.numel() <= _SMALL:
            continue
        rows = layer.weight.flatten(1)
        scale = torch.from_numpy(scale_of(rows.abs().amax(1).numpy()))[:, None]
        layer.weight.copy_(((rows / scale).round() * scale).view_as(layer.weight))


def on_grid(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], F32] | None:
    """Integers (in, out) and scales (out,) whose product is exactly ``values``; None where there are none."""
    if values.dtype != np.float32 or values.ndim != 2 or values.size <= _SMALL:
        return None
    scale = scale_of(np.abs(values).max(axis=0))
    levels = np.rint(values / scale)
    if np.abs(levels).max() > _LEVELS or not np.array_equal((levels * scale).astype(np.float32), values):
        return None
    return levels.astype(np.int8), scale


def fold_transposes(graph: onnx.GraphProto) -> None:
    """Turns stored matrices, not at run time: the exporter leaves that undone for a weight used twice."""
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    turned: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type == "Transpose" and node.input[0] in arrays and len(arrays[node.input[0]].dims) == 2:
            name = turned.setdefault(node.input[0], node.output[0])
            if name == node.output[0]:
                values = numpy_helper.to_array(arrays[node.input[0]]).T
                graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
            graph.node.remove(node)
            for other in graph.node:
                other.input[:] = [name if value == node.output[0] else value for value in other.input]
    used = {value for node in graph.node for value in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def weights_of(graph: onnx.GraphProto) -> dict[str, tuple[npt.NDArray[np.int8], F32]]:
    """The learnt weights of a float32 graph by name: second factors of products that lie on a grid."""
    factors = {node.input[1] for node in graph.node if node.op_type == "MatMul"}
    found = {}
    for tensor in graph.initializer:
        if tensor.name in factors and (grid := on_grid(numpy_helper.to_array(tensor))) is not None:
            found[tensor.name] = grid
    return found


class _Recordings(CalibrationDataReader):  # type: ignore[misc]
    """Windows as the quantiser asks for them."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows: Iterator[Window] = iter(windows)

    def get_next(self) -> Window | None:
        return next(self._windows, None)


def in_int8(graph: onnx.ModelProto, windows: Sequence[Window]) -> onnx.ModelProto:
    """The graph with integer products; ``windows`` are batches of its inputs, of speech as it comes."""
    learnt = weights_of(graph.graph)
    products = [n.name for n in graph.graph.node if n.op_type == "MatMul" and n.input[1] in learnt]
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(graph, source)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # advice about an optimisation that is not wanted here
        try:
            quantize_static(
                source,
                target,
                _Recordings(windows),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=products,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "MatMulConstBOnly": True,
                    # Sums stay float32: only what enters a product is rounded.
                    "OpTypesToExcludeOutputQuantization": ["MatMul"],
                },
            )
        finally:
            logging.getLogger().setLevel(level)
        quantised = onnx.load(target)
    leave_headroom(quantised)
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(graph.metadata_props)
    return quantised


def leave_headroom(quantised: onnx.ModelProto) -> None:
    """Doubles the steps of what enters a product, so that what was 0 to 255 is 0 to 127 or 128.

    Without VNNI, x86 multiplies 8 by 8 bits and adds neighbours with ``vpmaddubsw``, whose sums saturate at
    32,767: 2 · 255 · 127 does not fit, 2 · 129 · 127 does. What is louder than the speech that fixed the
    scales is no longer clipped, either.
    """
    arrays = {tensor.name: tensor for tensor in quantised.graph.initializer}
    entering = [n.input[1:3] for n in quantised.graph.node if n.op_type == "QuantizeLinear"]
    for step, zero in {tuple(names) for names in entering}:
        doubled = numpy_helper.to_array(arrays[step]) * np.float32(2)
        middle = (numpy_helper.to_array(arrays[zero]).astype(np.int32) + 1) // 2
        arrays[step].CopyFrom(numpy_helper.from_array(np.asarray(doubled, np.float32), step))
        arrays[zero].CopyFrom(numpy_helper.from_array(np.asarray(middle, np.uint8), zero))


def in_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in float16 from its first learnt weight on; inputs and output stay float32."""
    learnt = weights_of(graph.graph)
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    maker = {output: node for node in copy.graph.node for output in node.output}
    first = next(node for node in copy.graph.node if node.op_type == "MatMul" and node.input[1] in learnt)
    before: set[str] = set()
    waiting = [first.input[0]]
    while waiting:
        node = maker.get(waiting.pop())
        if node is not None and node.name not in before:
            before.add(node.name)
            waiting += node.input
    half = OnnxModel(convert_float_to_float16(copy, keep_io_types=True, node_block_list=sorted(before)))
    half.topological_sort()  # the converter puts its casts where it likes
    return cast(onnx.ModelProto, half.model)


class Store:
    """``weights.bin``: arrays one after another, each once."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._places: dict[bytes, int] = {}

    def add(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor as a reference into the file."""
        raw = np.ascontiguousarray(numpy_helper.to_array(tensor)).tobytes()
        if raw not in self._places:
            self._bytes += bytes(-len(self._bytes) % _ALIGN)
            self._places[raw] = len(self._bytes)
            self._bytes += raw
        outside = onnx.TensorProto(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        place = {"location": WEIGHTS, "offset": str(self._places[raw]), "length": str(len(raw))}
        for key, value in place.items():
            outside.external_data.add(key=key, value=value)
        return outside

    def write(self, path: Path) -> None:
        """Writes the file."""
        path.write_bytes(self._bytes)


def share(graph: onnx.ModelProto, learnt: dict[str, tuple[npt.NDArray[np.int8], F32]], store: Store) -> None:
    """Moves a graph's large arrays into the store; its learnt weights become integers × scale."""
    kept, opening = [], []
    for tensor in graph.graph.initializer:
        if tensor.name in learnt and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            name, (levels, scale) = tensor.name, learnt[tensor.name]
            kept.append(store.add(numpy_helper.from_array(levels, name + "_int8")))
            kept.append(numpy_helper.from_array(scale, name + "_scale"))
            product = name if tensor.data_type == TensorProto.FLOAT else name + "_fp32"
            opening.append(
                helper.make_node("Cast", [name + "_int8"], [name + "_float"], to=TensorProto.FLOAT)
            )
            opening.append(helper.make_node("Mul", [name + "_float", name + "_scale"], [product]))
            if product != name:
                opening.append(helper.make_node("Cast", [product], [name], to=TensorProto.FLOAT16))
        elif np.prod(tensor.dims) > _SMALL:
            kept.append(store.add(tensor))
        else:
            kept.append(tensor)
    nodes = list(graph.graph.node)
    del graph.graph.initializer[:], graph.graph.node[:]
    graph.graph.initializer.extend(kept)
    graph.graph.node.extend([*opening, *nodes])


def write_variants(graph: onnx.ModelProto, folder: Path, windows: Sequence[Window]) -> dict[str, str]:
    """Writes a float32 graph, its variants and their weights; returns the variants' files by name.

    ``windows`` are what int8's scales are fixed by; without them there is no int8.
    """
    fold_transposes(graph.graph)
    learnt = weights_of(graph.graph)
    graphs = {REFERENCE: graph, "fp16": in_fp16(graph)}
    if windows:
        graphs["int8"] = in_int8(graph, windows)
    store = Store()
    for name, variant in graphs.items():
        variant.producer_name, variant.producer_version = "diffspeaker-live export", ""
        variant.metadata_props.add(key="variant", value=name)
        del variant.graph.value_info[:]  # inferred once more by whoever loads it
        share(variant, learnt, store)
        (folder / FILES[name]).write_bytes(variant.SerializeToString(deterministic=True))
    store.write(folder / WEIGHTS)
    for name in graphs:
        onnx.checker.check_model(str(folder / FILES[name]), full_check=True)
    for name in FILES.keys() - graphs.keys():
        (folder / FILES[name]).unlink(missing_ok=True)
    return {name: FILES[name] for name in graphs if name != REFERENCE}


def example_windows(inputs: Sequence[dict[str, Tensor]]) -> list[Window]:
    """Tensors as the runtime takes them."""
    return [{name: tensor.numpy() for name, tensor in batch.items()} for batch in inputs]
