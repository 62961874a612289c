"""Optical flow networks as ONNX files whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHIFT = (1.0, -2.0)
"""What :func:`shift_network` says of every pixel: right and down."""


def shift_network(height: int, width: int, *, coarse: int = 2) -> bytes:
    """Takes float32 (1, 3, H, W) twice; gives a small field first, then (1, 2, H / coarse, W / coarse)."""
    rows, columns = height // coarse, width // coarse
    field = np.broadcast_to(np.array(SHIFT, np.float32).reshape(1, 2, 1, 1), (1, 2, rows, columns))
    nodes = [
        helper.make_node("Sub", ["first", "first"], ["none"]),
        helper.make_node("ReduceMean", ["none"], ["zero"], keepdims=0),
        helper.make_node("ReduceMean", ["second"], ["other"], keepdims=0),
        helper.make_node("Mul", ["other", "zero"], ["nothing"]),
        helper.make_node("Add", ["field", "nothing"], ["flow"]),
        helper.make_node("Add", ["small", "nothing"], ["coarse"]),
    ]
    picture = [1, 3, height, width]
    outputs = {"coarse": [1, 2, 2, 2], "flow": [1, 2, rows, columns]}
    arrays = {"field": np.ascontiguousarray(field), "small": np.zeros((1, 2, 2, 2), np.float32)}
    return model(nodes, {"first": picture, "second": picture}, outputs, arrays, TensorProto.FLOAT)


def brightness_network(height: int, width: int, kind: str) -> bytes:
    """Gives (mean of the first, mean of the second) of all channels, pixel by pixel.

    ``kind``: ``pixels`` takes uint8 (1, H, W, 3) and gives (1, H, W, 2); ``floats`` takes float32
    (1, 3, H, W) and gives (1, 2, H, W).
    """
    last = kind == "pixels"
    nodes, names = [], []
    for name in ("first", "second"):
        nodes.append(helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceMean", [f"{name}.f", "axis"], [f"{name}.m"], keepdims=1))
        names.append(f"{name}.m")
    axis = 3 if last else 1
    nodes.append(helper.make_node("Concat", names, ["flow"], axis=axis))
    picture = [1, height, width, 3] if last else [1, 3, height, width]
    given = [1, height, width, 2] if last else [1, 2, height, width]
    return model(
        nodes, {"first": picture, "second": picture}, {"flow": given},
        {"axis": np.array([axis], np.int64)}, TensorProto.UINT8 if last else TensorProto.FLOAT,
    )  # fmt: skip


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
    arrays: dict[str, np.ndarray[Any, Any]],
    kind: int,
) -> bytes:
    """Serialised, of inputs of one type and float32 outputs."""
    graph = helper.make_graph(
        nodes,
        "flow",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())
