"""int8 in the graph: quantisers (Q/DQ pairs) around the layers, one set of ranges, two flavours.

Every tensor between two layers becomes ``x -> QuantizeLinear -> DequantizeLinear``, weights become int8
constants with a scale per output channel, biases stay float. What an engine makes of it is up to the engine;
the numbers are in the graph.

``unsigned`` is for CPUs: uint8, with all 256 steps above zero for tensors that are never negative. ``signed``
is for TensorRT, whose parser takes UINT8 for INT8: int8 with zero point 0 throughout. Both come from the same
ranges: from the lowest to the highest value seen, because anomalies live at the ends of what normal pictures
reach (clipping to the mean of each picture's maximum cost the demo detector 0.006 of AUROC).

Weights of the unsigned flavour have 7 bits: x86 CPUs with AVX2 and without VNNI add two products of bytes
in 16 bits, where 2 * 255 * 127 does not fit and 2 * 255 * 64 does, so that every CPU computes the same. GPUs
add in 32 bits and get all 8.

A layer's mean error is taken out of its bias: sum((W - Wq) * mean(x)), the closed form of bias correction of
Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction", ICCV 2019, eq. 15, with means measured instead of assumed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import GraphError
from sspcab_export.passes._naming import drop_unused, new_initializer
from sspcab_export.passes._reading import int_attribute
from sspcab_export.precision.activations import Activations
from sspcab_export.precision.layers import Layer, find_layers, score_head, weights_of

__all__ = ["Flavour", "quantise"]

Flavour = Literal["unsigned", "signed"]

_TRANSPARENT = frozenset({"MaxPool", "Concat", "Resize"})
"""Operators that only move values about or mix them within their range: what goes in and what comes out share
one scale, so that engines can stay in int8."""

_LEAST_SCALE = 1e-12
_LEAST_OPSET = 13
_LARGEST_WEIGHT: dict[Flavour, int] = {"unsigned": 64, "signed": 127}
_LEAST_SPREAD = 127 * float(np.finfo(np.float32).tiny)


def quantise(
    model: ir.Model, activations: Activations, flavour: Flavour, keep_float: Collection[str] = ()
) -> tuple[ir.Model, tuple[str, ...]]:
    """Put quantisers into a float32 graph.

    Args:
        model: Not changed; its weights are shared with the result.
        activations: Measured on the same graph.
        flavour: Which integers activations become.
        keep_float: Names of layers to leave as they are; they read their inputs unrounded.

    Returns:
        The new graph, and the names of the layers that are float in it: those asked for, and layers that work
        on one value a channel (the gates of squeeze-and-excitation).

    Raises:
        GraphError: The graph is of an opset whose quantisers know no channels.
    """
    opset = int(model.opset_imports.get("", 0))
    if opset < _LEAST_OPSET:
        raise GraphError(f"the graph has opset {opset}, expected {_LEAST_OPSET} or higher for int8")
    model = model.clone()
    plan = _Plan(model, activations, frozenset(keep_float))
    for value in plan.quantised:
        plan.insert(value, flavour)
    scales: dict[tuple[int, int], ir.Value] = {}
    for layer in plan.layers:
        _quantise_weights(model.graph, layer, activations, _LARGEST_WEIGHT[flavour], scales)
    return model, plan.float_layers


class _Plan:
    """Which tensors are quantised, and which of them share a scale."""

    def __init__(self, model: ir.Model, activations: Activations, keep_float: frozenset[str]) -> None:
        everything = find_layers(model)
        self.graph = model.graph
        self.activations = activations
        self.layers = [x for x in everything if _fits_int8(x) and x.name not in keep_float]
        self.float_layers = tuple(x.name for x in everything if not _fits_int8(x) or x.name in keep_float)
        self._float_nodes = {x.node for x in everything if x.name in keep_float}
        self._head = score_head(model)
        self._parents: dict[ir.Value, ir.Value] = {}
        wanted: list[ir.Value] = []
        for layer in self.layers:
            wanted.append(layer.input)
            if self._takes_quantised(layer.output):
                wanted.append(layer.output)
        while wanted:
            value = wanted.pop()
            if value in self._parents or value.name not in activations.ranges:
                continue
            self._parents[value] = value
            wanted += self._before(value)
        for value in list(self._parents):
            for other in self._before(value):
                self._parents[self._root(other)] = self._root(value)
        order = {node: number for number, node in enumerate(self.graph)}
        self.quantised = sorted(
            (value for value in self._parents if not self._passes_on(value)),
            key=lambda value: order.get(value.producer(), -1),  # type: ignore[arg-type]
        )
        self._ranges: dict[ir.Value, tuple[float, float]] = {}
        for value in self._parents:
            low, high = activations.ranges[value.name or ""]
            root = self._root(value)
            joined = self._ranges.get(root, (0.0, 0.0))
            self._ranges[root] = (min(low, joined[0]), max(high, joined[1]))

    def insert(self, value: ir.Value, flavour: Flavour) -> None:
        """Q and DQ behind ``value``; what may be rounded reads from behind them."""
        low, high = self._ranges[self._root(value)]
        name = value.name or "tensor"
        zero: npt.NDArray[np.generic]
        scale = max(-low, high) / 127
        if flavour == "signed":
            zero = np.zeros((), np.int8)
        elif low < 0:  # OpenVINO 2026.4 computes INT8 with zero point 0 wrongly behind a Concat
            zero = np.full((), 128, np.uint8)
        else:
            zero, scale = np.zeros((), np.uint8), high / 255
        step = new_initializer(
            self.graph, f"{name}.scale", np.asarray(max(scale, _LEAST_SCALE), dtype=np.float32)
        )
        origin = new_initializer(self.graph, f"{name}.zero_point", zero)
        uses = [use for use in value.uses() if self._accepts(use.node, value)]
        down = ir.node("QuantizeLinear", [value, step, origin])
        up = ir.node("DequantizeLinear", [down.outputs[0], step, origin])
        down.outputs[0].dtype = ir.DataType.UINT8 if zero.dtype == np.uint8 else ir.DataType.INT8
        rounded = up.outputs[0]
        rounded.dtype = ir.DataType.FLOAT
        down.outputs[0].shape = rounded.shape = value.shape
        down.outputs[0].name, rounded.name = f"{name}.quantised", f"{name}.rounded"
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], [down, up])
        else:
            self.graph.insert_after(producer, [down, up])
        for use in uses:
            use.node.replace_input_with(use.idx, rounded)

    def _accepts(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether a reader of ``value`` may read it rounded."""
        if node in self._float_nodes or node in self._head:
            return False
        if node.op_type in _TRANSPARENT:
            output = node.outputs[0]
            if any(use.node in self._float_nodes for use in output.uses()):
                return False
            return output in self._parents or self._takes_quantised(output)
        return node.inputs[0] is value or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul")

    def _takes_quantised(self, value: ir.Value) -> bool:
        """Whether something reads ``value``, behind moves perhaps, that may read it rounded."""
        if value.is_graph_output():
            return False
        takers = [use.node for use in value.uses()]
        return any(
            node not in self._float_nodes
            and node not in self._head
            and (node.op_type not in _TRANSPARENT or self._takes_quantised(node.outputs[0]))
            for node in takers
        )

    def _before(self, value: ir.Value) -> list[ir.Value]:
        """What a transparent operator makes ``value`` of, where all readers of it may read it rounded."""
        node = value.producer()
        if node is None or node.op_type not in _TRANSPARENT:
            return []
        if any(use.node in self._float_nodes or use.node in self._head for use in value.uses()):
            return []
        inputs = [x for x in node.inputs[: None if node.op_type == "Concat" else 1] if x is not None]
        return inputs if all(x.name in self.activations.ranges for x in inputs) else []

    def _passes_on(self, value: ir.Value) -> bool:
        """Whether ``value`` is the maximum of rounded values, and so needs no rounding of its own."""
        node = value.producer()
        return node is not None and node.op_type == "MaxPool" and bool(self._before(value))

    def _root(self, value: ir.Value) -> ir.Value:
        while self._parents[value] is not value:
            value = self._parents[value]
        return value


