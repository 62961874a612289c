"""From raw frames to the picture that a network was trained on: in NumPy, and as nodes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import OptionError
from sspcab_export.contract.nodes import binary, constant
from sspcab_export.host_options import Colour

__all__ = ["GREY_WEIGHTS", "InputSpec", "make_picture", "put_input"]

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Luma of R, G and B (ITU-R BT.601), as OpenCV and PIL weigh them; here without rounding to 8 bits."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a network takes: (N, C, H, W) float32.

    Pixels 0 to 255 become ``low`` to ``high``; then ``mean`` is subtracted and the result divided by ``std``.

    Attributes:
        colour: Order of its channels; grey is one channel.
        low: What a black pixel becomes.
        high: What a white pixel becomes.
        mean: By channel in the network's order, or one for all; empty: nothing is subtracted.
        std: Likewise; empty: nothing is divided.

    Raises:
        OptionError: A range without width, a standard deviation of 0 or less, or as many numbers as there are
            neither channels nor one.
    """

    colour: Colour = "RGB"
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise OptionError(f"input range is {self.low:g}:{self.high:g}, expected LOW:HIGH with LOW < HIGH")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, self.channels):
                raise OptionError(f"{len(values)} numbers for the {name} of {self.channels} channels")
            if not np.isfinite(values).all() or (name == "std" and min(values, default=1.0) <= 0):
                raise OptionError(f"the {name} is {values}, expected finite numbers, std above 0")

    @property
    def channels(self) -> int:
        """C."""
        return 1 if self.colour == "grey" else 3


def make_picture(frames: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """(N, H, W, 3) uint8 RGB -> (N, C, H, W) float32, as the network wants it."""
    x = frames.astype(np.float32).transpose(0, 3, 1, 2)
    if spec.colour == "BGR":
        x = x[:, ::-1]
    elif spec.colour == "grey":
        x = (x * _by_channel(GREY_WEIGHTS)).sum(axis=1, keepdims=True, dtype=np.float32)
    if (spec.low, spec.high) != (0.0, 255.0):
        x = x / np.float32(255)
        if (spec.low, spec.high) != (0.0, 1.0):
            x = x * np.float32(spec.high - spec.low) + np.float32(spec.low)
    if spec.mean:
        x = x - _by_channel(spec.mean)
    if spec.std:
        x = x / _by_channel(spec.std)
    return np.ascontiguousarray(x, dtype=np.float32)


def put_input(graph: ir.Graph, picture: ir.Value, spec: InputSpec, frames: ir.Value) -> ir.Value:
    """Make ``frames`` the graph's input instead of ``picture``; gives the picture that is computed from it.

    Args:
        graph: Changed in place.
        picture: Float input (N, C, H, W) of the graph.
        spec: What is done to the pixels.
        frames: The new input, uint8 (N, H, W, 3).
    """
    cast = ir.node("Cast", [frames], {"to": int(ir.DataType.FLOAT)})
    nodes = [cast, ir.node("Transpose", [cast.outputs[0]], {"perm": [0, 3, 1, 2]})]

    def apply(op: str, name: str, values: Sequence[float]) -> None:
        nodes.append(binary(op, graph, nodes[-1].outputs[0], f"contract_{name}", _by_channel(values)))

    if spec.colour == "BGR":
        order = constant(graph, "contract_order", np.array([2, 1, 0], np.int64))
        nodes.append(ir.node("Gather", [nodes[-1].outputs[0], order], {"axis": 1}))
    elif spec.colour == "grey":
        apply("Mul", "luma", GREY_WEIGHTS)
        sizes = constant(graph, "contract_thirds", np.ones(3, np.int64))
        parts = ir.node("Split", [nodes[-1].outputs[0], sizes], {"axis": 1}, num_outputs=3)
        nodes.append(parts)
        red_green = ir.node("Add", [parts.outputs[0], parts.outputs[1]])
        nodes += [red_green, ir.node("Add", [red_green.outputs[0], parts.outputs[2]])]
    if (spec.low, spec.high) != (0.0, 255.0):
        apply("Div", "white", [255.0])
        if (spec.low, spec.high) != (0.0, 1.0):
            apply("Mul", "range", [spec.high - spec.low])
            apply("Add", "low", [spec.low])
    if spec.mean:
        apply("Sub", "mean", spec.mean)
    if spec.std:
        apply("Div", "std", spec.std)
    prepared = nodes[-1].outputs[0]
    prepared.shape, prepared.dtype = picture.shape, ir.DataType.FLOAT
    ir.convenience.replace_all_uses_with(picture, prepared, replace_graph_outputs=True)
    if len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)
    graph.inputs[list(graph.inputs).index(picture)] = frames
    return prepared


def _by_channel(values: Sequence[float]) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)
