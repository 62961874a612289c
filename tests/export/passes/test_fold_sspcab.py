"""What is folded, however it is written; what only looks like a block is in the lookalikes' own file."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from definitions.graph_text import BLOCK, block_arrays, check_equal, edited, graph, images, serialised
from definitions.running import RunGraph
from sspcab_edge.block import BlockSpec
from sspcab_export.passes import optimise

FOLDED = BlockSpec(
    path="block0", dialect="official", kernel=1, dilation=1, reduction=2, channels=4, form="folded"
)


def folded_convolutions(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "Conv" and "dilations" in node.attributes]


def test_k1_is_one_convolution_between_input_and_attention(run_onnxruntime: RunGraph) -> None:
    """Row 5."""
    before = graph(BLOCK, block_arrays())
    after, blocks = optimise(before)
    assert blocks == (FOLDED,)
    operators = [node.op_type for node in after.graph]
    assert operators == ["Conv", "Relu", "GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"]
    convolution = after.graph[0]
    assert convolution.inputs[0] is after.graph.inputs[0]
    assert {name: value.value for name, value in convolution.attributes.items()} == {
        "kernel_shape": (2, 2),
        "dilations": (4, 4),
        "pads": (2, 2, 2, 2),
        "strides": (1, 1),
        "group": 1,
    }
    check_equal(before, after, images(), run_onnxruntime)


def test_the_graph_that_came_in_is_not_changed() -> None:
    before = graph(BLOCK, block_arrays())
    bytes_before = serialised(before)
    optimise(before)
    assert serialised(before) == bytes_before


@pytest.mark.parametrize("opset", range(11, 21))
def test_every_operator_set(opset: int, run_onnxruntime: RunGraph) -> None:
    before = graph(BLOCK, block_arrays(kernel=2, dilation=0), opset=opset)
    after, blocks = optimise(before)
    assert [(block.kernel, block.dilation, block.form) for block in blocks] == [(2, 0, "folded")]
    check_equal(before, after, images(), run_onnxruntime)


WRITTEN_OTHERWISE = {
    "balanced sum": edited(BLOCK, s2="s2 = Add (c4, c3)", s="s = Add (s2, s1)"),
    "one Sum": edited(BLOCK, s1="", s2="", s="s = Sum (c3, c1, c4, c2)"),
    "zeros first": edited(BLOCK, s1="z = Add (zeros, c1)\n s1 = Add (z, c2)"),
    "expanded zeros": edited(
        BLOCK, s1="n = Shape (x)\n e = Expand (zero, n)\n z = Add (e, c1)\n s1 = Add (z, c2)"
    ),
    "constant of shape": edited(
        BLOCK, s1="n = Shape (x)\n e = ConstantOfShape (n)\n z = Add (e, c1)\n s1 = Add (z, c2)"
    ),
    "computed zeros": edited(
        BLOCK,
        s1="n = Shape (x)\n b = Gather (n, first)\n m = Concat <axis = 0> (b, chw)\n"
        "e = ConstantOfShape (m)\n z = Add (c1, e)\n s1 = Add (z, c2)",
    ),
    "both axes at once": edited(
        BLOCK,
        top="",
        bottom="",
        tl="tl = Slice (p, first2, cut2, both)",
        bl="bl = Slice (p, border_first, end_cut, both)",
        tr="tr = Slice (p, border_first, end_cut, swapped)",
        br="br = Slice (p, border2, end2, both)",
    ),
    "columns first": edited(
        BLOCK,
        top="west = Slice (p, first, cut, columns)",
        bottom="east = Slice (p, border, end, columns)",
        tl="tl = Slice (west, first, cut, rows)",
        bl="bl = Slice (west, border, end, rows)",
        tr="tr = Slice (east, first, cut, rows)",
        br="br = Slice (east, border, end, rows)",
    ),
    "nothing shared": edited(
        BLOCK,
        p="p1 = Pad (x, pads)\n p2 = Pad (x, pads)",
        top="t1 = Slice (p1, first, cut, rows)",
        bottom="t2 = Slice (p2, first, cut, rows)",
        tl="tl = Slice (t1, first, cut, columns)",
        tr="tr = Slice (t2, border, end, columns)",
        bl="u1 = Slice (p1, border, end, rows)\n bl = Slice (u1, first, cut, columns)",
        br="u2 = Slice (p2, border, end, rows)\n br = Slice (u2, border, end, columns)",
    ),
    "ends from the front": edited(
        BLOCK,
        top="top = Slice (p, first, height, rows)",
        bottom="bottom = Slice (p, border, height_end, minus_rows)",
        tl="tl = Slice (top, first, width, columns, one)",
        bl="bl = Slice (bottom, first, width, columns)",
    ),
    "starts from the back": edited(BLOCK, bottom="bottom = Slice (p, minus_height, end, rows)"),
    "cut in steps": edited(
        BLOCK, bottom="low = Slice (p, one, end, rows)\n bottom = Slice (low, three, end, rows)"
    ),
    "batch and channels named": edited(
        BLOCK, top="t0 = Slice (p, first4, end4)\n top = Slice (t0, first, cut, rows)"
    ),
    "explicit zero padding": edited(BLOCK, p='p = Pad <mode = "constant"> (x, pads, zero)'),
    "one bias": edited(BLOCK, c1="c1 = Conv (tl, w1)", c2="c2 = Conv (bl, w2)", c3="c3 = Conv (tr, w3)"),
    "Identity between": edited(BLOCK, c1="i = Identity (tl)\n c0 = Conv (i, w1, b1)\n c1 = Identity (c0)"),
    "batch size asked": edited(BLOCK, s="s = Add (s2, c4)\n n = Shape (s)\n m = Shape (c1)"),
}


@pytest.mark.parametrize("text", WRITTEN_OTHERWISE.values(), ids=WRITTEN_OTHERWISE)
def test_meaning_counts_not_spelling(text: str, run_onnxruntime: RunGraph) -> None:
    arrays = block_arrays() | {
        "zero": np.array(0, np.float32),
        "zeros": np.zeros((1, 1, 9, 11), np.float32),
        "chw": np.array([4, 9, 11]),
        "both": np.array([2, 3]),
        "swapped": np.array([3, 2]),
        "first2": np.array([0, 0]),
        "cut2": np.array([-4, -4]),
        "border2": np.array([4, 4]),
        "end2": np.array([2**31 - 1, 2**63 - 1]),
        "border_first": np.array([4, 0]),
        "end_cut": np.array([2**63 - 1, -4]),
        "height": np.array([9]),
        "height_end": np.array([13]),
        "width": np.array([11]),
        "minus_height": np.array([-9]),
        "minus_rows": np.array([-2]),
        "one": np.array([1]),
        "three": np.array([3]),
        "first4": np.zeros(4, np.int64),
        "end4": np.full(4, 2**63 - 1),
    }
    before = graph(text, arrays)
    after, blocks = optimise(before)
    assert blocks == (FOLDED,)
    assert len(folded_convolutions(after)) == 1
    assert not {"Slice", "Pad", "Shape"} & {node.op_type for node in after.graph}
    check_equal(before, after, images(), run_onnxruntime)


def test_without_relu_it_is_anomalib(run_onnxruntime: RunGraph) -> None:
    text = edited(BLOCK, r="", mean="mean = GlobalAveragePool (s)", y="y = Mul (gate, s)")
    before = graph(text, block_arrays(kernel=3, dilation=2))
    after, blocks = optimise(before)
    assert [(block.dialect, block.kernel, block.dilation, block.reduction) for block in blocks] == [
        ("anomalib", 3, 2, 2)
    ]
    assert len(folded_convolutions(after)) == 9
    check_equal(before, after, images(), run_onnxruntime)


def test_without_attention_the_reduction_is_zero(run_onnxruntime: RunGraph) -> None:
    text = "\n".join(BLOCK.strip().splitlines()[:14]).replace("s = Add", "y = Add")
    before = graph(text, block_arrays())
    after, blocks = optimise(before)
    assert [(block.dialect, block.reduction) for block in blocks] == [("anomalib", 0)]
    assert [node.op_type for node in after.graph] == ["Conv"]
    check_equal(before, after, images(), run_onnxruntime)


def test_a_shortcut_around_the_block_stays(run_onnxruntime: RunGraph) -> None:
    before = graph(edited(BLOCK, y="t = Mul (r, gate)\n y = Add (x, t)"), block_arrays())
    after, blocks = optimise(before)
    assert blocks == (FOLDED,)
    check_equal(before, after, images(), run_onnxruntime)


def test_free_map_size(run_onnxruntime: RunGraph) -> None:
    sizes = "float[N,4,H,W]"
    before = graph(BLOCK, block_arrays(), inputs=f"{sizes} x", outputs=f"{sizes} y")
    after, blocks = optimise(before)
    assert blocks == (FOLDED,)
    check_equal(before, after, images(1, 4, 8, 23), run_onnxruntime)


def test_half_precision_weights_stay_half(run_onnxruntime: RunGraph) -> None:
    arrays = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in block_arrays().items()
    }
    before = graph(BLOCK, arrays, inputs="float16[N,4,9,11] x", outputs="float16[N,4,9,11] y")
    after, blocks = optimise(before)
    assert blocks == (FOLDED,)
    assert {value.dtype for value in after.graph.initializers.values()} == {ir.DataType.FLOAT16}
    feeds = {"x": images()["x"].astype(np.float16)}
    wanted, got = (run_onnxruntime(serialised(model), feeds)[0] for model in (before, after))
    assert np.abs(wanted.astype(np.float64) - got).max() <= 4e-3 * np.abs(wanted).max()


def test_two_blocks_one_after_the_other(run_onnxruntime: RunGraph) -> None:
    made = "|".join(line.split("=")[0].strip() for line in BLOCK.strip().splitlines())
    second = re.sub(rf"\b({made})\b", r"\1_2", BLOCK).replace("(x,", "(y,")
    before = graph(BLOCK + second, block_arrays(), outputs="float[N,4,9,11] y_2")
    after, blocks = optimise(before)
    assert [block.path for block in blocks] == ["block0", "block1"]
    assert len(folded_convolutions(after)) == 2
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize(
    ("rename", "path"),
    [("net.enc.block5.conv{}.weight", "net.enc.block5"), ("conv{}.weight", "block0"), ("w{}", "block0")],
)
def test_the_path_comes_from_the_weights_names(rename: str, path: str) -> None:
    before = graph(BLOCK, block_arrays())
    for number in range(1, 5):
        before.graph.initializers[f"w{number}"].name = rename.format(number)
    assert [block.path for block in optimise(before)[1]] == [path]


def test_the_path_comes_from_the_nodes_names_where_weights_lost_theirs() -> None:
    before = graph(BLOCK, block_arrays())
    convolutions = [node for node in before.graph if node.op_type == "Conv"]
    for number, node in enumerate(convolutions[:4], start=1):
        node.name = f"/net/encoder/block5/conv{number}/Conv"
        before.graph.initializers[f"w{number}"].name = f"onnx::Conv_{200 + number}"
    (block,) = optimise(before)[1]
    assert block.path == "net.encoder.block5"


def test_tensorflow_is_kept_as_it_is(run_onnxruntime: RunGraph) -> None:
    branches = {
        f"c{number}": f"a{number} = Conv ({window}, w{number}, b{number})\n c{number} = Relu (a{number})"
        for number, window in ((1, "tl"), (2, "bl"), (3, "tr"), (4, "br"))
    }
    text = edited(BLOCK, p='p = Pad <mode = "reflect"> (x, pads)', **branches, s="r = Add (s2, c4)", r="")
    before = graph(text, block_arrays())
    after, blocks = optimise(before)
    assert [(block.dialect, block.reduction, block.form) for block in blocks] == [
        ("tensorflow", 2, "reference")
    ]
    assert folded_convolutions(after) == []
    check_equal(before, after, images(), run_onnxruntime)
