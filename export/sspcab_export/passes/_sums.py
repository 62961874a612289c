"""The terms of a sum, however it is spelled, its additions are nested, and whatever zeros they start from."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from sspcab_export.passes._reading import constant, constant_input, produced_by, unshared
from sspcab_export.passes._shapes import Entry, broadcasts_into, shape_entries, shape_of
from sspcab_export.passes._stacks import addends_of, cut_from

__all__ = ["Sum", "is_neutral", "sum_of"]


@dataclass(frozen=True, slots=True)
class Sum:
    """A tree of additions: its terms in order, and those of them that are all zero."""

    terms: tuple[ir.Value, ...]
    zeros: tuple[ir.Value, ...]


def sum_of(value: ir.Value) -> Sum | None:
    """The sum that ``value`` is, or None when it is none.

    A partial sum that is read elsewhere too, or is a graph output, counts as a term: it has to stay.
    """
    if _added_by(value) is None:
        return None
    terms: list[ir.Value] = []
    zeros: list[ir.Value] = []
    pending = [value]
    while pending:
        item = pending.pop()
        added = _added_by(item) if item is value or unshared(item) else None
        if added is not None:
            pending.extend(reversed(added))
        else:
            (zeros if _is_zero(item) else terms).append(cut_from(item))
    return Sum(tuple(terms), tuple(zeros))


def _added_by(value: ir.Value) -> tuple[ir.Value, ...] | None:
    """What the node that makes ``value`` adds up; None where it does something else."""
    node = produced_by(value, "Add", "Sum")
    if node is None:
        return addends_of(value)
    return tuple(part for part in node.inputs if part is not None)


def _is_zero(value: ir.Value) -> bool:
    """True when every element is known to be zero."""
    array = constant(value)
    if array is not None:
        return not array.any()
    node = produced_by(value, "Expand", "ConstantOfShape")
    if node is None:
        return False
    if node.op_type == "Expand":
        array = constant_input(node, 0)
        return array is not None and not array.any()
    fill = node.attributes.get("value")
    return fill is None or not fill.as_tensor().numpy().any()


def is_neutral(zero: ir.Value, like: ir.Value) -> bool:
    """True when adding ``zero`` to a value of the shape of ``like`` cannot broadcast it to a larger shape.

    Args:
        zero: All zeros.
        like: (N, C, H, W).
    """
    wanted = shape_of(like)
    return all(shape is not None and broadcasts_into(shape, wanted) for shape in _shapes(zero))


def _shapes(zero: ir.Value) -> list[list[Entry] | None]:
    """The shapes that are broadcast together to give the shape of ``zero``."""
    array = constant(zero)
    if array is not None:
        return [list(array.shape)]
    node = produced_by(zero, "Expand", "ConstantOfShape")
    if node is None:
        return [None]
    if node.op_type == "ConstantOfShape":
        return [shape_entries(node.inputs[0])]
    array = constant_input(node, 0)
    return [None if array is None else list(array.shape), shape_entries(node.inputs[1])]
