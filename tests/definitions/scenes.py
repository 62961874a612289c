"""Synthetic scenes and networks with a known weakness, for tests of precision and of its gate."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 32
Pixels = npt.NDArray[np.uint8]


def texture(rng: np.random.Generator, strength: float) -> Pixels:
    """A grey surface with grain; ``strength`` (0 to 1) of a bright scratch across it."""
    level = rng.uniform(90, 150)
    picture = rng.normal(level, 2, (SIZE, SIZE, 3))
    row = int(rng.integers(6, SIZE - 6))
    picture[row : row + 2, 4:-4] += strength * 90
    return np.asarray(np.clip(np.rint(picture), 0, 255), dtype=np.uint8)


def write_scene(folder: Path, normal: int, good: int, bad: int, seed: int = 3) -> tuple[Path, Path]:
    """``calibration/`` and ``test/`` in the MVTec AD layout, as PNG files."""
    rng = np.random.default_rng(seed)
    places = [
        (folder / "calibration", normal, 0.0),
        (folder / "test" / "good", good, 0.0),
        (folder / "test" / "scratch", bad, 1.0),
    ]
    for place, count, strength in places:
        place.mkdir(parents=True)
        for number in range(count):
            own = strength * rng.uniform(0.35, 1.0)
            assert cv2.imwrite(str(place / f"{number:03d}.png"), texture(rng, own))
    return folder / "calibration", folder / "test"


def edge_network(*, dominant: float = 1.0, offset: float = 0.0) -> onnx.ModelProto:
    """Two convolutions that score edges; float RGB pictures (N, 3, 32, 32) in [0, 1].

    ``first`` gives brightness times ``dominant`` in channel 0, and edges in the others, all raised by
    ``offset``; ``second`` takes channel 0 and the offset out again. With ``dominant`` 1000 one int8 scale for
    all channels leaves nothing of the edges; with ``offset`` 12000 half precision rounds them to multiples
    of 8. Neither matters in float32.
    """
    first = np.zeros((5, 3, 3, 3), np.float32)
    first[0, :, 1, 1] = dominant / 3
    for channel, (row, column) in enumerate(((0, 1), (1, 0), (1, 2), (2, 1)), start=1):
        first[channel, :, 1, 1], first[channel, :, row, column] = 3.0, -3.0
    second = np.zeros((4, 5, 1, 1), np.float32)
    for channel in range(4):
        second[channel, channel + 1] = 1.0
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "first.weight": first,
        "first.bias": np.full(5, offset, np.float32),
        "second.weight": second,
        "second.bias": np.full(4, -offset, np.float32),
        "third.weight": np.full((1, 4, 1, 1), 0.25, np.float32),
        "last": np.asarray([1, 2, 3], np.int64),
        "one": np.asarray([1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["picture", "first.weight", "first.bias"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second.weight", "second.bias"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "third.weight"], ["e"]),
        helper.make_node("AveragePool", ["e"], ["f"], kernel_shape=[3, 3]),
        helper.make_node("ReduceMax", ["f", "last"], ["score"], keepdims=0),
        helper.make_node("Squeeze", ["f", "one"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "edges",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", SIZE - 4, SIZE - 4]),
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return model
