"""fp16 against NumPy that rounds to half after every node, and where it must not be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes import common as ir_passes

from definitions.graph_text import graph, serialised
from definitions.running import Array
from sspcab_edge.ports import whole_frame_ports
from sspcab_export.graph import save_graph
from sspcab_export.precision.activations import Activations, Frame, measure, stress_frames
from sspcab_export.precision.half import HALF_LIMIT, emulate_half, to_half
from sspcab_export.running import GraphRunner
from sspcab_runtime.engines.table import load_engine
from sspcab_runtime.engines.tensorrt import check_with, import_checker

SIZE = 8
FRONT = """
    f = Cast <to = 1> (frames)
    t = Transpose <perm = [0, 3, 1, 2]> (f)
    x = Div (t, full)
"""
HEAD = """
    first = ReduceMean <keepdims = 0> (y, one)
    map = Abs (first)
    score = ReduceMax <keepdims = 0> (map, inner)
"""
NET = f"""
    {FRONT}
    a = Conv (x, "one.weight", "one.bias")
    ra = Relu (a)
    b = Conv (ra, "two.weight", "two.bias")
    s = Add (b, ra)
    m = Mul (s, half)
    y = Conv (m, "three.weight")
    {HEAD}
"""
OUTPUTS = f"float[N] score, float[N,{SIZE},{SIZE}] map"
random = np.random.default_rng(8)
ARRAYS: dict[str, Array] = {
    "full": np.array(255, np.float32),
    "half": np.array(0.3, np.float32),
    "one": np.array([1]),
    "inner": np.array([1, 2]),
    "zeroes": np.array([1, 1, 2, 2], np.float32),
    "one.weight": random.normal(size=(4, 3, 1, 1)).astype(np.float32),
    "one.bias": random.normal(size=4).astype(np.float32),
    "two.weight": random.normal(size=(4, 4, 1, 1)).astype(np.float32),
    "two.bias": random.normal(size=4).astype(np.float32),
    "three.weight": random.normal(size=(4, 4, 1, 1)).astype(np.float32),
}


def network(body: str = NET, arrays: Mapping[str, Array] | None = None) -> ir.Model:
    model = graph(
        body, {**ARRAYS, **(arrays or {})}, inputs=f"uint8[N,{SIZE},{SIZE},3] frames", outputs=OUTPUTS
    )
    ir_passes.ShapeInferencePass()(model)
    return model


def scaled(**factors: float) -> dict[str, Array]:
    """The arrays, these layers' weights multiplied."""
    return {f"{name}.weight": ARRAYS[f"{name}.weight"] * np.float32(f) for name, f in factors.items()}


def pictures(count: int = 4, seed: int = 0, top: int = 256) -> list[Frame]:
    return list(np.random.default_rng(seed).integers(0, top, (count, SIZE, SIZE, 3)).astype(np.uint8))


def measured(model: ir.Model, frames: Sequence[Frame] | None = None) -> Activations:
    """On pictures and at the edge of what a camera gives, as the exporter does."""
    first = measure(model, pictures() if frames is None else frames, lambda done: None)
    return (
        first.joined(measure(model, stress_frames(SIZE, SIZE), lambda done: None))
        if frames is None
        else first
    )


def lowered(model: ir.Model, keep: Collection[str] = ()) -> tuple[ir.Model, tuple[str, ...]]:
    return to_half(model, measured(model), keep)


def halves(model: ir.Model) -> set[str]:
    """Tensors of the graph's own nodes that are half."""
    outputs = [value for node in model.graph for value in node.outputs if node.op_type != "Cast"]
    return {value.name or "" for value in outputs if value.dtype == ir.DataType.FLOAT16}


def valid(model: ir.Model) -> bool:
    """Whether types and shapes agree with what ONNX infers from the operators."""
    onnx.checker.check_model(ir.serde.serialize_model(model), full_check=True)
    return True


