"""Upsampling and convolution, folded: the same pictures from fewer multiplications."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from definitions.graph_text import check_equal, graph, images
from definitions.running import RunGraph
from sspcab_export.graph import graph_from_torch
from sspcab_export.passes.fold_upsample import fold_upsample, phase_weights

_CONV = "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"


def _weights(rng: np.random.Generator, out: int = 5, inside: int = 4) -> np.ndarray:
    return rng.standard_normal((out, inside, 3, 3)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(*(st.integers(1, 7) for _ in range(4)), st.integers(0, 10**6))
def test_phases_are_the_definition(height: int, width: int, inside: int, out: int, seed: int) -> None:
    """In float64 the four convolutions, woven together, are the one after upsampling."""
    rng = np.random.default_rng(seed)
    weight, x = _weights(rng, out, inside), rng.standard_normal((2, inside, height, width))
    big = functional.interpolate(torch.from_numpy(x), scale_factor=2, mode="nearest")
    expected = functional.conv2d(big, torch.from_numpy(weight).double(), padding=1).numpy()
    found = np.zeros_like(expected)
    for (row, column), values in phase_weights(weight).items():
        padded = np.pad(x, ((0, 0), (0, 0), (1 - row, row), (1 - column, column)))
        found[:, :, row::2, column::2] = functional.conv2d(
            torch.from_numpy(padded), torch.from_numpy(values).double()
        ).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "how",
    [
        'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
        'mode = "nearest", coordinate_transformation_mode = "asymmetric"',
        'mode = "nearest"',
        "",
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_graphs(how: str, bias: bool, run_graph: RunGraph) -> None:
    rng = np.random.default_rng(5)
    constants = {"s": np.asarray([1, 1, 2, 2], np.float32), "w": _weights(rng)}
    if bias:
        constants["b"] = rng.standard_normal(5).astype(np.float32)
    before = graph(
        f"u = Resize <{how}> (x, , s) y = Conv <{_CONV}> (u, w{', b' if bias else ''})".replace("<>", ""),
        constants, outputs="float[N,5,P,Q] y",
    )  # fmt: skip
    after = before.clone()
    assert fold_upsample(after).changes == 1
    assert [node.op_type for node in after.graph] == ["Resize", *["Conv"] * 4, "Concat", "DepthToSpace"]
    check_equal(before, after, images(2, 4, 9, 11), run_graph)


@pytest.mark.parametrize(
    ("resize", "scales", "conv"),
    [
        ('mode = "linear"', [1, 1, 2, 2], _CONV),
        ('mode = "nearest", nearest_mode = "ceil"', [1, 1, 2, 2], _CONV),
        ('mode = "nearest", coordinate_transformation_mode = "align_corners"', [1, 1, 2, 2], _CONV),
        ('mode = "nearest"', [1, 1, 3, 2], _CONV),
        ('mode = "nearest"', [1, 1, 2, 2], "kernel_shape = [3, 3]"),
        ('mode = "nearest"', [1, 1, 2, 2], f"{_CONV}, strides = [2, 2]"),
        ('mode = "nearest"', [1, 1, 2, 2], "kernel_shape = [3, 3], pads = [2, 2, 2, 2], dilations = [2, 2]"),
    ],
)
def test_others_stay(resize: str, scales: list[float], conv: str) -> None:
    before = graph(
        f"u = Resize <{resize}> (x, , s) y = Conv <{conv}> (u, w)",
        {"s": np.asarray(scales, np.float32), "w": _weights(np.random.default_rng(1))},
        outputs="float[N,5,P,Q] y",
    )
    assert fold_upsample(before.clone()).changes == 0


def test_what_others_read_stays() -> None:
    before = graph(
        f'u = Resize <mode = "nearest"> (x, , s) v = Conv <{_CONV}> (u, w) r = Relu (u) '
        "y = Concat <axis = 1> (v, r)",
        {"s": np.asarray([1, 1, 2, 2], np.float32), "w": _weights(np.random.default_rng(1))},
        outputs="float[N,9,P,Q] y",
    )
    assert fold_upsample(before.clone()).changes == 0


def test_as_torch_exports_it(run_graph: RunGraph) -> None:
    """A decoder of two stages, as an auto-encoder has it."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3, padding=1),
    ).eval()  # fmt: skip
    before = graph_from_torch(module, {"x": torch.zeros(1, 6, 8, 8)}, ["y"])
    after = before.clone()
    assert fold_upsample(after).changes == 2
    check_equal(before, after, {"x": images(1, 6, 8, 8)["x"]}, run_graph)
