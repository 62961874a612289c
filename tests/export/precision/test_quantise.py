"""Quantisers against Q/DQ written in NumPy from the ONNX definition."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.graph_text import serialised
from definitions.quantised_nets import (
    ARRAYS,
    FLAVOURS,
    NET,
    WEIGHTED,
    constants,
    forward,
    lowered,
    measured,
    network,
    node_making,
    normal,
    pictures,
    quantisers,
    reference,
    small,
    source_operators,
)
from definitions.running import Array
from sspcab_export.precision.activations import measure
from sspcab_export.precision.layers import find_layers
from sspcab_export.precision.quantise import Flavour, quantise
from sspcab_export.running import GraphRunner


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_graph_computes_what_the_definition_says(flavour: Flavour) -> None:
    model = network(NET, ARRAYS)
    result, kept = lowered(model, flavour)
    assert kept == ()
    literal, optimised = GraphRunner(result, literal=True), GraphRunner(result)
    frames = [*pictures(2), *pictures(2, seed=9)]
    expected, plain = reference(flavour, frames), forward(frames)
    moved = np.abs(expected["map"] - plain["map"])
    assert moved.mean() > 1e-4, "rounding has to show, or this test shows nothing"
    for number, frame in enumerate(frames):
        off = np.abs(literal(frame)["map"][0] - expected["map"][number])
        assert np.median(off) < 2e-6
        assert off.mean() < 0.02 * moved.mean(), "a value on the edge of two steps may fall to either"
        assert literal(frame)["score"][0] == pytest.approx(expected["score"][number], abs=moved.max() / 5)
        off = np.abs(optimised(frame)["map"][0] - expected["map"][number])
        assert off.mean() < 0.2 * moved.mean(), "integer kernels round biases too"


def test_the_reference_of_these_tests_is_the_float_graph() -> None:
    run = GraphRunner(network(NET, ARRAYS))
    plain = forward(pictures())
    for number, frame in enumerate(pictures()):
        np.testing.assert_allclose(run(frame)["map"][0], plain["map"][number], atol=1e-6)


def test_unsigned_uses_all_of_uint8_where_nothing_is_negative() -> None:
    found = quantisers(lowered(network(NET, ARRAYS))[0])
    origins = {name: (origin.dtype.name, origin.item()) for name, (_, origin) in found.items()}
    assert (origins.pop("x"), origins.pop("ra")) == (("uint8", 0), ("uint8", 0))
    assert set(origins) == {"rb", "c", "up", "both"}
    assert set(origins.values()) <= {("int8", 0), ("uint8", 128)}, "the others share their steps about 0"
    plain = forward(pictures())
    for name, reach in (("x", plain["x"].max() / 255), ("ra", plain["ra"].max() / 255)):
        assert found[name][0] == pytest.approx(reach, rel=1e-5)
    reach = max(np.abs(plain[name]).max() for name in ("rb", "c")) / 127
    assert found["both"][0] == pytest.approx(reach, rel=1e-5)


def test_signed_holds_nothing_but_int8_around_zero() -> None:
    result, _ = lowered(network(NET, ARRAYS), "signed")
    for name, (_, origin) in quantisers(result).items():
        assert (name, origin.dtype.name, origin.item()) == (name, "int8", 0)
    arrays = constants(result)
    for node in result.graph:
        if node.op_type == "DequantizeLinear":
            assert node.inputs[2] is not None
            origin = arrays[node.inputs[2].name or ""]
            assert origin.dtype == np.int8
            assert not origin.any()
        if node.op_type == "Conv":
            assert node.inputs[2] is not None
            assert arrays[node.inputs[2].name or ""].dtype == np.float32, "a bias is no quantiser's business"
    assert {array.dtype.name for array in arrays.values()} <= {"float32", "int8", "int64"}
    typed = [*result.graph.inputs, *(value for node in result.graph for value in node.outputs)]
    assert [value.name for value in typed if value.dtype == ir.DataType.UINT8] == ["frames"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_is_moved_or_joined_shares_one_scale(flavour: Flavour) -> None:
    found = quantisers(lowered(network(NET, ARRAYS), flavour)[0])
    assert len({found[name][0].item() for name in ("rb", "c", "up", "both")}) == 1
    assert "pool" not in found, "the maximum of rounded values is rounded"
    assert len({scale.item() for scale, _ in found.values()}) == 3


def test_inputs_of_a_concat_far_apart_share_the_wider_range() -> None:
    model = small(
        """
        a = Conv (x, "wide.weight")
        b = Conv (x, "narrow.weight")
        j = Concat <axis = 1> (a, b)
        y = Conv (j, "last.weight")
        z = Conv (y, "end.weight")
        score2 = ReduceMin <keepdims = 0> (z, all)
        """,
        wide_weight=normal(2, 3, 1, 1) * np.float32(100),
        narrow_weight=normal(2, 3, 1, 1),
        last_weight=normal(2, 4, 1, 1),
        end_weight=normal(2, 2, 1, 1),
    )
    ranges = measured(model).ranges
    found = quantisers(lowered(model, "signed")[0])
    for name in "abj":
        assert found[name][0] == pytest.approx(max(map(abs, ranges["a"])) / 127, rel=1e-6)
    assert found["y"][0].item() != found["j"][0].item()


# Weights


def worst_by_channel(exact: Array, kept: Array, axis: int) -> Array:
    """The largest error of each output channel, in steps of that channel."""
    others = tuple(i for i in range(exact.ndim) if i != axis)
    return np.asarray(np.abs(exact - kept).max(axis=others) / (np.abs(exact).max(axis=others) / 64))


@pytest.mark.parametrize("name", list(WEIGHTED))
def test_every_output_channel_has_its_own_scale(name: str) -> None:
    body, shape, axis = WEIGHTED[name]
    if "y =" not in body:
        body += "\n y = Unsqueeze (g, last2)"
    weights = normal(*shape)
    sizes = 10.0 ** -np.arange(shape[axis])
    weights *= sizes.reshape([-1 if i == axis else 1 for i in range(len(shape))]).astype(np.float32)
    model = small(body, w=weights, last2=np.array([2, 3]))
    result, _ = lowered(model)
    arrays = constants(result)
    node = next(n for n in result.graph if n.op_type == name.split()[0])
    assert node.inputs[1] is not None
    up = node.inputs[1].producer()
    assert up is not None
    assert up.op_type == "DequantizeLinear"
    assert up.attributes["axis"].as_int() == axis
    stored, scale, origin = (arrays[value.name or ""] for value in up.inputs if value is not None)
    assert (stored.dtype.name, origin.dtype.name) == ("int8", "int8")
    assert stored.shape == shape
    assert np.abs(stored.astype(int)).max() == 64, "-128 would not be symmetric, and more than 64 saturate"
    others = tuple(i for i in range(len(shape)) if i != axis)
    np.testing.assert_allclose(scale, np.abs(weights).max(axis=others) / 64, rtol=1e-6)
    wide = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    assert worst_by_channel(weights, stored * wide, axis).max() <= 0.5001
    frame = pictures(1)[0]
    before, after = GraphRunner(model)(frame)["score"], GraphRunner(result)(frame)["score"]
    assert after == pytest.approx(before, abs=0.01 * float(np.abs(weights).sum(axis=others).max()))


def test_engines_run_a_matmul_with_a_stack_of_weights() -> None:
    """ONNX Runtime loads a scale per column of a 4-D matrix, and fails when it runs."""
    body = "p = Transpose <perm = [0, 2, 3, 1]> (x)\n y = MatMul (p, w)"
    model = small(body, w=np.abs(normal(1, 1, 3, 4)))
    assert quality(model, lowered(model)[0]) < 0.03


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    groups=st.sampled_from([1, 3]),
    per_group=st.integers(1, 3),
    biased=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_bias_takes_back_what_rounding_the_weights_lost_on_average(
    groups: int, per_group: int, biased: bool, seed: int
) -> None:
    outputs = groups * per_group
    weights, bias = normal(outputs, 3 // groups, 3, 3, seed=seed), normal(outputs, seed=seed)
    frames = [frame // np.array([1, 2, 8], np.uint8) for frame in pictures()]
    third = ", b" if biased else ""
    model = small(f"y = Conv <group = {groups}, pads = [1, 1, 1, 1]> (x, w{third})", w=weights, b=bias)
    result, _ = quantise(model, measure(model, frames, lambda done: None), "unsigned")
    node = next(n for n in result.graph if n.op_type == "Conv")
    assert node.inputs[2] is not None
    got = constants(result)[node.inputs[2].name or ""]
    scale = np.abs(weights).max(axis=(1, 2, 3), keepdims=True).astype(np.float64) / 64
    error = weights - np.rint(weights / scale) * scale
    means = np.stack(frames).mean(axis=(0, 1, 2)) / 255
    expected = np.zeros(outputs) + (bias if biased else 0)
    for channel in range(outputs):
        group = channel // per_group
        for i in range(3 // groups):
            expected[channel] += error[channel, i].sum() * means[group * (3 // groups) + i]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(got - (bias if biased else 0)).max() > 1e-5, "there has to be something to take back"


@pytest.mark.parametrize("least", [0.0, 1e-44], ids=["all zero", "too small to be divided by 127"])
def test_a_channel_of_nothing_stays_nothing(least: float) -> None:
    weights = normal(3, 3, 1, 1)
    weights[1] = least
    result, _ = lowered(small("y = Conv (x, w)", w=weights))
    arrays = constants(result)
    assert not arrays["w.int8"][1].any() or least
    assert np.isfinite(arrays["w.scale"]).all()
    assert (arrays["w.scale"] > 0).all()
    run = GraphRunner(result)(pictures(1)[0])
    assert np.isfinite(run["score"]).all()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_tensor_that_is_always_zero_has_a_scale_all_the_same(flavour: Flavour) -> None:
    dead = normal(2, 3, 1, 1)
    result, _ = lowered(
        small(
            'd = Conv (x, "dead.weight", "dead.bias")\n r = Relu (d)\n y = Conv (r, "w", "b")',
            dead_weight=dead,
            dead_bias=np.full(2, -100, np.float32),
            w=normal(2, 2, 1, 1),
            b=np.array([0.25, 0.5], np.float32),
        ),
        flavour,
    )
    assert all(scale > 0 for scale, _ in quantisers(result).values())
    assert GraphRunner(result)(pictures(1)[0])["score"] == pytest.approx([0.5], abs=1e-5)


def test_weights_of_two_layers_are_stored_once() -> None:
    model = small("a = Conv (x, w)\n r = Relu (a)\n b = Conv (r, w)\n y = Add (b, r)", w=normal(3, 3, 1, 1))
    result, _ = lowered(model)
    assert sum(array.dtype == np.int8 and array.ndim == 4 for array in constants(result).values()) == 1
    assert "w" not in result.graph.initializers, "the float weights are not carried along"
    assert quality(model, result) < 0.03
    result, kept = lowered(model, keep=["w#2"])
    assert kept == ("w#2",)
    np.testing.assert_array_equal(constants(result)["w"], normal(3, 3, 1, 1))
    assert quality(model, result) < 0.03


def quality(before: ir.Model, after: ir.Model) -> float:
    """The largest change of the score, as a share of the score."""
    one, other = GraphRunner(before), GraphRunner(after)
    scores = [(float(one(frame)["score"][0]), float(other(frame)["score"][0])) for frame in pictures()]
    return max(abs(a - b) / abs(a) for a, b in scores)


# What stays float


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_all_layers_kept_is_the_float_graph(flavour: Flavour) -> None:
    model = network(NET, ARRAYS)
    names = [layer.name for layer in find_layers(model)]
    result, kept = lowered(model, flavour, names)
    assert kept == ("stem", "skip", "deep", "last")
    assert quantisers(result) == {}
    assert [n.op_type for n in result.graph] == [n.op_type for n in model.graph]
    before, after = GraphRunner(model), GraphRunner(result)
    for frame in pictures():
        for name, values in before(frame).items():
            np.testing.assert_array_equal(after(frame)[name], values)


@pytest.mark.parametrize("kept", ["stem", "skip", "deep", "last"])
def test_a_kept_layer_reads_what_was_not_rounded(kept: str) -> None:
    result, floats = lowered(network(NET, ARRAYS), keep=[kept])
    assert floats == (kept,)
    layer = next(layer for layer in find_layers(result) if layer.name == kept)
    assert layer.weights.const_value is not None
    np.testing.assert_array_equal(layer.weights.const_value.numpy(), ARRAYS[f"{kept}.weight"])
    assert not rounded_on_the_way(layer.node)
    others = [n for n in result.graph if n.op_type == "Conv" and n is not layer.node]
    assert all(source_operators(n)[-1] == "DequantizeLinear" for n in others)
    assert len(others) == 3


def rounded_on_the_way(node: ir.Node) -> bool:
    """Whether what goes into a node was rounded since the last operator that computes something."""
    stack = [node.inputs[0]]
    while stack:
        value = stack.pop()
        producer = None if value is None else value.producer()
        if producer is None:
            continue
        if producer.op_type == "DequantizeLinear":
            return True
        if producer.op_type in ("MaxPool", "Resize", "Concat"):
            stack.extend(producer.inputs)
    return False


def test_a_kept_layer_beside_one_that_is_not_reads_what_was_not_rounded() -> None:
    model = small(
        """
        a = Conv (x, "first.weight")
        r = Relu (a)
        b = Conv (r, "kept.weight")
        c = Conv (r, "lowered.weight")
        y = Add (b, c)
        """,
        first_weight=normal(3, 3, 1, 1),
        kept_weight=normal(3, 3, 1, 1),
        lowered_weight=normal(3, 3, 1, 1, seed=2),
    )
    result, _ = lowered(model, keep=["kept"])
    assert source_operators(node_making(result, "b")) == ["Relu"]
    assert source_operators(node_making(result, "c")) == ["DequantizeLinear", "DequantizeLinear"]


def test_a_kept_layer_behind_a_pool_that_others_read_too_reads_what_was_not_rounded() -> None:
    model = small(
        """
        a = Conv (x, "first.weight")
        r = Relu (a)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
        b = Conv (p, "kept.weight")
        c = Conv (p, "lowered.weight")
        y = Add (b, c)
        """,
        first_weight=normal(3, 3, 1, 1),
        kept_weight=normal(3, 3, 1, 1),
        lowered_weight=normal(3, 3, 1, 1, seed=2),
    )
    result, _ = lowered(model, keep=["kept"])
    assert not rounded_on_the_way(node_making(result, "b"))


def test_the_score_head_computes_with_what_the_last_layer_gives() -> None:
    result, _ = lowered(network(NET, ARRAYS))
    for name, source in (
        ("probabilities", "Conv"),
        ("smooth", "Softmax"),
        ("first", "AveragePool"),
        ("map", "Slice"),
        ("score", "Squeeze"),
    ):
        assert source_operators(node_making(result, name)) == [source]


def test_a_head_that_reads_beside_a_layer_is_not_rounded() -> None:
    body = NET.replace("map = Squeeze", "plain = Squeeze").replace("(map, inner)", "(plain, inner)")
    other = "other = ReduceMean <keepdims = 0> (rb, one)\n map = Add (plain, other)"
    model = network(f"{body}\n{other}", ARRAYS)
    result, _ = lowered(model)
    assert source_operators(node_making(result, "other")) == ["Relu"]
    assert "rb" in quantisers(result)


GATED = """
    a = Conv <pads = [1, 1, 1, 1]> (x, "body.weight")
    r = Relu (a)
    mean = GlobalAveragePool (r)
    hidden = Conv (mean, "gate.down.weight")
    active = Relu (hidden)
    wish = Conv (active, "gate.up.weight")
    gate = Sigmoid (wish)
    g = Mul (r, gate)
    y = Conv (g, "end.weight")