def multiply(x: Array, weights: Array, bias: Array | float = 0.0) -> Array:
    """A 1 x 1 convolution with sums in float32."""
    sums = np.einsum("nchw,oc->nohw", x, weights[..., 0, 0].astype(np.float64))
    return np.asarray(sums + np.reshape(bias, (-1, 1, 1)), np.float32)


def reference(frames: Sequence[Frame], arrays: Mapping[str, Array]) -> Array:
    """The map of ``NET``, rounded to half after every node between the first and the last layer."""

    def half(values: Array) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray(np.asarray(values, np.float32).astype(np.float16), np.float32)

    w = {name: half(array) for name, array in {**ARRAYS, **arrays}.items() if array.dtype == np.float32}
    x = half(np.stack(frames).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    ra = half(np.maximum(half(multiply(x, w["one.weight"], w["one.bias"])), 0))
    s = half(half(multiply(ra, w["two.weight"], w["two.bias"])) + ra)
    y = half(multiply(half(s * w["half"]), w["three.weight"]))
    return np.asarray(np.abs(y.mean(axis=1)))


@pytest.mark.parametrize("literal", [False, True])
def test_the_emulation_rounds_after_every_node(literal: bool) -> None:
    model = network()
    run = GraphRunner(emulate_half(model, measured(model)), literal=literal)
    plain = GraphRunner(model)
    frames = pictures(3, seed=5)
    expected = reference(frames, {})
    got = np.concatenate([run(frame)["map"] for frame in frames])
    moved = np.abs(np.concatenate([plain(frame)["map"] for frame in frames]) - expected)
    off = np.abs(got - expected)
    assert np.median(moved) > 1e-5, "rounding has to show"
    assert np.median(off) < 1e-7
    assert off.mean() < 0.1 * moved.mean(), "a sum half-way between two halves may fall to either"


def test_the_emulation_rounds_on_the_engine_that_judges_it(tmp_path: Path) -> None:
    """The exporter saves the emulation and opens it as any artifact: no optimiser may undo it."""
    model = network()
    path = tmp_path / "emulated.onnx"
    save_graph(emulate_half(model, measured(model)), path)
    inputs, outputs = whole_frame_ports(SIZE, SIZE, (SIZE, SIZE))
    frames = pictures(3, seed=5)
    with load_engine("onnxruntime", path, inputs, outputs) as engine:
        got = engine.infer({"frames": np.stack(frames)})["map"]
    assert np.median(np.abs(got - reference(frames, {}))) < 1e-7


def test_overflow_shows_in_the_emulation_and_not_on_a_cpu() -> None:
    """Ranges of dark pictures let a layer be half that overflows on bright ones."""
    arrays = scaled(one=300, two=300)
    model = network(NET, arrays)
    activations = measured(model, pictures(top=2))
    bright = [np.full((SIZE, SIZE, 3), 255, np.uint8)]
    result, kept = to_half(model, activations)
    assert kept == ()
    with np.errstate(invalid="ignore"):
        expected = reference(bright, arrays)
    assert not np.isfinite(expected).all(), "the picture has to overflow"
    emulated = GraphRunner(emulate_half(model, activations))(bright[0])
    np.testing.assert_array_equal(np.isfinite(emulated["map"]), np.isfinite(expected))
    assert not np.isfinite(emulated["score"]).all()
    on_cpu = GraphRunner(result)(bright[0])
    assert np.isfinite(on_cpu["score"]).all(), "else no emulation would be needed"
    assert np.isfinite(on_cpu["map"]).all()


def test_inputs_and_outputs_keep_their_types() -> None:
    result, kept = lowered(network())
    assert kept == ()
    types = {value.name: value.dtype for value in (*result.graph.inputs, *result.graph.outputs)}
    assert types == {"frames": ir.DataType.UINT8, "score": ir.DataType.FLOAT, "map": ir.DataType.FLOAT}
    assert halves(result) == {"a", "ra", "b", "s", "m", "y"}
    assert valid(result)
    run = GraphRunner(result)(pictures(1)[0])
    assert {name: value.dtype.name for name, value in run.items()} == {"score": "float32", "map": "float32"}
    assert run["map"] == pytest.approx(GraphRunner(network())(pictures(1)[0])["map"], abs=0.02)


def test_weights_of_half_layers_are_stored_as_halves_alone() -> None:
    result, _ = lowered(network(), ["two"])
    stored = {
        name: value.const_value.dtype
        for name, value in result.graph.initializers.items()
        if value.const_value is not None and ("weight" in name or "bias" in name)
    }
    assert stored == {
        "one.weight.half": ir.DataType.FLOAT16,
        "one.bias.half": ir.DataType.FLOAT16,
        "two.weight": ir.DataType.FLOAT,
        "two.bias": ir.DataType.FLOAT,
        "three.weight.half": ir.DataType.FLOAT16,
    }


def test_a_layer_that_reaches_thirty_thousand_stays_float_and_is_named() -> None:
    reach = measured(network()).ranges["b"]
    factor = 30000 / max(map(abs, reach))
    arrays = {
        **scaled(two=factor),
        "two.bias": ARRAYS["two.bias"] * np.float32(factor),
        "half": np.array(1e-4, np.float32),
    }
    model = network(NET, arrays)
    assert max(map(abs, measured(model).ranges["b"])) == pytest.approx(30000, rel=1e-3)
    result, kept = lowered(model)
    assert kept == ("two",)
    assert halves(result) == {"a", "ra", "y"}, "b, and s and m that read it, are float"
    assert valid(result)


@pytest.mark.parametrize("factor", [1.0, 3e3, 3e4, 1e6])
def test_nothing_that_was_seen_beyond_the_limit_is_half(factor: float) -> None:
    model = network(NET, scaled(two=factor))
    activations = measured(model)
    result, _ = to_half(model, activations)
    outputs = [value for node in result.graph for value in node.outputs]
    for value in outputs:
        if value.dtype == ir.DataType.FLOAT16:
            bounds = activations.ranges[(value.name or "").removesuffix(".half")]
            assert max(map(abs, bounds)) <= HALF_LIMIT
    stored = [v.const_value for v in result.graph.initializers.values() if v.const_value is not None]
    assert all(np.abs(t.numpy()).max() <= HALF_LIMIT for t in stored if t.dtype == ir.DataType.FLOAT16)
    assert halves(result)
    assert valid(result)


def test_frames_at_the_edge_count_too() -> None:
    """A net that is calm on grey pictures and beyond the limit on white ones."""
    model = network(NET, scaled(one=1e3, two=10))
    calm = measured(model, [np.full((SIZE, SIZE, 3), 3, np.uint8)])
    assert to_half(model, calm)[1] == ()
    edge = measure(model, stress_frames(SIZE, SIZE), lambda done: None)
    assert to_half(model, calm.joined(edge))[1] == ("two",)


def test_weights_beyond_the_limit_keep_their_layer_float() -> None:
    weights = ARRAYS["two.weight"].copy()
    weights[0, 0] = 1e5
    one = {"one.weight": ARRAYS["one.weight"] * np.float32(1e-6), "one.bias": np.zeros(4, np.float32)}
    model = network(NET, {"two.weight": weights, **one})
    assert max(map(abs, measured(model).ranges["b"])) < HALF_LIMIT
    assert lowered(model)[1] == ("two",)


@pytest.mark.parametrize("keep", [("one",), ("two",), ("three",), ("one", "three"), ("one", "two", "three")])
def test_layers_are_kept_float_with_what_follows_them(keep: tuple[str, ...]) -> None:
    owned = {"one": {"a", "ra"}, "two": {"b", "s", "m"}, "three": {"y"}}
    model = network()
    result, kept = lowered(model, keep)
    assert kept == keep
    assert halves(result) == set().union(*(owned[name] for name in owned if name not in keep))
    assert valid(result)
    emulated = GraphRunner(emulate_half(model, measured(model), keep))
    frame = pictures(1, seed=3)[0]
    assert emulated(frame)["map"] == pytest.approx(GraphRunner(result)(frame)["map"], abs=0.02)
    if len(keep) == 3:
        for run in (emulated, GraphRunner(result)):
            np.testing.assert_array_equal(run(frame)["map"], GraphRunner(model)(frame)["map"])


def test_the_graph_that_was_given_is_not_changed() -> None:
    model = network()
    activations = measured(model)
    before = serialised(model)
    types = [(value.name, value.dtype) for node in model.graph for value in node.outputs]
    frame = pictures(1)[0]
    score = GraphRunner(model)(frame)["score"]
    for keep in ((), ("two",)):
        to_half(model, activations, keep)
        emulate_half(model, activations, keep)
        assert serialised(model) == before
        assert [(value.name, value.dtype) for node in model.graph for value in node.outputs] == types
    assert GraphRunner(model)(frame)["score"] == score
    first, second = to_half(model, activations)[0], to_half(model, activations)[0]
    assert serialised(first) == serialised(second)


def test_an_operator_that_engines_lack_in_half_stays_float() -> None:
    body = NET.replace("s = Add (b, ra)", "l = Erf (b)\n s = Add (l, ra)")
    result, kept = lowered(network(body))
    assert kept == ("two",)
    assert "l" not in halves(result)
    assert {"b", "s", "m"} <= halves(result)
    assert valid(result)


SIZES = """
    sizes = Shape (ra)
    up = Resize <mode = "nearest"> (ra, , , sizes)
    s = Add (b, up)
"""


def test_a_shape_behind_a_layer_stays_a_shape() -> None:
    """Exporters ask tensors for their size to resize or reshape others; sizes are no half."""
    result, _ = lowered(network(NET.replace("s = Add (b, ra)", SIZES)))
    sizes = next(node for node in result.graph if node.op_type == "Shape").outputs[0]
    assert sizes.dtype == ir.DataType.INT64
    assert valid(result)
    GraphRunner(result)


def test_arithmetic_on_sizes_makes_no_layer_float() -> None:
    body = NET.replace(
        "s = Add (b, ra)",
        "sizes = Shape (ra)\n start = Slice (sizes, nought, two)\n end = Slice (sizes, two, four)\n"
        "whole = Concat <axis = 0> (start, end)\n r = Reshape (ra, whole)\n s = Add (b, r)",
    )
    _, kept = lowered(network(body, {"nought": np.array([0]), "two": np.array([2]), "four": np.array([4])}))
    assert kept == ()


def test_sizes_and_scales_of_a_resize_keep_their_type() -> None:
    body = NET.replace(
        "s = Add (b, ra)",
        'p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (ra)\n up = Resize <mode = "linear"> '
        "(p, , zeroes)\n s = Add (b, up)",
    )
    result, kept = lowered(network(body))
    assert kept == ()
    assert {"p", "up", "s"} <= halves(result)
    assert valid(result)
    GraphRunner(result)


def test_openvino_runs_the_typed_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save_graph(lowered(network())[0], path)
    inputs, outputs = whole_frame_ports(SIZE, SIZE, (SIZE, SIZE))
    frames = pictures(2)
    with load_engine("openvino", path, inputs, outputs, precision="fp16", threads=1) as engine:
        got = engine.infer({"frames": np.stack(frames)})["map"]
    plain = GraphRunner(network())
    assert got == pytest.approx(np.concatenate([plain(frame)["map"] for frame in frames]), abs=0.02)


@pytest.mark.parametrize("keep", [(), ("two",)])
def test_tensorrt_takes_the_typed_graph_without_a_warning(keep: tuple[str, ...], tmp_path: Path) -> None:
    rtx: Any = import_checker()
    if rtx is None:
        pytest.skip("tensorrt_rtx is not installed: no real parser and builder to check with")
    path = tmp_path / "model.onnx"
    save_graph(lowered(network(), keep)[0], path)
    inputs, outputs = whole_frame_ports(SIZE, SIZE, (SIZE, SIZE))
    assert check_with(rtx, path, inputs, outputs=outputs).warnings == ()
