"""Inputs and outputs of ONNX files as others write them: half and double precision, channels last.

TensorFlow's converters keep (N, H, W, C); converters to half precision change inputs and outputs too. What
networks take and give here is float32 and (N, C, H, W): NumPy does it around the graph as it came, nodes do
it in the graph that is exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import HostError

__all__ = ["OnnxInput", "give_floats", "input_of", "is_turned", "take_floats", "to_float32"]

_DTYPES: dict[ir.DataType, np.dtype[Any]] = {
    ir.DataType.FLOAT16: np.dtype(np.float16),
    ir.DataType.FLOAT: np.dtype(np.float32),
    ir.DataType.DOUBLE: np.dtype(np.float64),
}
_CHANNELS = (1, 3)
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """What a graph takes.

    Attributes:
        name: Of the input.
        dtype: float16, float32 or float64.
        channels_last: (N, H, W, C) and not (N, C, H, W).
        sizes: C, H and W, None where they are free.
    """

    name: str
    dtype: np.dtype[Any]
    channels_last: bool
    sizes: tuple[int | None, int | None, int | None]

    def fed(self, picture: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """(N, C, H, W) float32 -> what the graph is fed; half precision rounds to the nearest even."""
        turned = picture.transpose(_TO_LAST) if self.channels_last else picture
        return np.ascontiguousarray(turned, dtype=self.dtype)


def input_of(picture: ir.Value, where: str) -> OnnxInput:
    """What the input takes; the channels are last where only the last size is 1 or 3.

    Raises:
        HostError: No float pictures.
    """
    shape = [] if picture.shape is None else list(picture.shape)
    dtype = None if picture.dtype is None else _DTYPES.get(picture.dtype)
    if dtype is None or len(shape) != 4:
        raise HostError(
            f"{where} takes {picture.dtype} {tuple(map(str, shape))}, expected float pictures "
            "(N, C, H, W) or (N, H, W, C) of 16, 32 or 64 bits, or a contract graph's frames"
        )
    sizes = [size if isinstance(size, int) else None for size in shape]
    last = sizes[3] in _CHANNELS and sizes[1] not in _CHANNELS
    channels, height, width = (sizes[3], sizes[1], sizes[2]) if last else (sizes[1], sizes[2], sizes[3])
    return OnnxInput(str(picture.name), dtype, last, (channels, height, width))


def is_turned(shape: Sequence[int], channels_last: bool) -> bool:
    """Whether an output of this shape has its channels last: (N, h, w, 1), or what such a network gives."""
    if len(shape) != 4:
        return False
    if channels_last:
        return shape[1] != 1 or shape[3] in _CHANNELS
    return shape[3] == 1 and min(shape[1:3]) > 1


def to_float32(value: object, turned: bool) -> npt.NDArray[np.float32] | None:
    """An output as float32, (N, C, H, W) where it was ``turned``; None for labels, masks and sequences."""
    if not isinstance(value, np.ndarray) or value.dtype not in _DTYPES.values():
        return None
    array = value.transpose(_TO_FIRST) if turned else value
    return np.asarray(array, np.float32, order="C")


def take_floats(graph: ir.Graph, picture: ir.Value, taken: OnnxInput, shape: ir.Shape) -> None:
    """Let a graph take float32 (N, C, H, W) instead of ``picture``, under the same name.

    Args:
        graph: Changed in place.
        picture: Its input.
        taken: What that is.
        shape: (N, C, H, W) of the new one.
    """
    if taken.dtype == np.float32 and not taken.channels_last:
        picture.shape = shape
        return
    given = ir.Value(name=picture.name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    nodes = []
    value = given
    if taken.channels_last:
        nodes.append(ir.node("Transpose", [value], {"perm": _TO_LAST}))
        value = nodes[-1].outputs[0]
    if taken.dtype != np.float32 and picture.dtype is not None:
        nodes.append(ir.node("Cast", [value], {"to": int(picture.dtype)}))
        value = nodes[-1].outputs[0]
    value.type = picture.type
    picture.name = f"{picture.name}_as_it_was"
    ir.convenience.replace_all_uses_with(picture, value, replace_graph_outputs=True)
    graph.insert_before(graph[0], nodes)
    graph.inputs[list(graph.inputs).index(picture)] = given


def give_floats(graph: ir.Graph, turned: frozenset[str]) -> None:
    """Let a graph give float32 (N, C, H, W) instead of other floats and of ``turned`` outputs.

    What is no float stays; nobody reads it.
    """
    for index, output in enumerate(graph.outputs):
        value, name = output, output.name
        nodes = []
        if output.dtype in _DTYPES and output.dtype != ir.DataType.FLOAT:
            nodes.append(ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}))
            value = nodes[-1].outputs[0]
        if name in turned:
            nodes.append(ir.node("Transpose", [value], {"perm": _TO_FIRST}))
            value = nodes[-1].outputs[0]
        if nodes:
            output.name = f"{name}_as_it_was"
            value.name, value.dtype = name, ir.DataType.FLOAT
            graph.extend(nodes)
            graph.outputs[index] = value