"""


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_gate_of_squeeze_and_excitation_stays_float_and_is_named(flavour: Flavour) -> None:
    model = small(
        GATED,
        body_weight=normal(8, 3, 3, 3),
        gate_down_weight=normal(2, 8, 1, 1),
        gate_up_weight=normal(8, 2, 1, 1),
        end_weight=normal(2, 8, 1, 1),
    )
    result, kept = lowered(model, flavour, ["gate.up"])
    assert kept == ("gate.down", "gate.up")
    assert lowered(model, flavour)[1] == ("gate.down", "gate.up")
    assert set(quantisers(result)) == {"x", "r", "g"}
    assert quality(model, result) < 0.03


def test_the_graph_that_was_given_is_not_changed() -> None:
    model = network(NET, ARRAYS)
    activations = measured(model)
    before = serialised(model)
    for flavour in FLAVOURS:
        first, _ = quantise(model, activations, flavour, ["deep"])
        assert serialised(model) == before
        second, _ = quantise(model, activations, flavour, ["deep"])
        assert serialised(first) == serialised(second)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_graph_is_valid_onnx(flavour: Flavour) -> None:
    for keep in ((), ("stem", "last")):
        result, _ = lowered(network(NET, ARRAYS), flavour, keep)
        onnx.checker.check_model(ir.serde.serialize_model(result), full_check=True)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_scales_and_zero_points_of_tensors_are_scalars(flavour: Flavour) -> None:
    for scale, origin in quantisers(lowered(network(NET, ARRAYS), flavour)[0]).values():
        assert (scale.shape, origin.shape) == ((), ())
