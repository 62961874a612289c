"""The mean over rows and columns as exporters spell it: one node, two means, a flat map, a full pool."""

from __future__ import annotations

import onnx_ir as ir

from sspcab_export.passes._reading import (
    constant_input,
    dimension,
    int_attribute,
    ints_attribute,
    produced_by,
    string_attribute,
    unshared,
)
from sspcab_export.passes._shapes import shape_entries, shape_of

__all__ = ["MEANS", "averaged"]

MEANS = ("ReduceMean", "GlobalAveragePool", "AveragePool")
"""Operators that the last node of such a mean may be."""

_RANK = 4
_SPATIAL = [2, 3]


def averaged(node: ir.Node) -> ir.Value | None:
    """The (N, C, H, W) value whose mean over H and W ``node`` gives, whatever axes it keeps; None else."""
    source = node.inputs[0]
    if source is None or node.op_type == "GlobalAveragePool":
        return source
    if node.op_type == "AveragePool":
        return source if _covers(node, source) else None
    axes = _axes(node)
    if len(axes) == 2:
        return source if sorted(axis % _RANK for axis in axes) == _SPATIAL else None
    if len(axes) != 1 or not unshared(source):
        return None
    inner = produced_by(source, "ReduceMean", "Reshape")
    if inner is None or inner.inputs[0] is None:
        return None
    matches = _flat(inner) and axes[0] in (2, -1) if inner.op_type == "Reshape" else _other(inner, axes[0])
    return inner.inputs[0] if matches else None


def _axes(node: ir.Node) -> tuple[int, ...]:
    given = constant_input(node, 1) if len(node.inputs) > 1 else None
    return ints_attribute(node, "axes", ()) if given is None else tuple(int(axis) for axis in given.ravel())


def _other(inner: ir.Node, axis: int) -> bool:
    """Whether a mean over ``axis`` of what ``inner`` gives is over the one that ``inner`` left."""
    axes = _axes(inner)
    if len(axes) != 1 or axes[0] % _RANK not in _SPATIAL:
        return False
    if int_attribute(inner, "keepdims", 1):
        return sorted((axes[0] % _RANK, axis % _RANK)) == _SPATIAL
    return axis in (2, -1)


def _flat(reshape: ir.Node) -> bool:
    """Whether (N, C, H, W) becomes (N, C, H * W); the number of elements tells one size that is not known."""
    source, shape = reshape.inputs[0], shape_entries(reshape.inputs[1])
    if source is None or shape is None or len(shape) != 3:
        return False
    given = shape_of(source)
    if len(given) != _RANK:
        return False
    copied = int_attribute(reshape, "allowzero", 0) == 0
    same = [have == want or (have == 0 and copied) for have, want in zip(shape, given, strict=False)][:2]
    height, width = dimension(source, 2), dimension(source, 3)
    rest = height is not None and width is not None and shape[2] == height * width
    return all(same) or (same[1] and rest)


def _covers(pool: ir.Node, source: ir.Value) -> bool:
    """Whether one window of the pool is the whole map."""
    return (
        ints_attribute(pool, "kernel_shape", ()) == (dimension(source, 2), dimension(source, 3))
        and not any(ints_attribute(pool, "pads", (0,) * 4))
        and set(ints_attribute(pool, "dilations", (1, 1))) == {1}
        and string_attribute(pool, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )
