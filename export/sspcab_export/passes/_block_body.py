"""The body of ``sspcab.edge::SSPCAB``: the folded block as an ONNX local function.

Weights are inputs, so one body serves every block of the same sub-kernel, dilation, ReLU and attention,
whatever its channels. The masked weight is one tensor, the four corners side by side: (C, C, 2k, 2k), where
rows and columns below k belong to the corner above or left. Every k-th of them, from row i and column j on,
is the weight of the 2x2 convolution of tap (i, j); for k = 1 that is the tensor itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sspcab_edge.block import Geometry
from sspcab_export.custom_op import ATTRIBUTES, DOMAIN, GATE_INPUTS, INPUTS, OUTPUT

__all__ = ["BodyKind", "block_function"]


@dataclass(frozen=True, slots=True)
class BodyKind:
    """What the body depends on."""

    geometry: Geometry
    relu: bool
    gate: bool


def block_function(name: str, kind: BodyKind, opset: int) -> ir.Function:
    """The local function ``name``.

    Args:
        name: Of the operator.
        kind: What it computes.
        opset: Version of the standard operators; that of the model, because inliners insist on it.
    """
    names = (*INPUTS, *GATE_INPUTS) if kind.gate else INPUTS
    values = [ir.Value(name=one) for one in names]
    nodes = _masked_sum(values[0], values[1], values[2], kind.geometry)
    if kind.relu:
        nodes.append(ir.node("Relu", nodes[-1].outputs, name="relu"))
    if kind.gate:
        nodes.extend(_gate(nodes[-1].outputs[0], *values[3:]))
    for node in nodes:
        node.outputs[0].name = node.name
    nodes[-1].outputs[0].name = OUTPUT
    graph = ir.Graph(values, nodes[-1].outputs, nodes=nodes, opset_imports={"": opset}, name=name)
    attributes = [ir.Attr(one, ir.AttributeType.UNDEFINED, None) for one in ATTRIBUTES]
    return ir.Function(DOMAIN, name, graph=graph, attributes=attributes)


def _masked_sum(x: ir.Value, weight: ir.Value, bias: ir.Value, geometry: Geometry) -> list[ir.Node]:
    """The sum of the convolutions of all taps; the bias goes with the first."""
    k, d = geometry.kernel, geometry.dilation
    nodes: list[ir.Node] = []
    axes, steps, ends = _numbers("axes", 2, 3), _numbers("steps", k, k), _numbers("ends", 2 * k, 2 * k)
    if k > 1:
        nodes.extend((axes, steps, ends))
    total: ir.Value | None = None
    for i in range(k):
        for j in range(k):
            tap, suffix = weight, ""
            if k > 1:
                suffix = f"_{i}_{j}"
                starts = _numbers(f"starts{suffix}", i, j)
                cut = [weight, *(one.outputs[0] for one in (starts, ends, axes, steps))]
                nodes += [starts, ir.node("Slice", cut, name=f"weight{suffix}")]
                tap = nodes[-1].outputs[0]
            convolution = ir.node(
                "Conv",
                [x, tap, bias] if total is None else [x, tap],
                {
                    "kernel_shape": [2, 2],
                    "dilations": [geometry.border] * 2,
                    "pads": [k + d - i, k + d - j, d + 1 + i, d + 1 + j],
                    "strides": [1, 1],
                    "group": 1,
                },
                name=f"masked{suffix}",
            )
            nodes.append(convolution)
            if total is not None:
                nodes.append(ir.node("Add", [total, convolution.outputs[0]], name=f"sum{suffix}"))
            total = nodes[-1].outputs[0]
    return nodes


def _numbers(name: str, *numbers: int) -> ir.Node:
    return ir.node("Constant", [], {"value": ir.tensor(np.array(numbers, np.int64))}, name=name)


def _gate(x: ir.Value, w1: ir.Value, b1: ir.Value, w2: ir.Value, b2: ir.Value) -> list[ir.Node]:
    """Squeeze-and-excitation on ``x``."""
    mean = ir.node("GlobalAveragePool", [x], name="mean")
    first = ir.node("Conv", [mean.outputs[0], w1, b1], {"kernel_shape": [1, 1]}, name="hidden")
    relu = ir.node("Relu", first.outputs, name="hidden_relu")
    second = ir.node("Conv", [relu.outputs[0], w2, b2], {"kernel_shape": [1, 1]}, name="logit")
    sigmoid = ir.node("Sigmoid", second.outputs, name="gate")
    return [mean, first, relu, second, sigmoid, ir.node("Mul", [x, sigmoid.outputs[0]], name="product")]
