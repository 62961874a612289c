"""Which part of a padded map a value is: read back through Slice chains, whatever their order or sharing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from sspcab_export.passes._reading import (
    constant_input,
    dimension,
    produced_by,
    string_attribute,
)

__all__ = ["Padding", "Window", "padding_of", "window_of"]

_TO_THE_END: Final = 2**31 - 1
"""Exporters write at least this for "up to the end"."""

_RANK: Final = 4
_ROWS: Final = 2
_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of an (N, C, H, W) value; rows, columns: pixels cut at the start and at the end."""

    source: ir.Value
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Padding:
    """An (N, C, H, W) value surrounded by ``size`` pixels on each of its four sides."""

    source: ir.Value
    size: int
    mode: str


def window_of(value: ir.Value) -> Window | None:
    """The window that a chain of Slice nodes cuts out of the value at its start.

    Args:
        value: (N, C, h, w); sliced or not.

    Returns:
        The window, or None where a slice is computed, strided, or cuts batch or channels.
    """
    chain: list[ir.Node] = []
    while (node := produced_by(value, "Slice")) is not None and node.inputs[0] is not None:
        chain.append(node)
        value = node.inputs[0]
    cuts = [(0, 0)] * _RANK
    sizes = [dimension(value, axis) for axis in range(_RANK)]
    for node in reversed(chain):
        for axis, start, end in _ranges(node) or [(-1, 0, 0)]:
            if not 0 <= axis < _RANK:
                return None
            cut = _cut(start, end, sizes[axis])
            if cut is None:
                return None
            cuts[axis] = (cuts[axis][0] + cut[0], cuts[axis][1] + cut[1])
            size = sizes[axis]
            sizes[axis] = None if size is None else size - sum(cut)
    if cuts[0] != (0, 0) or cuts[1] != (0, 0):
        return None
    return Window(value, cuts[_ROWS], cuts[_COLUMNS])


def _ranges(node: ir.Node) -> list[tuple[int, int, int]] | None:
    """(axis, start, end) for each axis that a Slice node cuts; None when they are not constant steps of 1."""
    starts, ends = constant_input(node, 1), constant_input(node, 2)
    if starts is None or ends is None or starts.size != ends.size:
        return None
    axes, steps = np.arange(starts.size), np.ones(starts.size, dtype=np.int64)
    for index, default in ((3, axes), (4, steps)):
        if index < len(node.inputs) and node.inputs[index] is not None:
            given = constant_input(node, index)
            if given is None or given.size != starts.size:
                return None
            default[:] = given.ravel()
    if (steps != 1).any():
        return None
    axes = np.where(axes < 0, axes + _RANK, axes)
    return [(int(a), int(s), int(e)) for a, s, e in zip(axes, starts.ravel(), ends.ravel(), strict=True)]


def _cut(start: int, end: int, size: int | None) -> tuple[int, int] | None:
    """(pixels cut at the start, pixels cut at the end) by ``[start:end]`` on an axis of ``size`` pixels."""
    if size is not None:
        first, last, _ = slice(start, end).indices(size)
        return (first, size - last) if last > first else None
    if start < 0 or 0 <= end < _TO_THE_END:
        return None
    return (start, -end if end < 0 else 0)


def padding_of(value: ir.Value) -> Padding | None:
    """The padding that ``value`` is the result of, when it is the same on all four sides of the map.

    Returns:
        None where ``value`` is not padded, unevenly padded, or padded with another constant than zero.
    """
    node = produced_by(value, "Pad")
    if node is None or node.inputs[0] is None:
        return None
    mode = string_attribute(node, "mode", "constant")
    if mode == "constant" and len(node.inputs) > 2 and node.inputs[2] is not None:
        fill = constant_input(node, 2)
        if fill is None or fill.any():
            return None
    amounts = constant_input(node, 1)
    if amounts is None:
        return None
    axes = np.arange(_RANK)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given = constant_input(node, 3)
        if given is None:
            return None
        axes = np.asarray([int(axis) % _RANK for axis in given.ravel()])
    if amounts.size != 2 * axes.size:
        return None
    sides = np.zeros((2, _RANK), dtype=np.int64)
    sides[:, axes] = amounts.reshape(2, -1)
    size = int(sides[0, _ROWS])
    if size < 1 or sides[:, :_ROWS].any() or (sides[:, _ROWS:] != size).any():
        return None
    return Padding(node.inputs[0], size, mode)
