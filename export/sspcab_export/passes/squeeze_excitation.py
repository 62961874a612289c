"""Squeeze-and-excitation as a global pool, two 1x1 convolutions and a product, with 4-D weights.

No Reshape, no Gemm, no shape computed from the batch size: every engine keeps its image layout all the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_export.passes._naming import new_initializer
from sspcab_export.passes._reading import (
    constant_input,
    float_attribute,
    int_attribute,
    ints_attribute,
    produced_by,
    string_attribute,
    unshared,
)
from sspcab_export.passes._report import Report
from sspcab_export.passes._shapes import broadcasts_into, shape_entries, shape_of
from sspcab_export.passes._spatial_mean import MEANS, averaged

__all__ = ["hidden_units_after", "squeeze_excitation"]

_SAME_ORDER = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
"""Operators that leave the elements in their order."""


@dataclass(frozen=True, slots=True)
class _Linear:
    """A layer on channels: weight (out, in), bias (out,), the value it reads, whether it is a 1x1 Conv."""

    source: ir.Value
    weight: npt.NDArray[np.generic]
    bias: npt.NDArray[np.generic] | None
    name: str
    is_convolution: bool


@dataclass(frozen=True, slots=True)
class _Gate:
    """x * sigmoid(second(relu(first(mean(x))))), and whether it already has the form this pass makes."""

    source: ir.Value
    output: ir.Value
    first: _Linear
    second: _Linear
    is_canonical: bool


def squeeze_excitation(model: ir.Model) -> Report:
    """Rewrite every squeeze-and-excitation whose weights are constant."""
    changes = 0
    for node in list(model.graph):
        gate = _gate_of(node)
        if gate is not None and not gate.is_canonical:
            _rewrite(model.graph, node, gate)
            changes += 1
    return Report(changes)


def hidden_units_after(value: ir.Value) -> int | None:
    """Hidden units of the squeeze-and-excitation that scales ``value``; None where there is none."""
    for use in value.uses():
        gate = _gate_of(use.node)
        if gate is not None and gate.source is value:
            return int(gate.first.weight.shape[0])
    return None


def _gate_of(node: ir.Node) -> _Gate | None:
    if node.op_type not in ("Mul", "Einsum") or node.domain != "" or len(node.inputs) != 2:
        return None
    x, y = node.inputs
    if x is None or y is None:
        return None
    if node.op_type == "Einsum":
        source_first = _scaling(node)
        if source_first is None:
            return None
        return _match(node, x, y, fits=True) if source_first else _match(node, y, x, fits=True)
    return _match(node, x, y) or _match(node, y, x)


def _scaling(einsum: ir.Node) -> bool | None:
    """Whether the first operand has its channels scaled by the other, (N, C); None for other equations."""
    terms, _, left = string_attribute(einsum, "equation", "").replace(" ", "").partition("->")
    first, _, second = terms.partition(",")
    if len(left) != 4 or len(set(left)) != 4 or not left.isalpha():
        return None
    return {(left, left[:2]): True, (left[:2], left): False}.get((first, second))


def _match(node: ir.Node, source: ir.Value, gate: ir.Value, *, fits: bool = False) -> _Gate | None:
    """The gate that ``gate`` is; ``fits`` where the node itself says that it scales the channels."""
    gate = _unexpanded(gate, source)
    sigmoid, plain_gate = _back(gate, "Sigmoid")
    second = _linear(sigmoid.inputs[0]) if sigmoid is not None else None
    relu, plain_hidden = _back(second.source, "Relu") if second is not None else (None, False)
    first = _linear(relu.inputs[0]) if relu is not None else None
    if first is None or second is None:
        return None
    mean, plain_mean = _back(first.source, *MEANS)
    channels, hidden = first.weight.shape[1], first.weight.shape[0]
    if mean is None or averaged(mean) is not source or second.weight.shape != (channels, hidden):
        return None
    if (first.is_convolution and not plain_mean) or (second.is_convolution and not plain_hidden):
        return None
    plain = plain_gate and plain_hidden and plain_mean and first.is_convolution and second.is_convolution
    if not (plain or fits or _scales_channels(gate, channels)):
        return None
    canonical = plain and mean.op_type == "GlobalAveragePool" and node.op_type == "Mul"
    return _Gate(source, node.outputs[0], first, second, canonical)


def _unexpanded(gate: ir.Value, source: ir.Value) -> ir.Value:
    """The gate before an Expand to the size of ``source``, which the product does by itself."""
    node = produced_by(gate, "Expand")
    if node is None or node.inputs[0] is None or not unshared(gate):
        return gate
    shape = shape_entries(node.inputs[1])
    return node.inputs[0] if shape is not None and broadcasts_into(shape, shape_of(source)) else gate


def _back(value: ir.Value | None, *operators: str) -> tuple[ir.Node | None, bool]:
    """The node of this kind that ``value`` comes from, and whether nothing reshapes in between."""
    plain = True
    while value is not None and unshared(value):
        if (node := produced_by(value, *operators)) is not None:
            return node, plain
        node = produced_by(value, *_SAME_ORDER)
        value, plain = (node.inputs[0] if node is not None else None), False
    return None, False


def _linear(value: ir.Value | None) -> _Linear | None:
    while value is not None and unshared(value):
        node = value.producer()
        if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
            return None
        if node.op_type not in _SAME_ORDER:
            return {"Gemm": _gemm, "MatMul": _matmul, "Add": _matmul_add, "Conv": _convolution}.get(
                node.op_type, lambda _: None
            )(node)
        value = node.inputs[0]
    return None


def _gemm(node: ir.Node) -> _Linear | None:
    weight = constant_input(node, 1)
    plain = float_attribute(node, "alpha", 1.0) == 1.0 and float_attribute(node, "beta", 1.0) == 1.0
    if weight is None or not plain or int_attribute(node, "transA", 0):
        return None
    weight = weight if int_attribute(node, "transB", 0) else weight.T
    return _layer(node, weight, bias_index=2)


def _matmul(node: ir.Node) -> _Linear | None:
    weight = constant_input(node, 1)
    return None if weight is None or weight.ndim != 2 else _layer(node, weight.T, bias_index=None)


def _matmul_add(node: ir.Node) -> _Linear | None:
    for index in (0, 1):
        product = produced_by(node.inputs[index], "MatMul")
        bias = constant_input(node, 1 - index)
        layer = _matmul(product) if product is not None and unshared(product.outputs[0]) else None
        if layer is not None and bias is not None and bias.shape == layer.weight.shape[:1]:
            return _Linear(layer.source, layer.weight, bias, layer.name, False)
    return None


def _convolution(node: ir.Node) -> _Linear | None:
    weight = constant_input(node, 1)
    if weight is None or weight.shape[2:] != (1, 1) or int_attribute(node, "group", 1) != 1:
        return None
    if set(ints_attribute(node, "strides", (1, 1))) != {1} or set(ints_attribute(node, "pads", (0,) * 4)) != {
        0
    }:
        return None
    if string_attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    return _layer(node, weight[:, :, 0, 0], bias_index=2)


def _layer(node: ir.Node, weight: npt.NDArray[np.generic], bias_index: int | None) -> _Linear | None:
    source, named = node.inputs[0], node.inputs[1]
    bias = None
    if bias_index is not None and len(node.inputs) > bias_index and node.inputs[bias_index] is not None:
        bias = constant_input(node, bias_index)
        if bias is None or bias.size != weight.shape[0]:
            return None
        bias = bias.ravel()
    if source is None or named is None or weight.ndim != 2:
        return None
    return _Linear(source, weight, bias, named.name or "gate.weight", node.op_type == "Conv")


def _scales_channels(gate: ir.Value, channels: int) -> bool:
    """True when ``gate`` is (N, C, 1, 1), by its known shape or by how its shape is computed."""
    if shape_of(gate)[1:] == [channels, 1, 1]:
        return True
    node = produced_by(gate, "Reshape")
    return node is not None and (shape_entries(node.inputs[1]) or [])[1:] == [channels, 1, 1]


def _rewrite(graph: ir.Graph, mul: ir.Node, gate: _Gate) -> None:
    source = gate.source
    pool = ir.node("GlobalAveragePool", [source])
    first = ir.node("Conv", [pool.outputs[0], *_parameters(graph, gate.first)], {"kernel_shape": [1, 1]})
    relu = ir.node("Relu", [first.outputs[0]])
    second = ir.node("Conv", [relu.outputs[0], *_parameters(graph, gate.second)], {"kernel_shape": [1, 1]})
    sigmoid = ir.node("Sigmoid", [second.outputs[0]])
    product = ir.node("Mul", [source, sigmoid.outputs[0]], name=mul.name)
    nodes = [pool, first, relu, second, sigmoid, product]
    product.outputs[0].type, product.outputs[0].shape = gate.output.type, gate.output.shape
    ir.convenience.replace_nodes_and_values(graph, mul, [mul], nodes, [gate.output], product.outputs)


def _parameters(graph: ir.Graph, layer: _Linear) -> list[ir.Value]:
    stem = layer.name.removesuffix(".weight")
    arrays = {f"{stem}.conv.weight": layer.weight[:, :, None, None]}
    if layer.bias is not None:
        arrays[f"{stem}.conv.bias"] = layer.bias
    return [new_initializer(graph, name, array) for name, array in arrays.items()]
