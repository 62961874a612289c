"""Small questions about nodes and values that several passes ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = [
    "constant",
    "constant_input",
    "dimension",
    "float_attribute",
    "int_attribute",
    "ints_attribute",
    "produced_by",
    "string_attribute",
    "unshared",
]


def produced_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The node that makes ``value``, when it is one of these standard ONNX operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and node.op_type in operators else None


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array behind ``value``, when no input of the graph can change it."""
    if value is None or value.is_graph_input() or (value.producer() is None and not value.is_initializer()):
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def constant_input(node: ir.Node, index: int) -> npt.NDArray[np.generic] | None:
    """The constant at input ``index``; None when it is absent or not constant."""
    return constant(node.inputs[index]) if index < len(node.inputs) else None


def unshared(value: ir.Value) -> bool:
    """True when exactly one node reads the elements of ``value`` and it is no graph output.

    Shape nodes do not count: exporters ask everything for its batch size.
    """
    readers = [use for use in value.uses() if use.node.op_type != "Shape" or use.node.domain != ""]
    return len(readers) == 1 and not value.is_graph_output()


def dimension(value: ir.Value, axis: int) -> int | None:
    """Size along ``axis`` in elements, when it is known and fixed."""
    if value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def ints_attribute(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    attribute = node.attributes.get(name)
    return tuple(default) if attribute is None else tuple(int(item) for item in attribute.as_ints())


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """An attribute that is one integer."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def float_attribute(node: ir.Node, name: str, default: float) -> float:
    """An attribute that is one number."""
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.as_float())


def string_attribute(node: ir.Node, name: str, default: str) -> str:
    """An attribute that is text."""
    attribute = node.attributes.get(name)
    return default if attribute is None else str(attribute.as_string())
