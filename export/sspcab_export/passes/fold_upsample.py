"""Nearest upsampling by two and a 3x3 convolution become four 2x2 convolutions at the low resolution.

Of the nine pixels that the convolution sees after upsampling, some are copies of the same pixel before it, so
their weights can be added up: every output pixel is a 2x2 convolution of the low resolution, one of four by
the parity of its row and column. 16 multiplications take the place of 36, equal up to the rounding of the
sums. The four results are interleaved by DepthToSpace.

Interleaving costs what wide layers save many times over and narrow ones do not. Measured on two cores with
AVX2, OpenVINO takes 0.58 to 0.92 of the time for such a layer of 24 channels in and 16 out or more, and 0.88
to 1.11 below that; ONNX Runtime 0.7 of it at 256 channels and twice as long at 16. So it is not among the
passes that every graph goes through: it is for targets that gain from it, where they do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_export.passes._naming import new_initializer
from sspcab_export.passes._reading import (
    constant_input,
    dimension,
    int_attribute,
    ints_attribute,
    produced_by,
    string_attribute,
    unshared,
)
from sspcab_export.passes._report import Report

__all__ = ["fold_upsample", "phase_weights"]

_FACTOR = 2

_ROUNDING = {
    ("asymmetric", "floor"),
    ("asymmetric", "round_prefer_floor"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_floor"),
}
"""Coordinates and rounding that give pixel ``x`` the source pixel ``x // 2`` at a scale of 2."""


def fold_upsample(model: ir.Model, *, inputs: int = 1, outputs: int = 1) -> Report:
    """Fold every such pair whose weights are constant and whose upsampled picture nothing else reads.

    Args:
        model: Changed in place.
        inputs: Fewest channels that the convolution reads; narrower ones stay. Also ``outputs``: gives.
    """
    changes = 0
    for node in list(model.graph):
        upsample = _upsampling(node)
        if upsample is None:
            continue
        weight = constant_input(node, 1)
        assert weight is not None
        if weight.shape[1] < inputs or weight.shape[0] < outputs:
            continue
        _replace(model.graph, node, upsample, np.asarray(weight, np.float32))
        changes += 1
    return Report(changes)


def phase_weights(weight: npt.NDArray[np.float32]) -> dict[tuple[int, int], npt.NDArray[np.float32]]:
    """(O, I, 3, 3) -> by parity of row and column, (O, I, 2, 2) float32.

    An even row sees one source row through the first weight and the next through the sum of the other two; an
    odd row the other way round. Columns alike.
    """
    exact = weight.astype(np.float64)
    return {
        (row, column): _merged(_merged(exact, 2, row), 3, column).astype(np.float32)
        for row in range(_FACTOR)
        for column in range(_FACTOR)
    }


def _merged(weight: npt.NDArray[np.float64], axis: int, parity: int) -> npt.NDArray[np.float64]:
    first, middle, last = np.split(weight, 3, axis=axis)
    pair = (first, middle + last) if parity == 0 else (first + middle, last)
    return np.concatenate(pair, axis=axis)


def _upsampling(node: ir.Node) -> ir.Node | None:
    """The upsampling that feeds ``node``, where the two can be folded."""
    if node.op_type != "Conv" or node.domain != "" or node.inputs[0] is None:
        return None
    weight = constant_input(node, 1)
    plain = (
        weight is not None
        and weight.dtype == np.float32
        and weight.shape[2:] == (3, 3)
        and ints_attribute(node, "pads", (0, 0, 0, 0)) == (1, 1, 1, 1)
        and set(ints_attribute(node, "strides", (1, 1))) == {1}
        and set(ints_attribute(node, "dilations", (1, 1))) == {1}
        and int_attribute(node, "group", 1) == 1
        and string_attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    )
    upsample = produced_by(node.inputs[0], "Resize") if plain else None
    if upsample is None or not unshared(node.inputs[0]) or not _doubles(upsample):
        return None
    return upsample


def _doubles(node: ir.Node) -> bool:
    """Whether a Resize repeats every pixel twice along height and width, and does nothing else."""
    how = (
        string_attribute(node, "coordinate_transformation_mode", "half_pixel"),
        string_attribute(node, "nearest_mode", "round_prefer_floor"),
    )
    if string_attribute(node, "mode", "nearest") != "nearest" or how not in _ROUNDING:
        return False
    if "axes" in node.attributes or node.inputs[0] is None:
        return False
    scales, sizes = constant_input(node, 2), constant_input(node, 3)
    if scales is not None and scales.size:
        return bool(scales.tolist() == [1, 1, _FACTOR, _FACTOR])
    if sizes is None or sizes.size != 4:
        return False
    factors = (1, 1, _FACTOR, _FACTOR)
    before = [dimension(node.inputs[0], axis) for axis in range(4)]
    return all(
        size is not None and int(wanted) == size * factor
        for size, factor, wanted in zip(before, factors, sizes, strict=True)
    )


def _replace(graph: ir.Graph, node: ir.Node, upsample: ir.Node, weight: npt.NDArray[np.float32]) -> None:
    source, named, bias = upsample.inputs[0], node.inputs[1], node.inputs[2:]
    assert source is not None
    assert named is not None
    phases = [
        _phase(graph, source, f"{named.name}.{row}{column}", values, (row, column), bias)
        for (row, column), values in phase_weights(weight).items()
    ]
    together = ir.node("Concat", [phase.outputs[0] for phase in phases], {"axis": 1})
    woven = ir.node(
        "DepthToSpace", [together.outputs[0]], {"blocksize": _FACTOR, "mode": "DCR"}, name=node.name
    )
    old, new = node.outputs[0], woven.outputs[0]
    new.type, new.shape = old.type, old.shape
    ir.convenience.replace_nodes_and_values(graph, node, [node], [*phases, together, woven], [old], [new])


def _phase(
    graph: ir.Graph,
    source: ir.Value,
    name: str,
    weight: npt.NDArray[np.float32],
    parity: tuple[int, int],
    bias: Sequence[ir.Value | None],
) -> ir.Node:
    """The convolution of output pixels of one parity; an even side begins a pixel before the picture."""
    row, column = parity
    attributes: dict[str, int | tuple[int, ...]] = {
        "kernel_shape": (2, 2),
        "pads": (1 - row, 1 - column, row, column),
        "strides": (1, 1),
        "dilations": (1, 1),
        "group": 1,
    }
    return ir.node("Conv", [source, new_initializer(graph, name, weight), *bias], attributes, name=name)
