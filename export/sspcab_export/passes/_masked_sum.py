"""Recognition of the masked convolution by what it computes, not by what its nodes are called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.block import Corner, Geometry
from sspcab_export.passes._reading import (
    constant_input,
    dimension,
    int_attribute,
    ints_attribute,
    produced_by,
    string_attribute,
    unshared,
)
from sspcab_export.passes._sums import Sum, is_neutral, sum_of
from sspcab_export.passes._windows import Padding, Window, padding_of, window_of

__all__ = ["Branch", "MaskedSum", "masked_sum_of"]

_CORNERS: tuple[Corner, ...] = ("top-left", "bottom-left", "top-right", "bottom-right")


@dataclass(frozen=True, slots=True)
class Branch:
    """One masked convolution: its Conv node and its constants, weight (C, C, k, k) and bias (C,)."""

    node: ir.Node
    weight: npt.NDArray[np.generic]
    bias: npt.NDArray[np.generic] | None


@dataclass(frozen=True, slots=True)
class _Part:
    """A branch, the value it sees, and whether it has a ReLU of its own."""

    seen: ir.Value
    branch: Branch
    relu: bool


@dataclass(frozen=True, slots=True)
class MaskedSum:
    """Four convolutions, each over one corner's window of one padded map, added up.

    Attributes:
        output: The sum, (N, C, H, W).
        padding: How the block's input is padded.
        geometry: Sub-kernel and dilation, as sizes and offsets tell them.
        branches: The convolution that looks at each corner.
        relu: True when every branch has its own ReLU before the addition.
    """

    output: ir.Value
    padding: Padding
    geometry: Geometry
    branches: dict[Corner, Branch]
    relu: bool


def masked_sum_of(output: ir.Value) -> MaskedSum | None:
    """The masked convolution that ``output`` is the sum of, or None.

    Nothing inside may be read elsewhere or be a graph output; weights must be constants.
    """
    total = sum_of(output) or Sum((output,), ())
    if len(total.terms) > len(_CORNERS):
        return None
    seen = [part for term in total.terms for part in _parts(term, alone=term is output)]
    relus = {part.relu for part in seen}
    known = [window for window in (window_of(part.seen) for part in seen) if window is not None]
    if len(seen) != len(_CORNERS) or len(relus) != 1 or len(known) != len(_CORNERS):
        return None
    if len({window.source for window in known}) != 1:
        return None
    padding = padding_of(known[0].source)
    found = [part.branch for part in seen]
    shapes = {branch.weight.shape for branch in found}
    if padding is None or len(shapes) != 1:
        return None
    channels_out, channels_in, height, width = shapes.pop()
    if height != width or channels_out != channels_in or padding.size < height:
        return None
    geometry = Geometry(height, padding.size - height)
    placed = _placed(known, found, geometry)
    if placed is None or not all(is_neutral(zero, padding.source) for zero in total.zeros):
        return None
    return MaskedSum(output, padding, geometry, placed, relus.pop())


def _parts(term: ir.Value, *, alone: bool) -> list[_Part]:
    """The masked convolutions that ``term`` is; none where it is something else.

    Usually one. A convolution of several maps, concatenated, is as many, each with its share of the weight.
    """
    value, relu = _without_relu(term)
    branch = _branch(value, alone=alone)
    if branch is None or branch.node.inputs[0] is None or (alone and relu):
        return []
    source = branch.node.inputs[0]
    joined = produced_by(source, "Concat")
    if joined is None:
        return [_Part(source, branch, relu)]
    maps = [one for one in joined.inputs if one is not None]
    shares = np.split(branch.weight, len(maps), axis=1) if branch.weight.shape[1] % len(maps) == 0 else []
    same = {dimension(one, 1) for one in maps} == {branch.weight.shape[1] // len(maps)}
    if relu or not same or int_attribute(joined, "axis", 0) not in (1, -3) or not unshared(source):
        return []
    biases = [branch.bias, *[None] * (len(maps) - 1)]
    return [
        _Part(one, Branch(branch.node, share, bias), relu)
        for one, share, bias in zip(maps, shares, biases, strict=True)
    ]


def _without_relu(value: ir.Value) -> tuple[ir.Value, bool]:
    node = produced_by(value, "Relu")
    if node is None or node.inputs[0] is None or not unshared(value):
        return value, False
    return node.inputs[0], True


def _branch(value: ir.Value, *, alone: bool) -> Branch | None:
    """The plain convolution that makes ``value``: stride 1, no padding, no dilation, one group, constants.

    Where it is ``alone`` it is the whole sum, which may be read as often as anybody likes.
    """
    node = produced_by(value, "Conv")
    if node is None or not (alone or unshared(value)):
        return None
    weight = constant_input(node, 1)
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = constant_input(node, 2) if has_bias else None
    if weight is None or weight.ndim != 4:
        return None
    if has_bias and (bias is None or bias.shape != weight.shape[:1]):
        return None
    plain = (
        int_attribute(node, "group", 1) == 1
        and set(ints_attribute(node, "strides", (1, 1))) == {1}
        and set(ints_attribute(node, "dilations", (1, 1))) == {1}
        and set(ints_attribute(node, "pads", (0,) * 4)) == {0}
        and string_attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )
    return Branch(node, weight, bias) if plain else None


def _placed(windows: list[Window], branches: list[Branch], geometry: Geometry) -> dict[Corner, Branch] | None:
    """Each branch by the corner its window looks at; None unless all four corners are there."""
    border = geometry.border
    corners: dict[tuple[tuple[int, int], tuple[int, int]], Corner] = {}
    for corner in _CORNERS:
        top, left = geometry.offset(corner)
        corners[(top, border - top), (left, border - left)] = corner
    placed: dict[Corner, Branch] = {}
    for window, branch in zip(windows, branches, strict=True):
        corner_seen = corners.get((window.rows, window.columns))
        if corner_seen is not None:
            placed[corner_seen] = branch
    return placed if len(placed) == len(_CORNERS) else None
