"""What a computed shape says, entry by entry, without knowing the batch size or the map size."""

from __future__ import annotations

import onnx_ir as ir

from sspcab_export.passes._reading import constant, constant_input, int_attribute

__all__ = ["Entry", "broadcasts_into", "shape_entries", "shape_of"]

Entry = int | str | tuple[ir.Value, int] | None
"""A number; a size known by its symbol only; the size of a value along an axis; or nothing known."""


def shape_of(value: ir.Value) -> list[Entry]:
    """Fixed sizes as numbers, free ones as symbol or (value, axis); empty when the rank is unknown."""
    entries: list[Entry] = []
    for axis, size in enumerate(value.shape if value.shape is not None else ()):
        symbol = size if isinstance(size, int) else size.value
        entries.append((value, axis) if symbol is None else symbol)
    return entries


def broadcasts_into(shape: list[Entry], wanted: list[Entry]) -> bool:
    """True when a tensor of ``shape``, broadcast with one of shape ``wanted``, surely gives ``wanted``."""
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(have is not None and have in (1, want) for have, want in pairs)


def shape_entries(value: ir.Value | None) -> list[Entry] | None:
    """The entries of a 1-D (or, as one entry, 0-D) integer tensor that a graph computes from shapes.

    Follows what exporters write: Shape, Gather, Slice, Concat, Unsqueeze, Squeeze, Reshape to one axis, Cast.

    Args:
        value: The shape input of a Reshape, Expand, ConstantOfShape.

    Returns:
        One entry for each element, or None where ``value`` is computed in another way.
    """
    array = constant(value)
    if array is not None:
        return [int(item) for item in array.ravel()] if array.ndim <= 1 and array.dtype.kind == "i" else None
    node = value.producer() if value is not None else None
    if node is None or node.domain != "":
        return None
    if node.op_type == "Shape" and node.inputs[0] is not None:
        shape = shape_of(node.inputs[0])
        start, end = int_attribute(node, "start", 0), int_attribute(node, "end", len(shape))
        return shape[start:end] or None
    if node.op_type in ("Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity"):
        return shape_entries(node.inputs[0])
    if node.op_type == "Gather":
        return _gathered(node)
    if node.op_type == "Slice":
        return _sliced(node)
    if node.op_type == "Concat":
        parts = [shape_entries(part) for part in node.inputs]
        known = [part for part in parts if part is not None]
        return [entry for part in known for entry in part] if len(known) == len(parts) else None
    return None


def _gathered(node: ir.Node) -> list[Entry] | None:
    entries, indices = shape_entries(node.inputs[0]), constant_input(node, 1)
    if entries is None or indices is None or indices.ndim > 1:
        return None
    wanted = [int(index) for index in indices.ravel()]
    if not all(-len(entries) <= index < len(entries) for index in wanted):
        return None
    return [entries[index] for index in wanted]


def _sliced(node: ir.Node) -> list[Entry] | None:
    entries, start, end = shape_entries(node.inputs[0]), constant_input(node, 1), constant_input(node, 2)
    step = constant_input(node, 4) if len(node.inputs) > 4 else None
    if entries is None or start is None or end is None or start.size != 1 or end.size != 1:
        return None
    if step is not None and step.tolist() != [1]:
        return None
    return entries[int(start.item()) : int(end.item())]
