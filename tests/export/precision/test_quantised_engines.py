"""What engines, and TensorRT's parser and builder, make of quantised graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from definitions.quantised_nets import (
    ARRAYS,
    NET,
    SIZE,
    WEIGHTED,
    forward,
    lowered,
    measured,
    network,
    normal,
    pictures,
    small,
)
from sspcab_edge.errors import EngineError
from sspcab_edge.ports import whole_frame_ports
from sspcab_export.graph import save_graph
from sspcab_export.precision.activations import measure
from sspcab_export.precision.quantise import Flavour, quantise
from sspcab_export.running import GraphRunner
from sspcab_export.to_tensorrt import check_graph
from sspcab_runtime.engines.table import load_engine
from sspcab_runtime.engines.tensorrt import check_with, import_checker


@pytest.mark.parametrize(
    ("backend", "flavour"),
    [("onnxruntime", "unsigned"), ("onnxruntime", "signed"), ("openvino", "unsigned")],
)
def test_the_largest_products_do_not_saturate(backend: str, flavour: Flavour, tmp_path: Path) -> None:
    """All bytes at their largest, where CPUs without VNNI add pairs of products in 16 bits."""
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    body = "a = Conv <pads = [1, 1, 1, 1]> (x, w)\n r = Relu (a)\n y = Conv <pads = [1, 1, 1, 1]> (r, w2)"
    model = small(body, w=np.ones((32, 3, 3, 3), np.float32), w2=np.ones((3, 32, 3, 3), np.float32))
    result, _ = quantise(model, measure(model, [white], lambda done: None), flavour)
    path = tmp_path / "model.onnx"
    save_graph(result, path)
    inputs, outputs = whole_frame_ports(SIZE, SIZE, None)
    exact = float(GraphRunner(model)(white)["score"][0])
    with load_engine(backend, path, inputs, outputs, precision="int8", threads=1) as engine:
        got = float(engine.infer({"frames": white[None]})["score"][0])
    assert got == pytest.approx(exact, rel=0.005)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    ("backend", "flavour"),
    [("onnxruntime", "unsigned"), ("onnxruntime", "signed"), ("openvino", "unsigned")],
)
@pytest.mark.parametrize("keep", [(), ("stem", "last")])
def test_engines_load_the_graph_and_come_near_the_float_one(
    backend: str, flavour: Flavour, keep: tuple[str, ...], opset: int, tmp_path: Path
) -> None:
    """On every backend that judges a flavour."""
    body = NET
    if opset < 18:
        body = body.replace("(map, inner)", "(map)").replace(
            "<keepdims = 0>", "<keepdims = 0, axes = [1, 2]>"
        )
    model = network(body, ARRAYS, opset=opset)
    result, _ = quantise(model, measured(network(NET, ARRAYS)), flavour, keep)
    path = tmp_path / "model.onnx"
    save_graph(result, path)
    inputs, outputs = whole_frame_ports(SIZE, SIZE, (SIZE, SIZE))
    frames = np.stack(pictures(2))
    expected = forward(pictures(2))["map"]
    with load_engine(backend, path, inputs, outputs, precision="int8", threads=1) as engine:
        got = engine.infer({"frames": frames})["map"]
    assert 1e-5 < np.abs(got - expected).mean() < 0.01


@pytest.mark.parametrize("keep", [(), ("stem", "last")])
def test_the_rule_for_tensorrt_tells_the_flavours_apart(keep: tuple[str, ...]) -> None:
    model = network(NET, ARRAYS)
    assert list(check_graph(lowered(model, "signed", keep)[0])) == []
    problems = list(check_graph(lowered(model, "unsigned", keep)[0]))
    assert problems
    assert all("expected INT8" in problem for problem in problems)


@pytest.fixture(scope="module")
def rtx() -> Any:
    """NVIDIA's parser and builder, which needs no GPU."""
    module = import_checker()
    if module is None:
        pytest.skip("tensorrt_rtx is not installed: no real parser and builder to check with")
    return module


@pytest.mark.parametrize("keep", [(), ("stem", "last")])
def test_tensorrt_takes_the_signed_flavour_without_a_warning(
    rtx: Any, keep: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    save_graph(lowered(network(NET, ARRAYS), "signed", keep)[0], path)
    inputs, outputs = whole_frame_ports(SIZE, SIZE, (SIZE, SIZE))
    assert check_with(rtx, path, inputs, outputs=outputs).warnings == ()


def test_tensorrt_takes_the_float_graph_without_a_warning(rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_graph(network(NET, ARRAYS), path)
    inputs, outputs = whole_frame_ports(SIZE, SIZE, (SIZE, SIZE))
    assert check_with(rtx, path, inputs, outputs=outputs).warnings == ()


def test_tensorrt_would_compute_something_else_of_the_unsigned_flavour(rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_graph(lowered(network(NET, ARRAYS), "unsigned")[0], path)
    inputs, _ = whole_frame_ports(SIZE, SIZE, (SIZE, SIZE))
    with pytest.raises(EngineError, match=r"upper half of each range saturates|Non-zero zero point"):
        check_with(rtx, path, inputs)


@pytest.mark.parametrize("name", list(WEIGHTED))
def test_tensorrt_takes_weights_of_every_operator(rtx: Any, name: str, tmp_path: Path) -> None:
    body, shape, _ = WEIGHTED[name]
    if "y =" not in body:
        body += "\n y = Unsqueeze (g, last2)"
    model = small(body, w=normal(*shape), last2=np.array([2, 3]))
    path = tmp_path / "model.onnx"
    save_graph(lowered(model, "signed")[0], path)
    inputs, _ = whole_frame_ports(SIZE, SIZE, None)
    assert check_with(rtx, path, inputs).warnings == ()
