"""What one window costs, counted from the graph itself: floating-point (or integer) operations, and bytes.

Every matrix product counts 2·M·N·K operations, wherever it stands (MatMul, Gemm, Einsum over two factors,
Conv). What is left out (norms, softmax, activations) is a few percent of the operations; the bytes are
counted for the products alone as well: the factors at the width that the variant computes with, weights
once per batch, and the sums in float32. So the bytes are what must move at the least, and a kernel that
spills moves more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import shape_inference

WIDTHS = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """Of one graph.

    Attributes:
        operations: for one window. activation_bytes: for one window. weight_bytes: for one batch.
    """

    operations: int
    activation_bytes: int
    weight_bytes: int

    def bytes_per_window(self, batch: int) -> float:
        """Bytes that a window of such a batch moves."""
        return self.activation_bytes + self.weight_bytes / batch


def count(path: Path, variant: str, batch: int = 1) -> Cost:
    """The cost of a bundle's graph; ``variant`` says how wide its factors are."""
    model = onnx.load(path, load_external_data=False)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    stored = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    constant = set(stored)
    for node in graph.node:  # a weight may be scaled or cast before it is used
        if node.input and all(name in constant or not name for name in node.input):
            constant.update(node.output)
    shapes |= stored
    width = WIDTHS[variant]
    operations = activations = weights = 0
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Einsum", "Conv") or len(node.input) < 2:
            continue
        if any(not shapes.get(name) for name in (*node.input[:2], node.output[0])):
            raise ValueError(f"the shapes of {node.name} ({node.op_type}) in {path} are not known")
        operations += 2 * _products(node, shapes)
        for name in node.input[:2]:
            size = width * math.prod(shapes[name])
            if name in constant:
                weights += size
            else:
                activations += size
        activations += 4 * math.prod(shapes[node.output[0]])
    return Cost(operations // batch, activations // batch, weights)


def _products(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> int:
    """Multiplications of one node."""
    one, other, out = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "MatMul":
        return math.prod(out) * one[-1]
    if node.op_type == "Gemm":
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(out) * one[0 if turned else 1]
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(other[1:])
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
    first, second = equation.split("->")[0].split(",")
    sizes = dict(zip(first, one, strict=True)) | dict(zip(second, other, strict=True))
    return math.prod(sizes.values())
