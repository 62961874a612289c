"""An ONNX file as host: the fp32 graph as it came is the source of truth, wrapped in the contract.

Known are graphs of the contract itself (``frames`` uint8), and detectors that take one float picture
(N, 3, H, W), RGB in [0, 1], and give a score and a map under the names that exporters use: ``score`` and
``map``, or anomalib's ``pred_score`` and ``anomaly_map``.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sspcab_edge.errors import GraphError, HostError, OptionError
from sspcab_edge.manifest import Preprocess, ResizeFilter
from sspcab_export.graph import load_graph
from sspcab_export.hosts.base import HostOptions, LoadedHost

__all__ = ["OnnxSource", "load_onnx"]

_DEFAULT_SIZE = (256, 256)
_SCORE_NAMES = ("score", "pred_score", "anomaly_score")
_MAP_NAMES = ("map", "anomaly_map")
_ANOMALIB_THRESHOLD = 0.5
"""Where anomalib 2 puts the threshold of ``pred_score`` when it exports (its post-processor's default)."""


class OnnxSource:
    """A contract graph as the source of truth, run by ONNX Runtime without any of our passes."""

    def __init__(self, model: ir.Model) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        self._model = model
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 3
        proto = ir.serde.serialize_model(model)
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base class
            raise GraphError(f"onnxruntime refuses the graph: {_first_line(error)}") from error

    def infer(
        self, frames: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Run the graph, one frame after the other."""
        scores, maps = [], []
        for frame in frames:
            try:
                outputs = self._session.run(None, {"frames": frame[None]})
            except Exception as error:  # onnxruntime's errors share no base class
                raise GraphError(f"onnxruntime cannot run the graph: {_first_line(error)}") from error
            scores.append(np.asarray(outputs[0], dtype=np.float32).reshape(1))
            if len(outputs) > 1:
                maps.append(np.asarray(outputs[1], dtype=np.float32))
        return np.concatenate(scores), np.concatenate(maps) if maps else None

    def graph(self) -> ir.Model:
        """A copy of the graph as it came, in the contract."""
        return self._model.clone()


def load_onnx(path: Path, options: HostOptions) -> LoadedHost:
    """Read an ONNX file and wrap it in the contract.

    Raises:
        GraphError: No valid ONNX model, or one that onnxruntime refuses.
        HostError: Inputs or outputs are none that are known.
        OptionError: An option that the graph itself decides.
    """
    for name, value in (("dialect", options.dialect), ("dilation", options.dilation)):
        if value is not None:
            raise OptionError(f"--{name} cannot be given for {path}: the graph itself tells it")
    model = load_graph(path)
    graph = model.graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    if len(inputs) != 1:
        raise HostError(f"{path} has {len(inputs)} inputs, expected one picture")
    assumptions: list[str] = []
    threshold = None
    if any(value.name == "pred_label" for value in graph.outputs):
        threshold = _ANOMALIB_THRESHOLD
        assumptions.append(f"threshold {threshold} on pred_score, where anomalib exports it")
    batch = _fixed_batch(path, inputs[0])
    if batch is not None:
        assumptions.append("the graph is fixed to one frame a call")
    size = _wrap_input(path, graph, inputs[0], "N" if batch is None else batch, options, assumptions)
    _choose_outputs(path, graph)
    RemoveUnusedNodesPass()(model)
    resize: ResizeFilter = "antialias-linear" if threshold is not None else "opencv-linear"
    assumptions.append(f"frames are resized with {resize}: the graph does not tell")
    source = OnnxSource(model)
    _, maps = source.infer(np.zeros((1, *size, 3), dtype=np.uint8))
    if maps is not None and maps.ndim != 3:
        raise HostError(f"{path} gives a map of {maps.ndim} dimensions, expected (N, h, w)")
    overrides = {} if options.input_size is None else {"input-size": f"{size[0]}x{size[1]}"}
    if options.normalisation is not None:
        overrides["normalisation"] = options.normalisation
    return LoadedHost(
        name="onnx",
        source=source,
        blocks=(),
        preprocess=Preprocess(width=size[1], height=size[0], resize=resize),
        map_size=None if maps is None else (maps.shape[1], maps.shape[2]),
        threshold=threshold,
        overrides=overrides,
        assumptions=tuple(assumptions),
        batch=batch,
    )


def _fixed_batch(path: Path, picture: ir.Value) -> int | None:
    """The batch size that the graph insists on, which has to be 1; None where it is free."""
    first = None if picture.shape is None or not len(picture.shape) else picture.shape[0]
    if not isinstance(first, int):
        return None
    if first != 1:
        raise HostError(f"{path} takes {first} pictures at once, expected 1 or a free batch size")
    return first


def _wrap_input(
    path: Path,
    graph: ir.Graph,
    picture: ir.Value,
    batch: int | str,
    options: HostOptions,
    assumptions: list[str],
) -> tuple[int, int]:
    """Put the contract's input before the graph's own; gives (height, width)."""
    shape = [] if picture.shape is None else list(picture.shape)
    if picture.dtype == ir.DataType.UINT8 and len(shape) == 4 and shape[3] == 3:
        size = _size(path, shape[1], shape[2], options, assumptions)
        picture.name = "frames"
        picture.shape = ir.Shape([batch, *size, 3])
        if options.normalisation is not None:
            raise OptionError("--normalisation cannot be given for a contract graph: it is inside")
        return size
    if picture.dtype != ir.DataType.FLOAT or len(shape) != 4 or shape[1] != 3:
        raise HostError(
            f"{path} takes {picture.dtype} {tuple(map(str, shape))}, "
            "expected float pictures (N, 3, H, W) or uint8 frames (N, H, W, 3)"
        )
    size = _size(path, shape[2], shape[3], options, assumptions)
    assumptions.append("the graph takes RGB pictures in [0, 1]")
    frames = ir.Value(name="frames", shape=ir.Shape([batch, *size, 3]), type=ir.TensorType(ir.DataType.UINT8))
    nodes = [ir.node("Cast", [frames], {"to": int(ir.DataType.FLOAT)})]
    nodes.append(ir.node("Transpose", [nodes[-1].outputs[0]], {"perm": [0, 3, 1, 2]}))
    scale = np.full((1, 1, 1, 1), 255, np.float32)
    nodes.append(_binary("Div", graph, nodes[-1].outputs[0], "contract_scale", scale))
    if options.normalisation == "imagenet":
        from sspcab_export.hosts.draem_network import IMAGENET_MEAN, IMAGENET_STD

        shift = np.asarray(IMAGENET_MEAN, np.float32).reshape(1, 3, 1, 1)
        spread = np.asarray(IMAGENET_STD, np.float32).reshape(1, 3, 1, 1)
        nodes.append(_binary("Sub", graph, nodes[-1].outputs[0], "contract_mean", shift))
        nodes.append(_binary("Div", graph, nodes[-1].outputs[0], "contract_std", spread))
    prepared = nodes[-1].outputs[0]
    prepared.shape = ir.Shape([batch, 3, *size])
    prepared.dtype = ir.DataType.FLOAT
    ir.convenience.replace_all_uses_with(picture, prepared)
    graph.insert_before(graph[0], nodes)
    graph.inputs[list(graph.inputs).index(picture)] = frames
    return size


def _binary(
    op: str, graph: ir.Graph, value: ir.Value, name: str, constant: npt.NDArray[np.float32]
) -> ir.Node:
    initializer = ir.Value(name=name, const_value=ir.tensor(constant, name=name))
    initializer.shape = ir.Shape(constant.shape)
    initializer.dtype = ir.DataType.FLOAT
    graph.register_initializer(initializer)
    return ir.node(op, [value, initializer])


def _size(
    path: Path, height: object, width: object, options: HostOptions, assumptions: list[str]
) -> tuple[int, int]:
    if isinstance(height, int) and isinstance(width, int):
        if options.input_size not in (None, (height, width)):
            raise OptionError(f"--input-size differs from {height}x{width}, which {path} is fixed to")
        return height, width
    if options.input_size is not None:
        return options.input_size
    assumptions.append(f"input size {_DEFAULT_SIZE[0]}x{_DEFAULT_SIZE[1]}: the graph takes any")
    return _DEFAULT_SIZE


def _choose_outputs(path: Path, graph: ir.Graph) -> None:
    """Leave ``score`` and ``map`` as the graph's outputs, in the contract's shapes."""
    by_name = {value.name: value for value in graph.outputs}
    score = next((by_name[name] for name in _SCORE_NAMES if name in by_name), None)
    anomaly = next((by_name[name] for name in _MAP_NAMES if name in by_name), None)
    if score is None:
        raise HostError(
            f"{path} gives {', '.join(map(str, by_name))}, expected a score named {' or '.join(_SCORE_NAMES)}"
        )
    chosen = [_shaped(graph, score, "score", [-1])]
    if anomaly is not None:
        rank = None if anomaly.shape is None else len(anomaly.shape)
        if rank == 4:
            chosen.append(_squeezed(graph, anomaly))
        else:
            chosen.append(_shaped(graph, anomaly, "map", None))
    graph.outputs.clear()
    graph.outputs.extend(chosen)


def _shaped(graph: ir.Graph, value: ir.Value, name: str, shape: list[int] | None) -> ir.Value:
    """``value`` under its contract name, flattened where it may be (N, 1)."""
    if shape is None or (value.shape is not None and len(value.shape) == 1):
        value.name = name
        return value
    axes = np.asarray(shape, np.int64)
    initializer = ir.Value(name=f"contract_{name}_shape", const_value=ir.tensor(axes))
    graph.register_initializer(initializer)
    node = ir.node("Reshape", [value, initializer])
    graph.append(node)
    return _output(node, name, value)


def _squeezed(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A map (N, 1, h, w) as (N, h, w)."""
    initializer = ir.Value(name="contract_map_axis", const_value=ir.tensor(np.asarray([1], np.int64)))
    graph.register_initializer(initializer)
    node = ir.node("Squeeze", [value, initializer])
    graph.append(node)
    return _output(node, "map", value)


def _output(node: ir.Node, name: str, like: ir.Value) -> ir.Value:
    output = node.outputs[0]
    if like.name == name:
        like.name = f"{name}_as_it_came"
    output.name = name
    output.type = like.type
    return output


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
