"""fp16 in the graph: casts placed where measured ranges leave room, float32 where they do not.

A node is computed in half precision when everything that goes in and comes out stays within a quarter of the
largest half (65504): a scene brighter than the measured ones then still does not overflow. What prepares the
pixels before the first layer and the score head behind the last stay float32, so inputs and outputs keep
their types. The result is typed throughout: nothing is left to an engine's flags.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from sspcab_export.passes._naming import drop_unused, new_initializer
from sspcab_export.precision.activations import Activations
from sspcab_export.precision.layers import find_layers, score_head

__all__ = ["HALF_LIMIT", "emulate_half", "to_half"]

HALF_LIMIT = 65504 / 4
"""Largest magnitude that a tensor may have in half precision: two powers of two below overflow."""

_HALF_OPERATORS = frozenset(
    {
        "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Elu", "Flatten", "Gemm",
        "GlobalAveragePool", "HardSwish", "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu", "Pad", "Relu",
        "Reshape", "Resize", "Sigmoid", "Slice", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


def to_half(
    model: ir.Model, activations: Activations, keep_float: Collection[str] = ()
) -> tuple[ir.Model, tuple[str, ...]]:
    """Put casts into a float32 graph.

    Args:
        model: Not changed.
        activations: Measured on the same graph, on pictures and on frames at the edge of what a camera gives.
        keep_float: Names of layers to leave in float32, with the operators between them and the next layer.

    Returns:
        The new graph, and the names of the layers that are float32 in it, wholly or in part.
    """
    model = model.clone()
    half, float_layers = _choose(model, activations, keep_float)
    graph = model.graph
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    constants: dict[ir.Value, ir.Value] = {}

    def cast(value: ir.Value, to: ir.DataType) -> ir.Value:
        if (value, to) not in casts:
            node = ir.node("Cast", [value], {"to": int(to)})
            output = node.outputs[0]
            output.dtype, output.shape = to, value.shape
            output.name = f"{value.name}.{'half' if to == ir.DataType.FLOAT16 else 'float'}"
            producer = value.producer()
            if producer is None:
                graph.insert_before(graph[0], node)
            else:
                graph.insert_after(producer, node)
            casts[value, to] = output
        return casts[value, to]

    made_half = {output for node in half for output in node.outputs}
    for node in list(graph):
        for index in _float_inputs(node):
            value = node.inputs[index]
            assert value is not None
            if node in half:
                if value.const_value is not None and value.producer() is None:
                    node.replace_input_with(index, _half_constant(graph, value, constants))
                elif value not in made_half:
                    node.replace_input_with(index, cast(value, ir.DataType.FLOAT16))
            elif value in made_half and node.op_type != "Shape":
                node.replace_input_with(index, cast(value, ir.DataType.FLOAT))
    for value in made_half:
        value.type = ir.TensorType(ir.DataType.FLOAT16)  # its old type object is shared with the original
    drop_unused(graph, constants)
    return model, float_layers


def emulate_half(model: ir.Model, activations: Activations, keep_float: Collection[str] = ()) -> ir.Model:
    """The graph of :func:`to_half` in float32, every half tensor and weight rounded to half.

    Sums are kept in float32, as the matrix units of GPUs do; what leaves a node is rounded, and overflows to
    infinity above 65504. ONNX Runtime on a CPU computes a half graph in float32 *without* that rounding, so
    that neither precision loss nor overflow would show.
    """
    model = model.clone()
    half, _ = _choose(model, activations, keep_float)
    graph = model.graph
    rounded: dict[ir.Value, ir.Value] = {}
    constants: dict[ir.Value, ir.Value] = {}

    def round_half(value: ir.Value) -> ir.Value:
        if value not in rounded:
            down = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT16)})
            up = ir.node("Cast", [down.outputs[0]], {"to": int(ir.DataType.FLOAT)})
            down.outputs[0].dtype, up.outputs[0].dtype = ir.DataType.FLOAT16, ir.DataType.FLOAT
            down.outputs[0].shape = up.outputs[0].shape = value.shape
            producer = value.producer()
            if producer is None:
                graph.insert_before(graph[0], [down, up])
            else:
                graph.insert_after(producer, [down, up])
            rounded[value] = up.outputs[0]
        return rounded[value]

    made_half = {output for node in half for output in node.outputs}
    for node in list(graph):
        for index in _float_inputs(node):
            value = node.inputs[index]
            assert value is not None
            if value in made_half:
                node.replace_input_with(index, round_half(value))
            elif node in half:
                if value.const_value is not None and value.producer() is None:
                    node.replace_input_with(index, _rounded_constant(graph, value, constants))
                else:
                    node.replace_input_with(index, round_half(value))
    drop_unused(graph, constants)
    return model


def _choose(
    model: ir.Model, activations: Activations, keep_float: Collection[str]
) -> tuple[set[ir.Node], tuple[str, ...]]:
    """The nodes to compute in half, and the names of layers that are not, wholly or in part."""
    layers = find_layers(model)
    head = score_head(model)
    owner = {layer.node: layer.name for layer in layers}
    half: set[ir.Node] = set()
    left: set[str] = set()
    for node in model.graph:
        if node not in owner:
            names = [
                owner[p]
                for v in node.inputs
                if v is not None and (p := v.producer()) is not None and p in owner
            ]
            if not names:
                continue  # what prepares the pixels
            owner[node] = names[0]
        if node in head or any(value.is_graph_output() for value in node.outputs):
            continue
        if not any(value.dtype in (ir.DataType.FLOAT, None) for value in node.outputs):
            continue  # sizes, not values
        if owner[node] in keep_float or not _fits(node, activations):
            left.add(owner[node])
        else:
            half.add(node)
    return half, tuple(layer.name for layer in layers if layer.name in left)


def _fits(node: ir.Node, activations: Activations) -> bool:
    if node.domain != "" or node.op_type not in _HALF_OPERATORS:
        return False
    values = [node.inputs[index] for index in _float_inputs(node)]
    for value in [*values, *node.outputs]:
        assert value is not None
        if value.const_value is not None and value.producer() is None:
            reach = float(np.abs(value.const_value.numpy()).max(initial=0))
        elif (bounds := activations.ranges.get(value.name or "")) is not None:
            reach = max(map(abs, bounds))
        else:
            return False
        if reach > HALF_LIMIT:
            return False
    return True


def _float_inputs(node: ir.Node) -> list[int]:
    """Which inputs of a node share its float type; the sizes and scales of a Resize do not."""
    last = 1 if node.op_type == "Resize" else len(node.inputs)
    return [
        index
        for index, value in enumerate(node.inputs[:last])
        if value is not None and _dtype(value) == ir.DataType.FLOAT
    ]


def _dtype(value: ir.Value) -> ir.DataType | None:
    constant = value.const_value if value.producer() is None else None
    return value.dtype if constant is None else constant.dtype


def _half_constant(graph: ir.Graph, value: ir.Value, done: dict[ir.Value, ir.Value]) -> ir.Value:
    if value not in done:
        assert value.const_value is not None
        array = np.asarray(value.const_value.numpy()).astype(np.float16)
        done[value] = new_initializer(graph, f"{value.name}.half", array)
    return done[value]


def _rounded_constant(graph: ir.Graph, value: ir.Value, done: dict[ir.Value, ir.Value]) -> ir.Value:
    if value not in done:
        assert value.const_value is not None
        array = np.asarray(value.const_value.numpy()).astype(np.float16).astype(np.float32)
        done[value] = new_initializer(graph, f"{value.name}.rounded", array)
    return done[value]
