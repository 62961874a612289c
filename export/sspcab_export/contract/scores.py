"""From what a network gives to score and map: in NumPy, and as nodes of a graph.

Pooling operators do the work in the graph: they mean the same in every opset and on every engine, where
reductions changed how they take their axes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import HostError, OptionError
from sspcab_export.contract.nodes import constant, reshaped

__all__ = ["RECIPES", "Recipe", "is_map", "is_score", "make_score", "parse_recipe", "put_score"]

RECIPES = ("map-max", "map-mean", "map-mean-filter:K", "error", "output:NAME")
"""``map-max``: the largest value of the map; ``map-mean``: its mean; ``map-mean-filter:K``: the largest mean
over K x K pixels, zeros around the map (DRAEM's, with K = 21); ``error``: the mean squared difference between
the network's input and its output, a reconstruction of it; ``output:NAME``: an output of the network."""

_SIDE = re.compile("[1-9][0-9]{0,3}")
_Kind = Literal["map-max", "map-mean", "map-mean-filter", "error", "output"]
Arrays = Mapping[str, npt.NDArray[np.float32]]
Scored = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a score is made.

    Attributes:
        kind: One of :data:`RECIPES`, without its parameter.
        source: The output it reads: the score itself, the map, or the reconstruction.
        map: For a score of its own: the output that is the map, or None.
        side: K of the mean filter, odd.
    """

    kind: _Kind
    source: str = ""
    map: str | None = None
    side: int = 1

    @property
    def text(self) -> str:
        """As on the command line."""
        if self.kind == "output":
            return f"output:{self.source}"
        return f"map-mean-filter:{self.side}" if self.kind == "map-mean-filter" else self.kind

    @property
    def from_map(self) -> str | None:
        """How the score follows from the map, for manifests; None where it does not."""
        if self.kind == "output":
            return None
        return "map-mean" if self.kind == "error" else self.text


def parse_recipe(text: str, map_output: str | None) -> Recipe:
    """A recipe as on the command line; ``source`` is empty where no output was named.

    Args:
        text: One of :data:`RECIPES`.
        map_output: The output that is the map, or for ``error`` the reconstruction.

    Raises:
        OptionError: No such recipe, or a K that is no odd number below 10000.
    """
    kind, colon, parameter = text.partition(":")
    if kind == "output" and parameter:
        return Recipe("output", parameter, map_output)
    if kind == "map-mean-filter" and _SIDE.fullmatch(parameter) and int(parameter) % 2:
        return Recipe("map-mean-filter", map_output or "", side=int(parameter))
    if not colon:
        for plain in ("map-max", "map-mean", "error"):
            if kind == plain:
                return Recipe(plain, map_output or "")
    raise OptionError(f"score {text!r} is not understood: expected one of {', '.join(RECIPES)}, K odd")


def is_score(shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape, for one picture, is one number."""
    return int(np.prod(shape)) == 1


def is_map(shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape, for one picture, is one map: (1, h, w), (1, 1, h, w) or (h, w)."""
    if len(shape) == 2:
        return min(shape) > 1
    one = len(shape) == 3 or (len(shape) == 4 and shape[1] == 1)
    return one and shape[0] == 1 and int(np.prod(shape)) > 1


def make_score(recipe: Recipe, outputs: Arrays, picture: npt.NDArray[np.float32]) -> Scored:
    """Scores (N,) and maps (N, h, w), or no maps.

    Args:
        recipe: With its source.
        outputs: What the network gave, by name.
        picture: What it was given, (N, C, H, W) float32.
    """
    source = np.asarray(outputs[recipe.source], np.float32)
    count = len(picture)
    if recipe.kind == "output":
        own = None if recipe.map is None else np.asarray(outputs[recipe.map], np.float32)
        return source.reshape(count), None if own is None else own.reshape(count, *own.shape[-2:])
    if recipe.kind == "error":
        maps = np.square(picture - source).mean(axis=1, dtype=np.float32)
    else:
        maps = source.reshape(count, *source.shape[-2:])
    ranked = maps
    if recipe.kind == "map-mean-filter":
        ranked = np.stack([_mean_filter(one, recipe.side) for one in maps])
    flat = ranked.reshape(count, -1)
    mean = recipe.kind in ("map-mean", "error")
    return (flat.mean(axis=1, dtype=np.float64) if mean else flat.max(axis=1)).astype(np.float32), maps


def _mean_filter(values: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Mean over ``side`` x ``side`` pixels, zeros around the map, float64 inside."""
    wide = cv2.boxFilter(
        values.astype(np.float64), -1, (side, side), normalize=True, borderType=cv2.BORDER_CONSTANT
    )
    return np.asarray(wide, np.float32)


def put_score(
    graph: ir.Graph, recipe: Recipe, picture: ir.Value, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Make ``score`` and, where there is one, ``map`` the graph's outputs.

    Whatever else is called so keeps its name: let names be made unique afterwards, outputs first.

    Args:
        graph: Changed in place.
        recipe: With its source.
        picture: The network's input in the graph.
        shapes: Shape of every output for one picture.

    Raises:
        HostError: The graph has no such output.
    """
    by_name = {value.name: value for value in graph.outputs}
    wanted = [name for name in (recipe.source, recipe.map) if name is not None]
    for name in wanted:
        if name not in by_name:
            raise HostError(
                f"the graph has no output {name!r}, expected one of {', '.join(map(str, by_name))}"
            )
    source = by_name[recipe.source]
    if recipe.kind == "output":
        score = reshaped(graph, source, "score", [-1])
        anomaly = None
        if recipe.map is not None:
            anomaly = _image(graph, by_name[recipe.map], shapes[recipe.map])
    else:
        anomaly = (
            _squared_error(graph, picture, source, shapes[recipe.source][1])
            if recipe.kind == "error"
            else _image(graph, source, shapes[recipe.source])
        )
        ranked = anomaly
        if recipe.kind == "map-mean-filter":
            ranked = _pooled(graph, anomaly, recipe.side)
        pool = "GlobalAveragePool" if recipe.kind in ("map-mean", "error") else "GlobalMaxPool"
        score = reshaped(graph, _node(graph, pool, [ranked]), "score", [-1])
    graph.outputs.clear()
    graph.outputs.append(_named(score, "score"))
    if anomaly is not None:
        squeezed = _node(graph, "Squeeze", [anomaly, constant(graph, "contract_map_axis", np.array([1]))])
        graph.outputs.append(_named(squeezed, "map"))


def _image(graph: ir.Graph, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    """A map as (N, 1, h, w)."""
    if len(shape) == 4:
        return value
    axes = np.array([1] if len(shape) == 3 else [0, 1])
    return _node(graph, "Unsqueeze", [value, constant(graph, "contract_channel_axis", axes)])


def _squared_error(graph: ir.Graph, picture: ir.Value, made: ir.Value, channels: int) -> ir.Value:
    """Mean over the channels of the squared difference, (N, 1, H, W)."""
    difference = _node(graph, "Sub", [picture, made])
    squared = _node(graph, "Mul", [difference, difference])
    if channels == 1:
        return squared
    sizes = constant(graph, "contract_channels", np.ones(channels, np.int64))
    split = ir.node("Split", [squared, sizes], {"axis": 1}, num_outputs=channels)
    graph.append(split)
    total = _node(graph, "Sum", list(split.outputs))
    share = constant(graph, "contract_channel_share", np.full((1, 1, 1, 1), channels, np.float32))
    return _node(graph, "Div", [total, share])


def _pooled(graph: ir.Graph, value: ir.Value, side: int) -> ir.Value:
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": [side, side], "strides": [1, 1], "pads": [side // 2] * 4, "count_include_pad": 1,
    }  # fmt: skip
    node = ir.node("AveragePool", [value], attributes)
    graph.append(node)
    return node.outputs[0]


def _node(graph: ir.Graph, op: str, inputs: list[ir.Value]) -> ir.Value:
    node = ir.node(op, inputs)
    graph.append(node)
    return node.outputs[0]


def _named(value: ir.Value, name: str) -> ir.Value:
    value.name, value.dtype = name, ir.DataType.FLOAT
    return value
