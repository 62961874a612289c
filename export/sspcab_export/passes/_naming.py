"""Names that users know: the module path a block had when it was exported."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["block_path", "drop_unused", "new_initializer"]


def block_path(convolutions: Sequence[ir.Node], number: int) -> str:
    """The dotted module path that the masked convolutions share, as far as names have kept it.

    torch's exporters name weights by parameter (``encoder.block5.conv1.weight``); the older one also names
    nodes by module (``/encoder/block5/conv1/Conv``).

    Args:
        convolutions: The four Conv nodes.
        number: What to call the block, ``block<number>``, when no name tells.
    """
    weights = [node.inputs[1].name or "" if node.inputs[1] is not None else "" for node in convolutions]
    for separator, names in ((".", weights), ("/", [node.name or "" for node in convolutions])):
        parts = [name.strip(separator).split(separator)[:-2] for name in names]
        levels = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))
        shared = [level[0] for level in levels]
        if shared and all(":" not in part for part in shared):
            return ".".join(shared)
    return f"block{number}"


def new_initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Add a constant under this name, or under it with the first number that makes it unique."""
    taken, number = name, 0
    while taken in graph.initializers:
        number += 1
        taken = f"{name}_{number}"
    tensor = ir.tensor(np.asarray(array, order="C"), name=taken)
    value = ir.Value(name=taken, const_value=tensor, type=ir.TensorType(tensor.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def drop_unused(graph: ir.Graph, values: Iterable[ir.Value]) -> None:
    """Remove those of these constants that nothing reads any more."""
    for value in values:
        if value.name in graph.initializers and not value.uses() and not value.is_graph_output():
            del graph.initializers[value.name or ""]
