"""What is a layer, what belongs to it, and where the score head begins."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common as ir_passes

from definitions.graph_text import edited, graph
from definitions.running import Array
from sspcab_export.precision.layers import find_layers, is_quantised, score_head, weights_of

BODY = """
    f = Cast <to = 1> (frames)
    x = Transpose <perm = [0, 3, 1, 2]> (f)
    a = Conv (x, "encoder.one.weight")
    ra = Relu (a)
    b = Conv (ra, shared)
    rb = Sigmoid (b)
    mean = GlobalAveragePool (rb)
    wish = Conv (mean, "gate.weight")
    gate = Sigmoid (wish)
    gated = Mul (rb, gate)
    c = Conv (gated, shared)
    both = Add (c, c)
    d = Conv (both, "last.weight")
    rd = Relu (d)
    top = Softmax <axis = 1> (rd)
    score = ReduceMax <keepdims = 0> (top, all)
"""
SQUARE: Array = np.eye(3, dtype=np.float32)[..., None, None]
ARRAYS: dict[str, Array] = {
    "encoder.one.weight": SQUARE,
    "shared": SQUARE,
    "gate.weight": SQUARE,
    "last.weight": SQUARE,
    "all": np.array([1, 2, 3]),
}


def network(body: str = BODY, **arrays: Array) -> ir.Model:
    model = graph(body, {**ARRAYS, **arrays}, inputs="uint8[N,8,8,3] frames", outputs="float[N] score")
    ir_passes.ShapeInferencePass()(model)
    return model


def test_layers_go_by_the_names_of_their_weights_each_once() -> None:
    layers = find_layers(network())
    assert [layer.name for layer in layers] == ["encoder.one", "shared", "gate", "shared#2", "last"]
    assert [layer.input.name for layer in layers] == ["x", "ra", "mean", "gated", "both"]
    assert [layer.weights.name for layer in layers[:2]] == ["encoder.one.weight", "shared"]


def test_a_layer_gives_what_its_activation_gives_unless_more_is_read_of_it() -> None:
    outputs = [layer.output.name for layer in find_layers(network())]
    assert outputs == ["ra", "rb", "gate", "c", "rd"]
    branched = network(edited(BODY, gated="n = Neg (b)\n gated = Mul (rb, n)"))
    assert find_layers(branched)[1].output.name == "b"
    otherwise = network(edited(BODY, rd="rd = Neg (d)"))
    assert find_layers(otherwise)[-1].output.name == "d"


def test_only_the_gate_works_on_one_value() -> None:
    assert [layer.name for layer in find_layers(network()) if layer.on_one_value] == ["gate"]


@pytest.mark.parametrize(
    "line",
    ["a = MatMul (x, x)", 'a = MatMul ("encoder.one.weight", x)', 'a = Mul (x, "encoder.one.weight")'],
)
def test_a_node_without_constant_weights_behind_its_input_is_no_layer(line: str) -> None:
    names = [layer.name for layer in find_layers(network(edited(BODY, a=line)))]
    assert "encoder.one" not in names
    assert len(names) == 4


def test_weights_are_float32_constants() -> None:
    model = network()
    conv = next(node for node in model.graph if node.op_type == "Conv")
    weights = weights_of(conv)
    assert weights is not None
    np.testing.assert_array_equal(weights, SQUARE)
    assert weights_of(next(node for node in model.graph if node.op_type == "Relu")) is None
    half = graph(
        'y = Conv (x, "half.weight")',
        {"half.weight": np.ones((4, 4, 1, 1), np.float16)},
        inputs="float16[N,4,9,11] x",
        outputs="float16[N,4,9,11] y",
    )
    assert weights_of(half.graph[0]) is None
    assert find_layers(half) == ()


def test_the_score_head_is_what_comes_after_the_last_layer_and_its_activation() -> None:
    assert sorted(node.op_type for node in score_head(network())) == ["ReduceMax", "Softmax"]


def test_a_branch_of_the_score_that_starts_early_is_head_too() -> None:
    body = edited(
        BODY, score="m = ReduceMax <keepdims = 0> (top, all)\n n = ReduceMin <keepdims = 0> (ra, all)"
    )
    model = network(f"{body}\n score = Add (m, n)")
    assert sorted(node.op_type for node in score_head(model)) == ["Add", "ReduceMax", "ReduceMin", "Softmax"]


def test_a_graph_with_quantisers_is_told_from_one_without() -> None:
    assert not is_quantised(network())
    quantised = network(
        edited(
            BODY,
            both="q = QuantizeLinear (c, step, origin)\n both = DequantizeLinear (q, step, origin)",
        ),
        step=np.array(1, np.float32),
        origin=np.array(0, np.int8),
    )
    assert is_quantised(quantised)
