"""Object detectors as ONNX files: one that really finds something, and heads with nothing in them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def bright_detector(height: int, width: int, level: float = 150.0) -> bytes:
    """Takes ``images`` uint8 (1, H, W, 3); gives ``out`` (1, 1, 6): one box around all that is bright."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "last"], ["grey"], keepdims=0),
        helper.make_node("Greater", ["grey", "level"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["mask"], to=TensorProto.FLOAT),
    ]
    sides = []
    for name, axis, count in (("x", 1, width), ("y", 2, height)):
        nodes += [
            helper.make_node("ReduceMax", ["mask", f"{name}_axis"], [f"{name}_any"], keepdims=0),
            helper.make_node("Mul", [f"{name}_any", f"{name}_up"], [f"{name}_high"]),
            helper.make_node("ReduceMax", [f"{name}_high"], [f"{name}_max"], keepdims=0),
            helper.make_node("Mul", [f"{name}_any", f"{name}_down"], [f"{name}_low"]),
            helper.make_node("ReduceMax", [f"{name}_low"], [f"{name}_from_end"], keepdims=0),
            helper.make_node("Sub", [f"{name}_count", f"{name}_from_end"], [f"{name}_min"]),
        ]
        sides.append((name, axis, count))
    for name in ("x_min", "y_min", "x_max", "y_max"):
        nodes.append(helper.make_node("Reshape", [name, "one"], [f"{name}_1"]))
    nodes.append(
        helper.make_node(
            "Concat", ["x_min_1", "y_min_1", "x_max_1", "y_max_1", "sure", "class"], ["flat"], axis=0
        )
    )
    nodes.append(helper.make_node("Reshape", ["flat", "shape"], ["out"]))
    arrays: dict[str, np.ndarray] = {
        "last": np.array([3], np.int64),
        "level": np.array(level, np.float32),
        "one": np.array([1], np.int64),
        "shape": np.array([1, 1, 6], np.int64),
        "sure": np.array([0.9], np.float32),
        "class": np.array([0], np.float32),
    }
    for name, axis, count in sides:
        arrays[f"{name}_axis"] = np.array([axis], np.int64)
        arrays[f"{name}_up"] = np.arange(1, count + 1, dtype=np.float32)
        arrays[f"{name}_down"] = np.arange(count, 0, -1, dtype=np.float32)
        arrays[f"{name}_count"] = np.array(count, np.float32)
    return _model(nodes, arrays, ("images", TensorProto.UINT8, [1, height, width, 3]), [1, 1, 6])


def head_alone(shape: list[int | str], size: tuple[int, int] | None = (64, 64)) -> bytes:
    """Takes ``images`` float32 (1, 3, H, W), and gives zeros of this shape."""
    count = [size_ if isinstance(size_, int) else 7 for size_ in shape]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zeros"], ["out"]),
    ]
    sides: list[int | str] = ["H", "W"] if size is None else list(size)
    taken = ("images", TensorProto.FLOAT, [1, 3, *sides])
    return _model(nodes, {"zeros": np.zeros(count, np.float32)}, taken, shape)


def _model(
    nodes: list[onnx.NodeProto],
    arrays: dict[str, np.ndarray],
    taken: tuple[str, int, list[int | str]],
    given: list[int | str],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info(*taken)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, given)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
