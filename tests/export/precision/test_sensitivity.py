"""Which layer hurts: one that is bound to, by how it is made, has to come first."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import common as ir_passes

from definitions.graph_text import graph
from definitions.running import Array
from sspcab_export.precision.activations import Frame, measure
from sspcab_export.precision.lowering import Lowering
from sspcab_export.precision.sensitivity import LayerEffect, measure_sensitivity, rank
from sspcab_export.running import GraphRunner

BODY = """
    f = Cast <to = 1> (frames)
    t = Transpose <perm = [0, 3, 1, 2]> (f)
    x = Div (t, full)
    a = Conv (x, "one.weight")
    ra = Relu (a)
    b = Conv (ra, "wild.weight")
    rb = Relu (b)
    c = Conv (rb, "reader.weight")
    rc = Relu (c)
    d = Conv (rc, "four.weight")
    rd = Relu (d)
    y = Conv (rd, "five.weight")
    score = ReduceMean <keepdims = 0> (y, all)
"""
NAMES = ("one", "wild", "reader", "four", "five")


def network(exaggeration: float) -> ir.Model:
    """The second layer's first channel is so many times the others, and the third takes it back."""
    random = np.random.default_rng(2)
    arrays: dict[str, Array] = {"full": np.array(255, np.float32), "all": np.array([1, 2, 3])}
    for number, name in enumerate(NAMES):
        shape = (6, 3 if number == 0 else 6, 1, 1)
        arrays[f"{name}.weight"] = np.abs(random.normal(size=shape)).astype(np.float32) / 3
    arrays["wild.weight"][0] *= np.float32(exaggeration)
    arrays["reader.weight"][:, 0] /= np.float32(exaggeration)
    model = graph(BODY, arrays, inputs="uint8[N,8,8,3] frames", outputs="float[N] score")
    ir_passes.ShapeInferencePass()(model)
    return model


def pictures(count: int = 6) -> list[Frame]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8))


def effects(exaggeration: float, threshold: float | None = None) -> tuple[LayerEffect, ...]:
    model = network(exaggeration)
    activations = measure(model, pictures(), lambda done: None)
    lowering = Lowering(model, activations, "int8", "unsigned")
    run = GraphRunner(model)
    scores = [float(run(frame)["score"][0]) for frame in pictures()]
    told: list[int] = []
    found = measure_sensitivity(
        lowering.computed, lowering.layers, pictures(), scores, threshold, told.append
    )
    assert told == [1, 2, 3, 4, 5]
    return found


def test_the_reader_of_a_channel_a_thousand_times_the_others_comes_first() -> None:
    found = effects(1000)
    assert sorted(effect.layer for effect in found) == sorted(NAMES)
    assert found[0].layer in ("wild", "reader")
    assert found[0].mean_abs_score_diff > 3 * max(
        effect.mean_abs_score_diff for effect in found if effect.layer not in ("wild", "reader")
    )
    calm = {effect.layer: effect for effect in effects(1)}
    assert found[0].mean_abs_score_diff > 3 * calm[found[0].layer].mean_abs_score_diff


def test_effects_are_the_differences_of_graphs_with_one_layer_lowered() -> None:
    model = network(1)
    activations = measure(model, pictures(), lambda done: None)
    lowering = Lowering(model, activations, "int8", "signed")
    asked: list[set[str]] = []

    def lower(keep: Collection[str]) -> ir.Model:
        asked.append(set(keep))
        return lowering.computed(keep)

    scores = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    found = measure_sensitivity(lower, NAMES, pictures(), scores, 0.5, lambda done: None)
    assert asked == [set(NAMES) - {name} for name in NAMES]
    for effect in found:
        run = GraphRunner(lowering.computed([name for name in NAMES if name != effect.layer]))
        got = np.array([float(run(frame)["score"][0]) for frame in pictures()])
        assert effect.mean_abs_score_diff == pytest.approx(np.abs(got - scores).mean())
        assert effect.max_abs_score_diff == pytest.approx(np.abs(got - scores).max())
        assert effect.flips == int(((got > 0.5) != (np.array(scores) > 0.5)).sum())


def test_without_a_threshold_no_verdict_flips() -> None:
    assert {effect.flips for effect in effects(1)} == {None}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_a_difference_without_bound(bad: float) -> None:
    model = network(1)
    broken = network(1)
    weights = broken.graph.initializers["five.weight"]
    assert weights.const_value is not None
    weights.const_value = ir.tensor(np.full_like(weights.const_value.numpy(), bad), name="five.weight")

    def lower(keep: Collection[str]) -> ir.Model:
        return model if "four" in keep else broken

    run = GraphRunner(model)
    scores = [float(run(frame)["score"][0]) for frame in pictures()]
    found = measure_sensitivity(lower, ("one", "four"), pictures(), scores, None, lambda done: None)
    assert [effect.layer for effect in found] == ["four", "one"]
    assert (found[0].mean_abs_score_diff, found[0].max_abs_score_diff) == (math.inf, math.inf)
    assert found[1].max_abs_score_diff == 0


def effect(layer: str, mean: float, flips: int | None) -> LayerEffect:
    return LayerEffect(layer=layer, mean_abs_score_diff=mean, max_abs_score_diff=mean, flips=flips)


def test_layers_rank_by_mean_change_times_one_more_than_the_flips() -> None:
    given = [
        effect("small with flips", 0.01, 9),
        effect("middle", 0.2, 0),
        effect("large", 0.3, 0),
        effect("middle with flips", 0.2, 1),
        effect("infinite", math.inf, 0),
        effect("none", 0.0, 5),
        effect("also none", 0.0, 0),
    ]
    assert [one.layer for one in rank(given)] == [
        "infinite",
        "middle with flips",
        "large",
        "middle",
        "small with flips",
        "also none",
        "none",
    ]


def test_without_flips_layers_rank_by_change_and_then_by_name() -> None:
    given = [effect("b", 0.1, None), effect("a", 0.1, None), effect("c", 0.2, None)]
    assert [one.layer for one in rank(given)] == ["c", "a", "b"]
