"""Ranges and means against NumPy's of every frame put together."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common as ir_passes

from definitions.graph_text import graph, serialised
from definitions.running import Array
from sspcab_edge.errors import GraphError
from sspcab_export.precision.activations import Activations, Frame, float_tensors, measure, stress_frames

BODY = """
    f = Cast <to = 1> (frames)
    t = Transpose <perm = [0, 3, 1, 2]> (f)
    x = Div (t, full)
    a = Conv (x, "one.weight", "one.bias")
    b = Conv (a, "two.weight")
    p = GlobalAveragePool (b)
    v = Flatten (p)
    g = Gemm (v, "three.weight")
    s = Shape (g)
    score = ReduceMax <keepdims = 0> (g, axes)
"""
random = np.random.default_rng(4)
ARRAYS: dict[str, Array] = {
    "full": np.array(255, np.float32),
    "one.weight": random.normal(size=(4, 3, 1, 1)).astype(np.float32),
    "one.bias": random.normal(size=4).astype(np.float32),
    "two.weight": random.normal(size=(5, 4, 1, 1)).astype(np.float32),
    "three.weight": random.normal(size=(5, 2)).astype(np.float32),
    "axes": np.array([1]),
}


def network(body: str = BODY, opset: int = 18) -> ir.Model:
    if opset < 18:
        body = body.replace("<keepdims = 0> (g, axes)", "<keepdims = 0, axes = [1]> (g)")
    model = graph(body, ARRAYS, inputs="uint8[N,8,12,3] frames", outputs="float[N] score", opset=opset)
    ir_passes.ShapeInferencePass()(model)
    return model


def pictures(count: int = 3, seed: int = 0) -> list[Frame]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 8, 12, 3)).astype(np.uint8))


def forward(frames: list[Frame]) -> dict[str, Array]:
    """Every float tensor of the network, in NumPy and float64."""
    f = np.stack(frames).astype(np.float64)
    t = f.transpose(0, 3, 1, 2)
    x = t / 255
    a = np.einsum("nchw,oc->nohw", x, ARRAYS["one.weight"][..., 0, 0]) + ARRAYS["one.bias"][:, None, None]
    b = np.einsum("nchw,oc->nohw", a, ARRAYS["two.weight"][..., 0, 0])
    p = b.mean(axis=(2, 3), keepdims=True)
    v = p[..., 0, 0]
    g = v @ ARRAYS["three.weight"]
    return {"f": f, "t": t, "x": x, "a": a, "b": b, "p": p, "v": v, "g": g, "score": g.max(axis=1)}


def measured(model: ir.Model, frames: list[Frame]) -> Activations:
    return measure(model, frames, lambda done: None)


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_ranges_and_means_are_numpys(opset: int) -> None:
    got = measured(network(opset=opset), pictures())
    expected = forward(pictures())
    assert set(got.ranges) == set(expected)
    for name, values in expected.items():
        assert got.ranges[name] == pytest.approx((values.min(), values.max()), rel=1e-4, abs=1e-5), name
    assert set(got.channel_means) == {"x", "a", "v"}, "what goes into layers"
    for name, means in got.channel_means.items():
        values = expected[name]
        axes = tuple(axis for axis in range(values.ndim) if axis != 1)
        assert means.dtype == np.float64
        np.testing.assert_allclose(means, values.mean(axis=axes), rtol=1e-4, atol=1e-5)
    assert got.pictures == 3


def test_frames_are_counted_aloud_and_may_come_one_at_a_time() -> None:
    told: list[int] = []
    got = measure(network(), iter(pictures(4)), told.append)
    assert told == [1, 2, 3, 4]
    assert got.ranges == measured(network(), pictures(4)).ranges


def test_the_graph_that_was_given_is_not_changed() -> None:
    model = network()
    before = serialised(model)
    measured(model, pictures(1))
    assert serialised(model) == before


def test_only_float32_tensors_are_measured() -> None:
    assert [value.name for value in float_tensors(network())] == [*"ftxabpvg", "score"]


def test_no_frames_are_refused() -> None:
    with pytest.raises(GraphError, match="no pictures"):
        measured(network(), [])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("w = Exp (t)\n v = Log (w)", "infinite"),
        ("z = Sub (x, x)\n w = Div (x, z)\n v = Mul (w, x)", "infinite or not a number"),
        ("n = Neg (t)\n m = Sub (n, full)\n w = Sqrt (m)\n v = Abs (w)", "not a number"),
    ],
)
def test_a_tensor_that_is_not_finite_is_refused_by_name(line: str, problem: str) -> None:
    body = BODY.replace("p = Global", f"{line.replace('v =', 'k =')}\n p = Global").replace(
        "s = Shape (g)", "s = Shape (k)"
    )
    with pytest.raises(GraphError, match="tensor w reaches"):
        measured(network(body), [np.full((8, 12, 3), 200, np.uint8), *pictures(1)])


def test_joined_ranges_hold_both_and_the_means_of_the_first() -> None:
    model = network()
    first, second = measured(model, pictures(3)), measured(model, stress_frames(8, 12))
    joined = first.joined(second)
    together = measured(model, [*pictures(3), *stress_frames(8, 12)])
    assert joined.ranges == together.ranges
    assert joined.ranges != first.ranges
    assert joined.pictures == 8
    for name, means in first.channel_means.items():
        np.testing.assert_array_equal(joined.channel_means[name], means)


def test_stress_frames_are_what_a_camera_can_give_at_worst() -> None:
    frames = stress_frames(50, 70)
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((50, 70, 3), "uint8")}
    assert (frames[0].max(), frames[1].min()) == (0, 255)
    fine, coarse, checks = frames[2:]
    assert fine.std() > 60
    assert (coarse[:16, :16] == coarse[0, 0]).all()
    assert (coarse[0, 16] != coarse[0, 0]).any()
    assert set(np.unique(checks)) == {0, 255}
    assert all((a == b).all() for a, b in zip(frames, stress_frames(50, 70), strict=True))
    assert (stress_frames(50, 70, seed=1)[2] != fine).any()