def _fits_int8(layer: Layer) -> bool:
    """Not gates, which scale everything and cost nothing; nor stacks of matrices, which engines refuse."""
    shape = layer.weights.shape
    stacked = layer.node.op_type == "MatMul" and (shape is None or len(shape) != 2)
    return not layer.on_one_value and not stacked


def _quantise_weights(
    graph: ir.Graph,
    layer: Layer,
    activations: Activations,
    largest: int,
    done: dict[tuple[int, int], ir.Value],
) -> None:
    node, weights = layer.node, weights_of(layer.node)
    assert weights is not None
    axis = _output_axis(node, weights.ndim)
    value = layer.weights
    key = (id(value), axis)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    spread = np.abs(weights).max(axis=others)
    scale = (np.where(spread > _LEAST_SPREAD, spread, largest) / largest).astype(np.float32)
    wide = scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    integers = np.clip(np.rint(weights / wide), -largest, largest).astype(np.int8)
    if key not in done:
        name = value.name or f"{layer.name}.weight"
        stored = new_initializer(graph, f"{name}.int8", integers)
        step = new_initializer(graph, f"{name}.scale", scale)
        origin = new_initializer(graph, f"{name}.zero_point", np.zeros(len(scale), np.int8))
        up = ir.node("DequantizeLinear", [stored, step, origin], {"axis": axis})
        up.outputs[0].dtype, up.outputs[0].shape = ir.DataType.FLOAT, ir.Shape(weights.shape)
        up.outputs[0].name = f"{name}.rounded"
        graph.insert_before(graph[0], up)
        done[key] = up.outputs[0]
    node.replace_input_with(1, done[key])
    source = layer.node.inputs[0]
    name = (source.name or "").removesuffix(".rounded") if source is not None else ""
    means = activations.channel_means.get(name)
    if node.op_type == "Conv" and means is not None:
        _correct_bias(graph, layer, weights - integers * wide, means)
    drop_unused(graph, [value])


def _output_axis(node: ir.Node, rank: int) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if int_attribute(node, "transB", 0) else 1
    return rank - 1


def _correct_bias(
    graph: ir.Graph, layer: Layer, error: npt.NDArray[np.float32], means: npt.NDArray[np.float64]
) -> None:
    """Add what rounding the weights took from each output channel on average."""
    node = layer.node
    outputs, per_group = error.shape[:2]
    groups = len(means) // per_group
    spread = means.reshape(groups, per_group)[np.arange(outputs) // (outputs // groups)]
    lost = (error.sum(axis=tuple(range(2, error.ndim))) * spread).sum(axis=1)
    old = node.inputs[2] if len(node.inputs) > 2 else None
    if old is None:
        base = np.zeros(outputs)
    elif old.const_value is None:
        return
    else:
        base = np.asarray(old.const_value.numpy(), np.float64)
    bias = new_initializer(graph, f"{layer.name}.bias.corrected", (base + lost).astype(np.float32))
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, bias)
    if old is not None:
        drop_unused(graph, [old])
