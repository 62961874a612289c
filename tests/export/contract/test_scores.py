"""How scores are made: in NumPy against the definition, as nodes against NumPy on both engines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from definitions.graph_text import graph, serialised
from definitions.running import Array, RunGraph
from sspcab_edge.errors import HostError, OptionError
from sspcab_export.contract.scores import (
    RECIPES,
    Recipe,
    is_map,
    is_score,
    make_score,
    parse_recipe,
    put_score,
)

H, W = 9, 11
FROM_MAPS = [
    Recipe("map-max", "map3"),
    Recipe("map-max", "map4"),
    Recipe("map-mean", "map3"),
    Recipe("map-mean", "map4"),
    Recipe("map-mean-filter", "map3", side=1),
    Recipe("map-mean-filter", "map4", side=3),
    Recipe("map-mean-filter", "map3", side=7),
    Recipe("map-mean-filter", "map4", side=21),
    Recipe("error", "made"),
    Recipe("output", "own"),
    Recipe("output", "flat", "map4"),
    Recipe("output", "deep", "map3"),
]
SHAPES = {
    "map3": (1, H, W), "map4": (1, 1, H, W), "made": (1, 3, H, W), "own": (1,), "flat": (1, 1),
    "deep": (1, 1, 1, 1),
}  # fmt: skip


def given_arrays(count: int) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """Outputs and picture; maps have values of both signs, so that zeros around them show."""
    random = np.random.default_rng(count)
    outputs = {
        name: random.standard_normal((count, *shape[1:])).astype(np.float32) - np.float32(0.5)
        for name, shape in SHAPES.items()
    }
    return outputs, random.standard_normal((count, 3, H, W)).astype(np.float32)


def by_definition(recipe: Recipe, outputs: Mapping[str, Array], picture: Array) -> tuple[Array, Array | None]:
    """One picture after the other in float64."""
    scores, maps = [], []
    for number in range(len(picture)):
        if recipe.kind == "output":
            scores.append(outputs[recipe.source][number].item())
            if recipe.map is not None:
                maps.append(outputs[recipe.map][number].astype(np.float64).squeeze())
            continue
        if recipe.kind == "error":
            difference = picture[number].astype(np.float64) - outputs[recipe.source][number]
            one = (difference**2).sum(axis=0) / 3
        else:
            one = outputs[recipe.source][number].astype(np.float64).reshape(H, W)
        maps.append(one)
        if recipe.kind == "map-mean-filter":
            scores.append(uniform_filter(one, recipe.side, mode="constant", cval=0.0).max())
        elif recipe.kind == "map-max":
            scores.append(max(one.reshape(-1).tolist()))
        else:
            scores.append(sum(one.reshape(-1).tolist()) / (H * W))
    return np.array(scores), np.stack(maps) if maps else None


def close(got: Array, wanted: Array, tolerance: float) -> None:
    """Equal relative to the largest value."""
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(1.0, float(np.abs(wanted).max()))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("recipe", FROM_MAPS, ids=str)
def test_scores_and_maps_are_what_the_definition_says(recipe: Recipe, count: int) -> None:
    outputs, picture = given_arrays(count)
    scores, maps = make_score(recipe, outputs, picture)
    wanted, wanted_maps = by_definition(recipe, outputs, picture)
    assert scores.dtype == np.float32
    assert scores.shape == (count,)
    close(scores, wanted, 1e-6)
    assert (maps is None) == (wanted_maps is None)
    if maps is not None and wanted_maps is not None:
        assert maps.dtype == np.float32
        close(maps, wanted_maps, 1e-6)


def test_a_value_that_leaves_the_window_leaves_nothing_behind() -> None:
    maps = np.full((1, 64, 64), 1e-3, np.float32)
    maps[0, 32, 32] = -1e5
    scores, _ = make_score(Recipe("map-mean-filter", "m", side=3), {"m": maps}, maps[:, None])
    assert scores[0] == pytest.approx(1e-3, rel=1e-6)


def with_outputs(opset: int, arrays: Mapping[str, Array] | None = None, more: str = "") -> ir.Model:
    """A graph that gives its inputs as they are, the picture among them."""
    dims = {name: ",".join(["N", *map(str, shape[1:])]) for name, shape in SHAPES.items()}
    return graph(
        " ".join(f"{name} = Identity (in_{name})" for name in SHAPES) + more,
        arrays or {},
        inputs=f"float[N,3,{H},{W}] x, " + ", ".join(f"float[{dims[name]}] in_{name}" for name in SHAPES),
        outputs=", ".join(f"float[{dims[name]}] {name}" for name in SHAPES),
        opset=opset,
    )


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
@pytest.mark.parametrize("recipe", FROM_MAPS, ids=str)
def test_the_nodes_do_the_same_on_both_engines(
    recipe: Recipe, opset: int, run_onnxruntime: RunGraph, run_openvino: RunGraph
) -> None:
    model = with_outputs(opset)
    picture = model.graph.inputs[0]
    put_score(model.graph, recipe, picture, SHAPES)
    used = {picture.name, f"in_{recipe.source}", f"in_{recipe.map}"}
    for value in [value for value in model.graph.inputs if value.name not in used]:
        (identity,) = (use.node for use in value.uses())
        model.graph.remove(identity, safe=True)
        model.graph.inputs.remove(value)
    if not picture.uses():
        model.graph.inputs.remove(picture)
    data = serialised(model)
    for count in (1, 3):
        outputs, pixels = given_arrays(count)
        wanted, wanted_maps = make_score(recipe, outputs, pixels)
        fed = {"x": pixels, **{f"in_{name}": array for name, array in outputs.items()}}
        fed = {str(value.name): fed[str(value.name)] for value in model.graph.inputs}
        for run in (run_onnxruntime, run_openvino):
            got = run(data, fed)
            close(got[0], wanted, 1e-6)
            assert len(got) == (1 if wanted_maps is None else 2)
            if wanted_maps is not None:
                close(got[1], wanted_maps, 1e-6)


def test_an_output_that_is_not_there_is_said() -> None:
    model = with_outputs(18)
    with pytest.raises(HostError, match=r"no output 'heat', expected one of map3, map4, made"):
        put_score(model.graph, Recipe("map-max", "heat"), model.graph.inputs[0], SHAPES)


valid = st.one_of(
    st.sampled_from(["map-max", "map-mean", "error"]),
    st.integers(0, 4999).map(lambda half: f"map-mean-filter:{2 * half + 1}"),
    st.text(min_size=1).map(lambda name: f"output:{name}"),
)


@given(text=valid, map_output=st.none() | st.text(min_size=1))
def test_a_valid_recipe_is_said_again_as_it_was(text: str, map_output: str | None) -> None:
    recipe = parse_recipe(text, map_output)
    assert recipe.text == text
    if recipe.kind == "output":
        assert (recipe.map, recipe.from_map) == (map_output, None)
    else:
        assert (recipe.source, recipe.map) == (map_output or "", None)
        assert recipe.from_map == ("map-mean" if text == "error" else text)


@given(
    text=st.text() | st.sampled_from(RECIPES).flatmap(lambda start: st.text().map(lambda end: start + end))
)
def test_any_other_text_is_refused_or_said_again_as_it_was(text: str) -> None:
    try:
        recipe = parse_recipe(text, None)
    except OptionError as error:
        assert "K odd" in str(error)  # noqa: PT017  (most texts raise, some do not)
    else:
        assert recipe.text == text


@pytest.mark.parametrize(
    "text",
    ["", "max", "output", "output:", "error:made", "map-max:", "map-mean-filter", "map-mean-filter:"]
    + [f"map-mean-filter:{side}" for side in ("0", "4", "-3", "+3", "021", "3.0", "²", "٣", " 3")]
    + ["map-mean-filter:" + "1" * 5000],
    ids=lambda text: text[:20],
)
def test_what_is_no_recipe_is_one_line(text: str) -> None:
    with pytest.raises(OptionError, match=r"is not understood: expected one of map-max, map-mean"):
        parse_recipe(text, None)


@pytest.mark.parametrize(
    ("shape", "score", "anomaly"),
    [
        ((1,), True, False),
        ((1, 1), True, False),
        ((1, 1, 1, 1), True, False),
        ((), True, False),
        ((2,), False, False),
        ((1, 4, 5), False, True),
        ((1, 1, 4, 5), False, True),
        ((1, 1, 1), True, False),
        ((1, 2, 4, 5), False, False),
        ((3, 4, 5), False, False),
        ((2, 1, 4, 5), False, False),
        ((4, 5), False, True),
        ((1, 5), False, False),
    ],
)
def test_shapes_tell_what_can_be_a_score_or_a_map(shape: tuple[int, ...], score: bool, anomaly: bool) -> None:
    assert (is_score(shape), is_map(shape)) == (score, anomaly)
