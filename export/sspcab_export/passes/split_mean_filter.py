"""A large square mean filter becomes one over rows and one over columns.

DRAEM's score takes the maximum of a 21x21 mean: 441 additions a pixel in one go, 42 in two. Equal up to
rounding, because a mean over a rectangle is the mean of the means of its rows.
"""

from __future__ import annotations

import onnx_ir as ir

from sspcab_export.passes._reading import int_attribute, ints_attribute, string_attribute
from sspcab_export.passes._report import Report

__all__ = ["split_mean_filter"]

_LEAST_SIDE = 5
"""Smaller filters cost less than a second pass over the map."""


def split_mean_filter(model: ir.Model) -> Report:
    """Split every AveragePool of stride 1 whose divisor is the same everywhere."""
    changes = 0
    for node in list(model.graph):
        if node.op_type != "AveragePool" or node.domain != "" or node.inputs[0] is None:
            continue
        kernel = ints_attribute(node, "kernel_shape", ())
        pads = ints_attribute(node, "pads", (0, 0, 0, 0))
        if len(kernel) != 2 or min(kernel) < _LEAST_SIDE or not _is_plain(node, pads):
            continue
        top, left, bottom, right = pads
        rows = _mean(node.inputs[0], (kernel[0], 1), (top, 0, bottom, 0))
        columns = _mean(rows.outputs[0], (1, kernel[1]), (0, left, 0, right))
        columns.name = node.name
        old, new = node.outputs[0], columns.outputs[0]
        new.type, new.shape = old.type, old.shape
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [rows, columns], [old], [new])
        changes += 1
    return Report(changes)


def _is_plain(node: ir.Node, pads: tuple[int, ...]) -> bool:
    counts_padding = int_attribute(node, "count_include_pad", 0) == 1 or not any(pads)
    return (
        counts_padding
        and string_attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and set(ints_attribute(node, "strides", (1, 1))) == {1}
        and set(ints_attribute(node, "dilations", (1, 1))) == {1}
    )


def _mean(source: ir.Value, kernel: tuple[int, int], pads: tuple[int, int, int, int]) -> ir.Node:
    return ir.node(
        "AveragePool",
        [source],
        {"kernel_shape": kernel, "pads": pads, "strides": (1, 1), "count_include_pad": 1},
    )
