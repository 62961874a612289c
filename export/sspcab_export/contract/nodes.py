"""Small pieces of graphs that the contract is made of; the same in every opset from 13."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["binary", "constant", "reshaped"]


def constant(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """An initialiser of the graph, under this name or a longer one that is free."""
    while name in graph.initializers:
        name += "_"
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value


def binary(op: str, graph: ir.Graph, value: ir.Value, name: str, array: npt.NDArray[np.float32]) -> ir.Node:
    """``value op array``, the array as an initialiser; the node is not inserted yet."""
    return ir.node(op, [value, constant(graph, name, array)])


def reshaped(graph: ir.Graph, value: ir.Value, name: str, shape: list[int]) -> ir.Value:
    """``value`` reshaped, by a node at the end of the graph."""
    node = ir.node("Reshape", [value, constant(graph, f"contract_{name}_shape", np.asarray(shape, np.int64))])
    graph.append(node)
    return node.outputs[0]
