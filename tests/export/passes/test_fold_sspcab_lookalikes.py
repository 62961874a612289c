"""What only looks like a block must stay, and compute what it did before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.graph_text import BLOCK, block_arrays, check_equal, edited, graph, images
from definitions.running import RunGraph
from sspcab_export.passes import optimise

BRANCHES = {"c1": "tl, w1, b1", "c2": "bl, w2, b2", "c3": "tr, w3, b3", "c4": "br, w4, b4"}
RELU_PER_BRANCH = {
    name: f"a{name} = Conv ({inputs})\n {name} = Relu (a{name})" for name, inputs in BRANCHES.items()
}

LOOKALIKES = {
    "a missing corner": edited(BLOCK, c4="", s2="", s="s = Add (s1, c3)"),
    "a corner twice": edited(BLOCK, c4="c4 = Conv (tl, w4, b4)"),
    "the centre": edited(BLOCK, br="m = Slice (p, two, less, rows)\n br = Slice (m, two, less, columns)"),
    "windows of different maps": edited(
        BLOCK,
        p="p = Pad (x, pads)\n other = Neg (x)\n q = Pad (other, pads)",
        bottom="bottom = Slice (q, border, end, rows)",
    ),
    "a grouped convolution": edited(BLOCK, c2="c2 = Conv <group = 2> (bl, grouped, b2)"),
    "a branch of one more operation": edited(BLOCK, c2="n = Neg (bl)\n c2 = Conv (n, w2, b2)"),
    "a convolution read elsewhere": edited(BLOCK, y="t = Mul (r, gate)\n y = Add (t, c2)"),
    "a partial sum read elsewhere": edited(BLOCK, y="t = Mul (r, gate)\n y = Add (t, s2)"),
    "padding by a value": edited(BLOCK, p="p = Pad (x, pads, two_and_a_half)"),
    "reflected, then summed": edited(BLOCK, p='p = Pad <mode = "reflect"> (x, pads)'),
    "edge padding": edited(BLOCK, p='p = Pad <mode = "edge"> (x, pads)'),
    "uneven padding": edited(BLOCK, p="p = Pad (x, uneven)"),
    "ReLU on one branch": edited(BLOCK, c2=RELU_PER_BRANCH["c2"]),
    "zero padding with ReLU on each branch": edited(BLOCK, **RELU_PER_BRANCH, s="r = Add (s2, c4)", r=""),
    "a fifth term": edited(BLOCK, s="s3 = Add (s2, x)\n s = Add (s3, c4)"),
    "ones in place of zeros": edited(BLOCK, s1="z = Add (ones, c1)\n s1 = Add (z, c2)"),
    "a branch subtracted": edited(BLOCK, s="s = Sub (s2, c4)"),
    "a convolution with padding": edited(
        BLOCK, c2="low = Slice (bl, one, last, rows)\n c2 = Conv <pads = [1, 0, 1, 0]> (low, w2, b2)"
    ),
    "every other row twice": edited(
        BLOCK, c2="even = Slice (bl, first, end, rows, two)\n up = Resize (even, , , sizes)\n"
        "c2 = Conv (up, w2, b2)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", LOOKALIKES.values(), ids=LOOKALIKES)
def test_lookalikes_are_left_alone(text: str, run_onnxruntime: RunGraph) -> None:
    arrays = block_arrays() | {
        "one": np.array([1]),
        "two": np.array([2]),
        "less": np.array([-2]),
        "last": np.array([-1]),
        "two_and_a_half": np.array(2.5, np.float32),
        "grouped": np.random.default_rng(0).standard_normal((4, 2, 1, 1), dtype=np.float32),
        "uneven": np.array([0, 0, 1, 2, 0, 0, 3, 2]),
        "ones": np.ones((1, 1, 9, 11), np.float32),
        "sizes": np.array([2, 4, 9, 11]),
    }
    before = graph(text, arrays)
    after, blocks = optimise(before)
    assert blocks == ()
    assert all("masked" not in name for name in after.graph.initializers)
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize(
    ("attribute", "rows", "columns"), [("pads = [1, 1, 1, 1]", 12, 14), ("strides = [2, 2]", 5, 6)]
)
def test_four_convolutions_of_another_kind_stay(
    attribute: str, rows: int, columns: int, run_onnxruntime: RunGraph
) -> None:
    body = {name: f"{name} = Conv <{attribute}> ({inputs})" for name, inputs in BRANCHES.items()}
    outputs = f"float[N,4,{rows},{columns}] y"
    before = graph(edited(BLOCK, **body), block_arrays(), inputs="float[N,4,10,12] x", outputs=outputs)
    after, blocks = optimise(before)
    assert blocks == ()
    check_equal(before, after, images(2, 4, 10, 12), run_onnxruntime)


def test_four_dilated_convolutions_stay(run_onnxruntime: RunGraph) -> None:
    """Their windows are those of k = 2, d = 1, and their taps lie further apart."""
    body = {name: f"{name} = Conv <dilations = [2, 2]> ({inputs})" for name, inputs in BRANCHES.items()}
    before = graph(edited(BLOCK, **body), block_arrays(2, 1), outputs="float[N,4,8,10] y")
    after, blocks = optimise(before)
    assert blocks == ()
    check_equal(before, after, images(), run_onnxruntime)


def test_zeros_that_widen_the_batch_stay(run_onnxruntime: RunGraph) -> None:
    text = edited(BLOCK, s1="z = Add (wide, c1)\n s1 = Add (z, c2)")
    arrays = block_arrays() | {"wide": np.zeros((3, 1, 1, 1), np.float32)}
    before = graph(text, arrays, inputs="float[1,4,9,11] x", outputs="float[3,4,9,11] y")
    after, blocks = optimise(before)
    assert blocks == ()
    check_equal(before, after, images(1, 4, 9, 11), run_onnxruntime)


def test_zeros_of_another_inputs_batch_stay(run_onnxruntime: RunGraph) -> None:
    text = edited(BLOCK, s1="n = Shape (other)\n e = Expand (zero, n)\n z = Add (e, c1)\n s1 = Add (z, c2)")
    arrays = block_arrays() | {"zero": np.array(0, np.float32)}
    inputs = "float[N,4,9,11] x, float[M,4,9,11] other"
    before = graph(text, arrays, inputs=inputs, outputs="float[M,4,9,11] y")
    after, blocks = optimise(before)
    assert blocks == ()
    feeds = images(1, 4, 9, 11) | {"other": np.zeros((3, 4, 9, 11), np.float32)}
    check_equal(before, after, feeds, run_onnxruntime)


@pytest.mark.parametrize("value", ["c1", "s1", "s2"])
def test_an_inner_value_that_is_an_output_stays(value: str, run_onnxruntime: RunGraph) -> None:
    before = graph(BLOCK, block_arrays(), outputs=f"float[N,4,9,11] y, float[N,4,9,11] {value}")
    after, blocks = optimise(before)
    assert blocks == ()
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize("value", ["s", "r", "p", "tl"])
def test_an_outer_value_that_is_an_output_keeps_its_name(value: str, run_onnxruntime: RunGraph) -> None:
    size = "13,15" if value == "p" else "9,11"
    before = graph(BLOCK, block_arrays(), outputs=f"float[N,4,9,11] y, float[N,4,{size}] {value}")
    after, blocks = optimise(before)
    assert [(block.dialect, block.reduction, block.form) for block in blocks] == [("official", 2, "folded")]
    assert [output.name for output in after.graph.outputs] == ["y", value]
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize(("weight", "shape"), [("w3", "4,4,1,1"), ("b2", "4")])
def test_weights_that_are_inputs_stay(weight: str, shape: str, run_onnxruntime: RunGraph) -> None:
    arrays = block_arrays()
    feeds = images() | {weight: arrays.pop(weight)}
    before = graph(BLOCK, arrays, inputs=f"float[N,4,9,11] x, float[{shape}] {weight}")
    after, blocks = optimise(before)
    assert blocks == ()
    check_equal(before, after, feeds, run_onnxruntime)


@pytest.mark.parametrize(("name", "size"), [("pads", 8), ("border", 1), ("rows", 1)])
def test_geometry_that_is_an_input_stays(name: str, size: int, run_onnxruntime: RunGraph) -> None:
    arrays = block_arrays()
    feeds = images() | {name: arrays.pop(name)}
    before = graph(BLOCK, arrays, inputs=f"float[N,4,9,11] x, int64[{size}] {name}")
    after, blocks = optimise(before)
    assert blocks == ()
    check_equal(before, after, feeds, run_onnxruntime)


offsets = st.tuples(st.integers(0, 4), st.integers(0, 4))


@given(windows=st.lists(offsets | st.sampled_from([(0, 0), (4, 0), (0, 4), (4, 4)]), min_size=4, max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_four_windows_compute_what_they_did(
    windows: list[tuple[int, int]], run_onnxruntime: RunGraph
) -> None:
    arrays = block_arrays()
    lines = {"top": "", "bottom": ""}
    for name, (row, column) in zip(("tl", "bl", "tr", "br"), windows, strict=True):
        lines[name] = f"{name} = Slice (p, {name}_start, {name}_end, both)"
        arrays[f"{name}_start"] = np.array([row, column])
        arrays[f"{name}_end"] = np.array([row - 4 or 2**31 - 1, column - 4 or 2**31 - 1])
    arrays["both"] = np.array([2, 3])
    before = graph(edited(BLOCK, **lines), arrays)
    after, blocks = optimise(before)
    assert bool(blocks) == (set(windows) == {(0, 0), (4, 0), (0, 4), (4, 4)})
    check_equal(before, after, images(), run_onnxruntime)
