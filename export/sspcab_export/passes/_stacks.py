"""Sums over an axis that values were stacked or concatenated along: ``stack().sum(0)``, ``einsum``, ``mean``.

What such a node adds up are the values themselves, as an Add would. A value between them and the sum that is
read elsewhere has to stay, so the sum then counts as none.
"""

from __future__ import annotations

import onnx_ir as ir

from sspcab_export.passes._reading import (
    constant,
    constant_input,
    dimension,
    int_attribute,
    ints_attribute,
    produced_by,
    string_attribute,
    unshared,
)
from sspcab_export.passes._shapes import Entry, shape_entries, shape_of

__all__ = ["addends_of", "cut_from"]

_RANK = 5
"""Of four-dimensional values that are stacked."""

_LETTERS = "ABCDE"
"""Stand for the axes of an ellipsis."""


def addends_of(value: ir.Value) -> tuple[ir.Value, ...] | None:
    """What the node that makes ``value`` adds up along an axis of its own; None where it does not."""
    node = produced_by(value, "ReduceSum", "Einsum", "Mul", "Div", "Squeeze")
    if node is None:
        return None
    if node.op_type in ("Mul", "Div"):
        return _multiple_of_mean(node)
    if node.op_type == "ReduceSum":
        return _along(node.inputs[0], _reduced_axis(node, keeps=False))
    if node.op_type == "Squeeze":
        inner = produced_by(node.inputs[0], "ReduceSum")
        if inner is None or not unshared(inner.outputs[0]):
            return None
        axis = _reduced_axis(inner, keeps=True)
        return _along(inner.inputs[0], axis) if _axis(node) == axis else None
    if node.op_type == "Einsum":
        return _along(node.inputs[0], _contracted_axis(node))
    return None


def cut_from(value: ir.Value) -> ir.Value:
    """The value that a Split takes out of a Concat again; ``value`` itself where it is no such piece."""
    node = produced_by(value, "Split")
    joined = produced_by(node.inputs[0], "Concat") if node is not None else None
    if node is None or joined is None or not (unshared(value) and unshared(joined.outputs[0])):
        return value
    axis, rank = int_attribute(joined, "axis", 0), _RANK - 1
    if int_attribute(node, "axis", 0) % rank != axis % rank or len(node.outputs) != len(joined.inputs):
        return value
    sizes = [None if part is None else dimension(part, axis) for part in joined.inputs]
    told: list[int] | None = list(ints_attribute(node, "split", ())) or None
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = constant_input(node, 1)
        told = [] if given is None else given.ravel().tolist()
    if None in sizes or (len(set(sizes)) != 1 if told is None else told != sizes):
        return value
    return joined.inputs[node.outputs.index(value)] or value


def _multiple_of_mean(node: ir.Node) -> tuple[ir.Value, ...] | None:
    """``mean * n`` or ``mean / (1 / n)`` of n values, which is their sum."""
    for index in (0, 1) if node.op_type == "Mul" else (0,):
        mean, factor = produced_by(node.inputs[index], "ReduceMean"), constant(node.inputs[1 - index])
        if mean is None or factor is None or factor.size != 1 or factor.ndim > _RANK - 1:
            continue
        found = (
            _along(mean.inputs[0], _reduced_axis(mean, keeps=False)) if unshared(mean.outputs[0]) else None
        )
        if found is None:
            return None
        wanted = float(len(found))
        exact = float(factor.item()) == (wanted if node.op_type == "Mul" else 1 / wanted)
        return found if exact else None
    return None


def _reduced_axis(node: ir.Node, *, keeps: bool) -> int | None:
    """The one axis of a rank-5 value that a reduction is over, counted from the first."""
    if bool(int_attribute(node, "keepdims", 1)) != keeps:
        return None
    return _axis(node)


def _axis(node: ir.Node) -> int | None:
    listed = ints_attribute(node, "axes", ())
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = constant_input(node, 1)
        listed = () if given is None else tuple(int(axis) for axis in given.ravel())
    return listed[0] % _RANK if len(listed) == 1 and -_RANK <= listed[0] < _RANK else None


def _contracted_axis(node: ir.Node) -> int | None:
    """The one axis of a rank-5 value that an Einsum sums over, leaving the others as they are.

    A second operand may weigh the summands where it is all ones.
    """
    terms, arrow, left = string_attribute(node, "equation", "").replace(" ", "").partition("->")
    first, comma, second = terms.partition(",")
    if not arrow or first.count("...") > 1 or first.count("...") != left.count("..."):
        return None
    filler = _LETTERS[: _RANK - len(first.replace("...", ""))] if "..." in first else ""
    first, left = first.replace("...", filler), left.replace("...", filler)
    if len(first) != _RANK or len(set(first)) != _RANK:
        return None
    gone = [letter for letter in first if letter not in left]
    if len(gone) != 1 or first.replace(gone[0], "") != left:
        return None
    if comma:
        weights = constant_input(node, 1)
        if second != gone[0] or weights is None or not (weights == 1).all() or weights.size < 2:
            return None
    return first.index(gone[0])


def _along(value: ir.Value | None, axis: int | None) -> tuple[ir.Value, ...] | None:
    """What was put together along ``axis`` of the rank-5 ``value``."""
    if value is None or axis is None or not unshared(value):
        return None
    node = produced_by(value, "Concat", "Reshape")
    if node is None:
        return None
    return _stacked(node, axis) if node.op_type == "Concat" else _parted(node, axis)


def _stacked(node: ir.Node, axis: int) -> tuple[ir.Value, ...] | None:
    """The values of a stack: each gets the axis of its own that they are joined along."""
    if int_attribute(node, "axis", 0) % _RANK != axis:
        return None
    values = []
    for part in node.inputs:
        unsqueezed = produced_by(part, "Unsqueeze")
        if part is None or unsqueezed is None or not unshared(part) or _axis(unsqueezed) != axis:
            return None
        inner = unsqueezed.inputs[0]
        if inner is None or (inner.shape is not None and len(inner.shape) != _RANK - 1):
            return None
        values.append(inner)
    return tuple(values)


def _parted(node: ir.Node, axis: int) -> tuple[ir.Value, ...] | None:
    """The values of a concatenation along ``axis`` that a Reshape parts again, into an axis before it.

    One size of the new shape may be unknown: the number of elements tells it, since they all stay.
    """
    joined, shape = produced_by(node.inputs[0], "Concat"), shape_entries(node.inputs[1])
    if joined is None or not unshared(joined.outputs[0]) or shape is None or len(shape) != _RANK:
        return None
    values = tuple(part for part in joined.inputs if part is not None)
    if int_attribute(joined, "axis", 0) % (_RANK - 1) != axis or shape[axis] != len(values):
        return None
    if 0 in shape and (int_attribute(node, "allowzero", 0) or 0 in shape[axis:]):
        return None
    unknown = 0
    for index, entry in enumerate([*shape[:axis], *shape[axis + 1 :]]):
        sizes = {_entry(part, index) for part in values}
        if entry == 0 or (entry is not None and sizes == {entry}):
            continue
        if isinstance(entry, int) and entry > 0 and any(isinstance(size, int) for size in sizes):
            return None
        unknown += 1
    return values if unknown <= 1 else None


def _entry(value: ir.Value, axis: int) -> Entry:
    shape = shape_of(value)
    return shape[axis] if len(shape) == _RANK - 1 else None
