"""What flows through a graph: ranges of every tensor and means of every channel, measured on pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import GraphError
from sspcab_edge.ports import Entry
from sspcab_export.passes._naming import new_initializer
from sspcab_export.precision.layers import find_layers
from sspcab_export.running import GraphRunner

__all__ = ["Activations", "float_tensors", "measure", "stress_frames"]

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Activations:
    """Statistics of the tensors of a graph over some pictures.

    Attributes:
        ranges: (lowest, highest) value of each float tensor, by name.
        channel_means: (C,) float64 mean of each channel of what goes into a layer, by tensor name.
        pictures: How many pictures were measured.
    """

    ranges: Mapping[str, tuple[float, float]]
    channel_means: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)
    pictures: int

    def joined(self, other: Activations) -> Activations:
        """Ranges over both sets of pictures; the means stay those of the first."""
        ranges = {
            name: (min(low, other.ranges[name][0]), max(high, other.ranges[name][1]))
            for name, (low, high) in self.ranges.items()
        }
        return Activations(ranges, self.channel_means, self.pictures + other.pictures)


def float_tensors(model: ir.Model) -> list[ir.Value]:
    """The float32 tensors that the nodes of a graph give, in its order."""
    return [value for node in model.graph for value in node.outputs if value.dtype == ir.DataType.FLOAT]


def measure(model: ir.Model, frames: Iterable[Entry | Frame], progress: Callable[[int], None]) -> Activations:
    """Run a float32 graph on frames and note what flows through it.

    The graph itself reduces each tensor to its minimum and maximum, so that no tensor has to be copied out.

    Args:
        model: A graph of the contract; not changed.
        frames: What the graph takes, an entry each; a picture alone is its ``frames``.
        progress: Called with the number of frames done.

    Raises:
        GraphError: There are no frames, or a tensor is not finite.
        EngineError: ONNX Runtime refuses the graph.
    """
    probed = model.clone()
    names, means = _probe(probed)
    runner = GraphRunner(probed)
    low = np.full(len(names), np.inf)
    high = np.full(len(names), -np.inf)
    sums: dict[str, npt.NDArray[np.float64]] = {}
    count = 0
    for count, frame in enumerate(frames, 1):
        outputs = runner(frame)
        low = np.minimum(low, [float(outputs[f"{name}::low"]) for name in names])
        high = np.maximum(high, [float(outputs[f"{name}::high"]) for name in names])
        for name in means:
            sums[name] = sums.get(name, 0.0) + outputs[f"{name}::mean"].astype(np.float64).ravel()
        progress(count)
    if not count:
        raise GraphError("no pictures to measure ranges on")
    for name, bottom, top in zip(names, low, high, strict=True):
        if not (np.isfinite(bottom) and np.isfinite(top)):
            raise GraphError(f"tensor {name} reaches {bottom} to {top}: the network is not finite in float32")
    ranges = {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
    return Activations(ranges, {name: total / count for name, total in sums.items()}, count)


def stress_frames(height: int, width: int, seed: int = 0) -> list[Frame]:
    """Frames at the edge of what a camera gives: black, white, coarse and fine noise, a checkerboard."""
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    checks = (np.indices((height, width)).sum(0) // 8 % 2 * 255).astype(np.uint8)
    return [
        np.zeros((height, width, 3), np.uint8),
        np.full((height, width, 3), 255, np.uint8),
        fine,
        np.ascontiguousarray(coarse.repeat(16, 0).repeat(16, 1)[:height, :width]),
        np.ascontiguousarray(checks[..., None].repeat(3, 2)),
    ]


def _probe(model: ir.Model) -> tuple[list[str], list[str]]:
    """Replace the outputs of a graph by reductions of its tensors; gives the names that were reduced."""
    graph = model.graph
    names, means = [], []
    wanted = {id(layer.input) for layer in find_layers(model)}
    tensors = float_tensors(model)
    graph.outputs.clear()
    axes: dict[int, ir.Value] = {}
    for value in tensors:
        if value.name is None:
            continue
        names.append(value.name)
        for op, end in (("ReduceMin", "low"), ("ReduceMax", "high")):
            _reduced(graph, op, value, f"{value.name}::{end}", None)
        rank = 0 if value.shape is None else len(value.shape)
        if id(value) in wanted and rank in (2, 4):
            if rank not in axes:
                others = np.asarray([axis for axis in range(rank) if axis != 1], np.int64)
                axes[rank] = new_initializer(graph, f"probe_axes_{rank}", others)
            means.append(value.name)
            _reduced(graph, "ReduceMean", value, f"{value.name}::mean", axes[rank])
    return names, means


def _reduced(graph: ir.Graph, op: str, value: ir.Value, name: str, axes: ir.Value | None) -> None:
    inputs: Sequence[ir.Value] = [value]
    attributes: dict[str, int | Sequence[int]] = {"keepdims": 0}
    if axes is not None and graph.opset_imports.get("", 0) >= 18:
        inputs = [value, axes]
    elif axes is not None and axes.const_value is not None:
        attributes["axes"] = [int(axis) for axis in axes.const_value.numpy()]
    node = ir.node(op, inputs, attributes)
    output = node.outputs[0]
    output.name, output.dtype = name, ir.DataType.FLOAT
    graph.append(node)
    graph.outputs.append(output)
