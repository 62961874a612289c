"""What TensorRT refuses, or reads otherwise than it is meant, is found in the graph without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from definitions.graph_text import edited, graph
from definitions.running import Array
from sspcab_edge.errors import GraphError
from sspcab_export.graph import save_graph
from sspcab_export.to_tensorrt import REFUSED_OPERATORS, check_graph, export_files

BODY = """
    f = Cast <to = 1> (frames)
    x = Transpose <perm = [0, 3, 1, 2]> (f)
    q = QuantizeLinear (x, step, zero)
    r = DequantizeLinear (q, step, zero)
    w = DequantizeLinear <axis = 0> (stored, steps, zeros)
    c = Conv (r, w, bias)
    score = ReduceMax <keepdims = 0> (c, all)
"""
ARRAYS: dict[str, Array] = {
    "step": np.array(2, np.float32),
    "zero": np.array(0, np.int8),
    "stored": np.ones((2, 3, 1, 1), np.int8),
    "steps": np.array([0.5, 0.25], np.float32),
    "zeros": np.zeros(2, np.int8),
    "bias": np.zeros(2, np.float32),
    "integers": np.ones(2, np.int32),
    "origins": np.zeros(2, np.int32),
    "all": np.array([1, 2, 3]),
}


def network(body: str = BODY, **arrays: Array) -> ir.Model:
    model = graph(body, {**ARRAYS, **arrays}, inputs="uint8[N,8,8,3] frames", outputs="float[N] score")
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


def problems(body: str = BODY, **arrays: Array) -> list[str]:
    return list(check_graph(network(body, **arrays)))


def test_signed_quantisers_around_zero_are_fine() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("zero", "expected"),
    [
        (np.uint8(0), "quantises to UINT8, expected INT8"),
        (np.uint8(128), "quantises to UINT8, expected INT8"),
        (np.int16(0), "quantises to INT16, expected INT8"),
        (np.int8(3), "has a zero point other than 0"),
    ],
)
def test_other_zero_points_are_found(zero: Array, expected: str) -> None:
    model = network()
    model.graph.initializers["zero"].const_value = ir.tensor(np.asarray(zero), name="zero")
    assert list(check_graph(model)) == [f"q {expected}", f"r {expected}"]


def test_one_channel_off_zero_is_found() -> None:
    assert problems(zeros=np.array([0, 1], np.int8)) == ["w has a zero point other than 0"]


def test_a_missing_zero_point_is_found() -> None:
    found = problems(edited(BODY, q="q = QuantizeLinear (x, step)", r="r = DequantizeLinear (q, step)"))
    assert found == [f"{name} has no zero point: it would be uint8" for name in "qr"]


def test_a_zero_point_that_is_no_constant_is_found() -> None:
    body = edited(BODY, r="z = Identity (zero)\n r = DequantizeLinear (q, step, z)")
    assert problems(body) == ["r quantises to None, expected INT8"]


def test_an_integer_bias_is_found() -> None:
    body = edited(BODY, c="b = DequantizeLinear <axis = 0> (integers, steps, origins)\n c = Conv (r, w, b)")
    assert problems(body) == ["b quantises to INT32, expected INT8"]


def test_a_uint8_input_into_anything_but_a_cast_is_found() -> None:
    body = edited(BODY, f="f = Transpose <perm = [0, 3, 1, 2]> (frames)", x="x = Cast <to = 1> (f)")
    assert problems(body) == ["input frames goes into Transpose, expected a Cast first"]


@pytest.mark.parametrize("operator", ["Det", "DynamicQuantizeLinear", "QLinearConv", "Unique"])
def test_operators_that_its_parser_does_not_know_are_found(operator: str) -> None:
    assert operator in REFUSED_OPERATORS
    model = network()
    model.graph.append(ir.node(operator, [model.graph[1].outputs[0]], name="odd"))
    assert list(check_graph(model)) == [f"node odd is {operator}, which its parser does not know"]


def test_operators_of_other_domains_are_not_mistaken_for_standard_ones() -> None:
    model = network()
    model.graph.append(ir.node("Unique", [model.graph[1].outputs[0]], domain="mine", name="odd"))
    assert list(check_graph(model)) == []


def test_a_graph_that_passes_is_its_own_artifact(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "model.int8.tensorrt.onnx"
    save_graph(network(), path)
    before = path.read_bytes()
    assert export_files(path, tmp_path, "int8") == ("deep/model.int8.tensorrt.onnx",)
    assert path.read_bytes() == before


def test_a_graph_that_does_not_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    body = edited(BODY, f="f = Transpose <perm = [0, 3, 1, 2]> (frames)", x="x = Cast <to = 1> (f)")
    save_graph(network(body, zero=np.array(0, np.uint8)), path)
    with pytest.raises(GraphError) as caught:
        export_files(path, tmp_path, "int8")
    text = str(caught.value)
    assert text.startswith("TensorRT would not take model.onnx: ")
    for part in ("input frames goes into Transpose", "q quantises to UINT8", "r quantises to UINT8"):
        assert part in text
