"""Batch normalisation folds into the layer before it, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from definitions.graph_text import check_equal, graph, images
from definitions.running import Array, RunGraph
from sspcab_edge.errors import GraphError
from sspcab_export.passes import optimise

NORM = "BatchNormalization ({}, scale, shift, mean, var)"


def arrays() -> dict[str, Array]:
    rng = np.random.default_rng(9)
    return {
        "w": rng.standard_normal((4, 4, 1, 1), dtype=np.float32),
        "b": rng.standard_normal(4, dtype=np.float32),
        "scale": rng.standard_normal(4, dtype=np.float32),
        "shift": rng.standard_normal(4, dtype=np.float32),
        "mean": rng.standard_normal(4, dtype=np.float32),
        "var": rng.uniform(0.1, 3, 4).astype(np.float32),
    }


@pytest.mark.parametrize("call", ["Conv (x, w, b)", "Conv (x, w)", "ConvTranspose (x, w, b)"])
def test_convolution_and_norm_become_one(call: str, run_onnxruntime: RunGraph) -> None:
    before = graph(f"c = {call}\n y = {NORM.format('c')}", arrays())
    after, _ = optimise(before)
    assert [node.op_type for node in after.graph] == [call.split()[0]]
    check_equal(before, after, images(), run_onnxruntime)


def test_layers_that_share_weights_fold_each(run_onnxruntime: RunGraph) -> None:
    """Exporters merge equal initialisers, as zero biases are; onnxscript's rule skips those by itself."""
    before = graph(
        f"c = Conv (x, w, b)\n n = {NORM.format('c')}\n r = Relu (n)\n"
        f"w2 = Identity (w)\n d = Conv (r, w2, b)\n y = {NORM.format('d')}",
        arrays(),
    )
    after, _ = optimise(before)
    assert [node.op_type for node in after.graph] == ["Conv", "Relu", "Conv"]
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (f"c = Conv (x, w, b)\n n = {NORM.format('c')}\n y = Add (c, n)", "float[N,4,9,11] y"),
        (f"c = Conv (x, w, b)\n y = {NORM.format('c')}", "float[N,4,9,11] y, float[N,4,9,11] c"),
        (f"c = Relu (x)\n y = {NORM.format('c')}", "float[N,4,9,11] y"),
    ],
)
def test_a_norm_whose_input_is_needed_stays(body: str, outputs: str, run_onnxruntime: RunGraph) -> None:
    before = graph(body, arrays(), outputs=outputs)
    after, _ = optimise(before)
    assert "BatchNormalization" in {node.op_type for node in after.graph}
    check_equal(before, after, images(), run_onnxruntime)


def test_training_mode_is_refused() -> None:
    body = "c = Conv (x, w, b)\ny, m, v = BatchNormalization <training_mode = 1> (c, scale, shift, mean, var)"
    outputs = "float[N,4,9,11] y, float[4] m, float[4] v"
    with pytest.raises(GraphError, match="is in training mode, so scores would depend on the batch"):
        optimise(graph(body, arrays(), outputs=outputs))
