"""An ONNX graph that computes the same in another order of summation, to see how far rounding moves it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_export.passes.inline_functions import inline_functions

__all__ = ["reordered"]

_Weights = npt.NDArray[np.generic]


def reordered(model: ir.Model) -> ir.Model:
    """A copy in which convolutions and matrix products sum their channels up backwards.

    Each gets its input's channels reversed, and its weights to match: in exact arithmetic nothing changes.
    Weights that are no constants, grouped convolutions and bodies of control flow stay as they are.
    """
    model = model.clone()
    inline_functions(model)
    graph = model.graph
    reverse: dict[int, ir.Value] = {}
    for number, node in enumerate(list(graph)):
        plan = _PLANS.get(node.op_type) if node.domain == "" and len(node.inputs) > 1 else None
        weight = None if plan is None else node.inputs[1]
        if plan is None or weight is None or weight.const_value is None:
            continue
        values = weight.const_value.numpy()
        axes = plan(node, values)
        if axes is None:
            continue
        data_axis, weight_axis = axes
        count = values.shape[weight_axis]
        if count not in reverse:
            reverse[count] = _initializer(graph, f"reversed_{count}", np.arange(count, dtype=np.int64)[::-1])
        backwards = ir.node("Gather", [node.inputs[0], reverse[count]], {"axis": data_axis})
        graph.insert_before(node, backwards)
        node.replace_input_with(0, backwards.outputs[0])
        turned = np.ascontiguousarray(np.flip(values, weight_axis))
        node.replace_input_with(1, _initializer(graph, f"backwards_{number}", turned))
    return model


def _convolution(node: ir.Node, weight: _Weights) -> tuple[int, int] | None:
    group = node.attributes.get("group")
    return (1, 1) if weight.ndim == 4 and (group is None or group.as_int() == 1) else None


def _transposed(node: ir.Node, weight: _Weights) -> tuple[int, int] | None:
    return None if _convolution(node, weight) is None else (1, 0)


def _product(node: ir.Node, weight: _Weights) -> tuple[int, int] | None:
    del node
    return (-1, 0) if weight.ndim == 2 else None


def _gemm(node: ir.Node, weight: _Weights) -> tuple[int, int] | None:
    del weight

    def turned(name: str) -> int:
        return node.attributes[name].as_int() if name in node.attributes else 0

    return 1 - turned("transA"), turned("transB")


_PLANS: dict[str, Callable[[ir.Node, _Weights], tuple[int, int] | None]] = {
    "Conv": _convolution, "ConvTranspose": _transposed, "Gemm": _gemm, "MatMul": _product,
}  # fmt: skip
"""Axes of the data and of the weights along which each operator sums."""


def _initializer(graph: ir.Graph, name: str, values: npt.NDArray[np.generic]) -> ir.Value:
    free = name
    while free in graph.initializers:
        free += "_"
    value = ir.Value(name=free, const_value=ir.tensor(np.ascontiguousarray(values), name=free))
    graph.register_initializer(value)
    return value
