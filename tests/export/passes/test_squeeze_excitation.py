"""Squeeze-and-excitation, however an exporter wrote it, becomes pool, two 1x1 convolutions and a product."""

from __future__ import annotations

import numpy as np
import pytest

from definitions.graph_text import check_equal, edited, graph, images
from definitions.running import Array, RunGraph
from sspcab_export.passes import optimise
from sspcab_export.passes.squeeze_excitation import squeeze_excitation

GATE = """
    mean = ReduceMean <keepdims = 0> (x, map_axes)
    h = Gemm <transB = 1> (mean, w1, b1)
    a = Relu (h)
    l = Gemm <transB = 1> (a, w2, b2)
    g = Sigmoid (l)
    n = Shape (g)
    batch = Gather (n, zero)
    shape = Concat <axis = 0> (batch, c11)
    view = Reshape (g, shape)
    y = Mul (x, view)
"""
CANONICAL = ["GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"]

FORMS = {
    "as exported": GATE,
    "product turned round": edited(GATE, y="y = Mul (view, x)"),
    "weights not transposed": edited(
        GATE, h="h = Gemm (mean, w1t, b1)", l="l = Gemm <transB = 0> (a, w2t, b2)"
    ),
    "products and sums": edited(
        GATE, h="m1 = MatMul (mean, w1t)\n h = Add (m1, b1)", l="m2 = MatMul (a, w2t)\n l = Add (b2, m2)"
    ),
    "no bias": edited(GATE, h="h = Gemm <transB = 1> (mean, w1)", l="l = MatMul (a, w2t)"),
    "global pool and Flatten": edited(GATE, mean="pool = GlobalAveragePool (x)\n mean = Flatten (pool)"),
    "kept dimensions": edited(GATE, mean="m = ReduceMean (x, back_axes)\n mean = Reshape (m, nc)"),
    "Unsqueeze": edited(GATE, n="", batch="", shape="", view="view = Unsqueeze (g, map_axes)"),
    "Unsqueeze twice": edited(
        GATE, n="", batch="", shape="", view="u = Unsqueeze (g, two)\n view = Unsqueeze (u, three)"
    ),
    "expanded": edited(GATE, y="n3 = Shape (x)\n wide = Expand (view, n3)\n y = Mul (x, wide)"),
    "a constant shape": edited(GATE, n="", batch="", shape="", view="view = Reshape (g, n_c_1_1)"),
    "each size asked": edited(
        GATE,
        batch="n2 = Shape (g)\n batch = Gather (n, zero)\n c = Gather (n2, one)",
        shape="shape = Concat <axis = 0> (batch, c, one, one)",
    ),
}


def gate_arrays() -> dict[str, Array]:
    rng = np.random.default_rng(3)
    arrays: dict[str, Array] = {
        "w1": rng.standard_normal((2, 4), dtype=np.float32),
        "b1": rng.standard_normal(2, dtype=np.float32),
        "w2": rng.standard_normal((4, 2), dtype=np.float32),
        "b2": rng.standard_normal(4, dtype=np.float32),
        "map_axes": np.array([2, 3]),
        "back_axes": np.array([-1, -2]),
        "but_channels": np.array([0, 2, 3]),
        "all_axes": np.array([1, 2, 3]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "three": np.array([3]),
        "c11": np.array([4, 1, 1]),
        "nc": np.array([0, 4]),
        "n_c_1_1": np.array([-1, 4, 1, 1]),
        "w_1": np.array([0, 1, 1, 4]),
        "half": np.array(0.5, np.float32),
    }
    return arrays | {"w1t": arrays["w1"].T, "w2t": arrays["w2"].T}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_form_becomes_the_same(text: str, run_onnxruntime: RunGraph) -> None:
    before = graph(text, gate_arrays())
    after, _ = optimise(before)
    assert [node.op_type for node in after.graph] == CANONICAL
    assert {len(value.shape or ()) for value in after.graph.initializers.values()} <= {1, 4}
    check_equal(before, after, images(), run_onnxruntime)


def test_its_own_form_is_left(run_onnxruntime: RunGraph) -> None:
    after, _ = optimise(graph(GATE, gate_arrays()))
    assert squeeze_excitation(after).changes == 0


LOOKALIKES = {
    "mean over channels too": edited(
        GATE,
        mean="m = ReduceMean (x, all_axes)\n e = Expand (m, ones4)\n mean = Flatten (e)",
    ),
    "mean over the batch too": edited(
        GATE, mean="m = ReduceMean (x, but_channels)\n mean = Flatten (m)", shape="shape = Identity (n_c_1_1)"
    ),
    "mean of something else": edited(
        GATE, mean="z = Neg (x)\n mean = ReduceMean <keepdims = 0> (z, map_axes)"
    ),
    "a scaled layer": edited(GATE, h="h = Gemm <transB = 1, alpha = 2.0> (mean, w1, b1)"),
    "no ReLU between": edited(GATE, a="a = Tanh (h)"),
    "another gate": edited(GATE, g="g = Tanh (l)"),
    "gate along the width": edited(GATE, n="", batch="", shape="", view="view = Reshape (g, w_1)"),
    "a layer read elsewhere": edited(
        GATE, y="t = Mul (x, view)\n e = Unsqueeze (g, map_axes)\n y = Add (t, e)"
    ),
    "a weight that is computed": edited(GATE, h="w = Mul (w1, scale)\n h = Gemm <transB = 1> (mean, w, b1)"),
}


@pytest.mark.parametrize("text", LOOKALIKES.values(), ids=LOOKALIKES)
def test_lookalikes_are_left_alone(text: str, run_onnxruntime: RunGraph) -> None:
    arrays = gate_arrays() | {"ones4": np.array([1, 4, 1, 1])}
    width = 4 if "w_1" in text else 11
    inputs = f"float[N,4,9,{width}] x" + (", float[1] scale" if "scale" in text else "")
    before = graph(text, arrays, inputs=inputs, outputs=f"float[N,4,9,{width}] y")
    after, _ = optimise(before)
    assert [node.op_type for node in after.graph] != CANONICAL
    assert "GlobalAveragePool" not in {node.op_type for node in after.graph}
    feeds = images(2, 4, 9, width) | ({"scale": np.ones(1, np.float32)} if "scale" in text else {})
    check_equal(before, after, feeds, run_onnxruntime)
