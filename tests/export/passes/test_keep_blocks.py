"""A folded block as one node: equal to what it was, whatever its kind, neighbours and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.block_nets import SIZE, Kind, network
from definitions.graph_text import BLOCK, block_arrays, check_equal, edited, graph, images, serialised
from definitions.running import RunGraph
from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import GraphError
from sspcab_export.graph import load_graph, save_graph
from sspcab_export.passes import optimise
from sspcab_export.passes._folded import folded_blocks
from sspcab_export.passes._reading import ints_attribute
from sspcab_export.passes.block_bodies import holds_blocks, inlined, without_bodies
from sspcab_export.passes.keep_blocks import keep_blocks, still_folded

KINDS = [
    Kind(kernel, dilation, dialect, gated)
    for dialect in ("official", "anomalib")
    for gated in (True, False)
    for kernel in (1, 2, 3)
    for dilation in (0, 1, 2)
]


def kept(model: ir.Model) -> tuple[ir.Model, tuple[BlockSpec, ...]]:
    return keep_blocks(*optimise(model))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def forms(blocks: tuple[BlockSpec, ...]) -> list[str]:
    return [block.form for block in blocks]


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / np.abs(one).max())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_is_one_equal_node(
    kind: Kind, tmp_path: Path, run_onnxruntime: RunGraph, run_openvino: RunGraph
) -> None:
    before = network(kind)
    model, blocks = kept(before)
    assert forms(blocks) == ["custom-op"]
    assert operators(model) == ["SSPCAB"]
    node = model.graph[0]
    assert {name: value.value for name, value in node.attributes.items()} == {
        "kernel": kind.kernel,
        "dilation": kind.dilation,
        "reduction": 2 if kind.gated else 0,
        "dialect": kind.dialect,
    }
    side = 2 * kind.kernel
    shapes = [(4, 4, side, side), (4,), *([(2, 4, 1, 1), (2,), (4, 2, 1, 1), (4,)] if kind.gated else [])]
    assert [tuple(value.shape.numpy()) for value in node.inputs[1:] if value and value.shape] == shapes
    save_graph(model, tmp_path / "kept.onnx")
    plain = inlined(load_graph(tmp_path / "kept.onnx"))
    assert not holds_blocks(plain)
    for batch in (1, 3):
        feeds = images(batch, 4, 9, 11)
        for run, file in (
            (run_onnxruntime, (tmp_path / "kept.onnx").read_bytes()),
            (run_openvino, serialised(plain)),
        ):
            (wanted,), (got,) = run(serialised(before), feeds), run(file, feeds)
            assert difference(wanted, got) <= 1e-6


@given(
    kernel=st.integers(1, 5),
    dilation=st.integers(0, 6),
    dialect=st.sampled_from(["official", "anomalib"]),
    gated=st.booleans(),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_what_was_folded_is_recognised(kernel: int, dilation: int, dialect: str, gated: bool) -> None:
    model, blocks = optimise(network(Kind(kernel, dilation, dialect, gated)))
    (found,) = folded_blocks(model.graph)
    assert (found.geometry, found.channels) == (blocks[0].geometry, 4)
    assert (found.relu, found.gate is not None) == (dialect == "official", gated)
    assert found.is_closed
    assert set(found.nodes) == set(model.graph)
    assert found.source is model.graph.inputs[0]
    assert found.output is model.graph.outputs[0]


def test_put_in_place_again_it_is_the_folded_graph() -> None:
    folded, blocks = optimise(network(Kind(3, 1), Kind(1, 1, "anomalib")))
    plain = inlined(keep_blocks(folded, blocks)[0])
    assert operators(plain) == operators(folded)
    assert plain.opset_imports == folded.opset_imports
    assert not plain.functions
    assert plain.graph.outputs[0].name == "y"
    for one, other in zip(folded.graph, plain.graph, strict=True):
        for name in ("dilations", "pads", "strides"):
            assert ints_attribute(one, name, ()) == ints_attribute(other, name, ()), (one, name)
        for value, same in zip(one.inputs, other.inputs, strict=True):
            if value is not None and value.const_value is not None:
                assert same is not None
                assert same.const_value is not None
                np.testing.assert_array_equal(value.const_value.numpy(), same.const_value.numpy())


def test_the_file_is_valid_old_enough_and_the_same_each_time(tmp_path: Path) -> None:
    for name in "ab":
        save_graph(kept(network(Kind(2, 0), Kind()))[0], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    proto = onnx.load(tmp_path / "a")
    onnx.checker.check_model(proto, full_check=True)
    assert 8 <= proto.ir_version <= 10
    assert {one.domain: one.version for one in proto.opset_import} == {"": 18, "sspcab.edge": 1}
    assert [(one.domain, one.name, one.overload) for one in proto.functions] == [
        ("sspcab.edge", "SSPCAB", ""),
        ("sspcab.edge", "SSPCAB_2", ""),
    ]
    assert [list(one.attribute) for one in proto.functions] == [
        ["kernel", "dilation", "reduction", "dialect"]
    ] * 2
    assert [one.domain for function in proto.functions for one in function.opset_import] == ["", ""]


def test_what_came_in_is_not_changed() -> None:
    folded, blocks = optimise(network(Kind(2, 0)))
    before = serialised(folded)
    model, _ = keep_blocks(folded, blocks)
    assert serialised(folded) == before
    before = serialised(model)
    inlined(model)
    without_bodies(model)
    assert serialised(model) == before


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_other_operator_sets(opset: int, run_onnxruntime: RunGraph) -> None:
    before = network(Kind(2, 1), opset=opset)
    before.ir_version = 6
    after, blocks = kept(before)
    assert forms(blocks) == ["custom-op"]
    assert after.ir_version == 8
    onnx.checker.check_model(ir.serde.serialize_model(after), full_check=True)
    check_equal(before, after, images(), run_onnxruntime)
    check_equal(before, inlined(after), images(), run_onnxruntime)


def test_blocks_of_two_kinds_have_two_names(run_onnxruntime: RunGraph) -> None:
    """ONNX Runtime 1.18 runs the wrong body where only an overload tells them apart."""
    before = network(Kind(1, 1), Kind(3, 0, "anomalib", False), Kind(1, 1), Kind(1, 2))
    after, blocks = kept(before)
    assert forms(blocks) == ["custom-op"] * 4
    assert operators(after) == ["SSPCAB", "SSPCAB_2", "SSPCAB", "SSPCAB_3"]
    assert {node.overload for node in after.graph} == {""}
    for model in (after, inlined(after)):
        check_equal(before, model, images(), run_onnxruntime)


def test_a_block_whose_output_is_read_twice_and_given_out(run_onnxruntime: RunGraph) -> None:
    before = graph(BLOCK + "\n z = Sigmoid (y)", block_arrays(2, 1), outputs=f"{SIZE} y, {SIZE} z")
    after, blocks = kept(before)
    assert forms(blocks) == ["custom-op"]
    assert operators(after) == ["SSPCAB", "Sigmoid"]
    assert [value.name for value in after.graph.outputs] == ["y", "z"]
    for model in (after, inlined(after)):
        check_equal(before, model, images(), run_onnxruntime)


def test_a_sum_with_something_else_is_told_from_the_block(run_onnxruntime: RunGraph) -> None:
    """A block that ends with its sum, added onto a shortcut and onto a convolution of the host."""
    before = network(
        Kind(2, 1, "anomalib", False),
        tail="h = Conv <dilations = [5, 5], pads = [3, 3, 2, 2]> (x, host)\n a = Add (x, y)\n z = Add (a, h)",
        outputs=f"{SIZE} z",
        more={"host": np.random.default_rng(3).standard_normal((4, 4, 2, 2), dtype=np.float32)},
    )
    after, blocks = kept(before)
    assert forms(blocks) == ["custom-op"]
    assert sorted(operators(after)) == ["Add", "Add", "Conv", "SSPCAB"]
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize("value", ["s_0", "r_0"])
@pytest.mark.parametrize("given_out", [True, False])
def test_a_block_with_an_open_inside_stays_folded(
    value: str, given_out: bool, run_onnxruntime: RunGraph
) -> None:
    """The second block is of the same geometry, and kept."""
    tail, output = ("", value) if given_out else (f"out = Neg ({value})", "out")
    before = network(Kind(2, 1), Kind(2, 1), tail=tail, outputs=f"{SIZE} {output}")
    after, blocks = kept(before)
    assert forms(blocks) == ["folded", "custom-op"]
    assert operators(after)[:3] == ["Conv", "Conv", "Add"]
    assert operators(after).count("SSPCAB") == 1
    assert still_folded(blocks) == [
        "block at block0 stays folded: the network reads a value inside it, so it is not one node"
    ]
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize("value", ["mean_0", "active_0", "gate_0"])
def test_attention_that_is_read_elsewhere_is_not_the_blocks(value: str, run_onnxruntime: RunGraph) -> None:
    before = network(Kind(), tail=f"z = Neg ({value})", outputs="float[N,C,1,1] z")
    after, blocks = kept(before)
    assert [(block.form, block.reduction) for block in blocks] == [("custom-op", 0)]
    assert operators(after)[0] == "SSPCAB"
    assert len(after.graph[0].inputs) == 3
    assert after.graph[0].attributes["reduction"].as_int() == 0
    check_equal(before, after, images(), run_onnxruntime)


def test_the_tensorflow_dialect_is_left_as_it_is() -> None:
    branches = {
        f"c{number}": f"a{number} = Conv ({window}, w{number}, b{number})\n c{number} = Relu (a{number})"
        for number, window in ((1, "tl"), (2, "bl"), (3, "tr"), (4, "br"))
    }
    text = edited(BLOCK, p='p = Pad <mode = "reflect"> (x, pads)', **branches, s="r = Add (s2, c4)", r="")
    before, blocks = optimise(graph(text, block_arrays()))
    after, now = keep_blocks(before, blocks)
    assert forms(now) == ["reference"]
    assert serialised(after) == serialised(before)
    assert still_folded(now) == []


def test_only_blocks_that_were_recognised_are_kept() -> None:
    before, _ = optimise(network(Kind()))
    after, now = keep_blocks(before, ())
    assert now == ()
    assert serialised(after) == serialised(before)


def test_paths_of_the_checkpoint_name_the_nodes() -> None:
    folded, blocks = optimise(network(Kind(2, 0), Kind(2, 0)))
    spec = {"kernel": 2, "dilation": 0, "reduction": 2, "channels": 4, "dialect": "official"}
    named = [BlockSpec(path=path, form="folded", **spec) for path in ("net.a", "net.b")]  # type: ignore[arg-type]
    after, now = keep_blocks(folded, named)
    assert [block.path for block in now] == ["net.a", "net.b"]
    assert [node.name for node in after.graph] == ["net.a", "net.b"]
    assert {"net.a.masked.weight", "net.b.masked.weight"} <= set(after.graph.initializers)
    assert not [name for name in after.graph.initializers if name.startswith("block0.masked.weight")]
    assert forms(tuple(blocks)) == ["folded"] * 2


def test_names_that_clash(tmp_path: Path, run_onnxruntime: RunGraph, run_openvino: RunGraph) -> None:
    """The host has the names of the body's values and nodes, of the block and of its weights."""
    mine = ["X", "W", "B", "W1", "B1", "Y", "masked_0_0", "sum_0_1", "relu", "product", "block0", "SSPCAB"]
    mine += ["block0.masked.weight", "block0.masked.bias", "weight_0_0", "axes", "gate"]
    before = network(Kind(2, 0))
    value = before.graph.inputs[0]
    chain = []
    for name in mine:
        node = ir.node("Neg", [value], name=name)
        node.outputs[0].name = name
        chain.append(node)
        value = node.outputs[0]
    first = before.graph[0]
    ir.convenience.replace_all_uses_with(before.graph.inputs[0], value)
    chain[0].replace_input_with(0, before.graph.inputs[0])
    before.graph.insert_before(first, chain)
    after, blocks = kept(before)
    assert forms(blocks) == ["custom-op"]
    save_graph(after, tmp_path / "kept.onnx")
    loaded = load_graph(tmp_path / "kept.onnx")
    check_equal(before, loaded, images(), run_onnxruntime)
    check_equal(before, inlined(loaded), images(), run_openvino)


def test_a_missing_bias_is_zero(run_onnxruntime: RunGraph) -> None:
    branches = {f"c{n}": f"c{n} = Conv ({w}, w{n})" for n, w in enumerate(("tl", "bl", "tr", "br"), start=1)}
    text = edited(BLOCK, **branches, hidden="hidden = Conv (mean, v1)", logit="logit = Conv (active, v2)")
    before = graph(text, block_arrays(2, 1))
    after, blocks = kept(before)
    assert forms(blocks) == ["custom-op"]
    biases = [value for value in after.graph[0].inputs[2::2] if value is not None and value.const_value]
    assert [value.const_value.numpy().tolist() for value in biases if value.const_value] == [
        [0.0] * 4,
        [0.0] * 2,
        [0.0] * 4,
    ]
    check_equal(before, after, images(), run_onnxruntime)


def test_half_precision_stays_half(run_onnxruntime: RunGraph) -> None:
    arrays = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in block_arrays(2, 1).items()
    }
    text = edited(
        BLOCK,
        c1="c1 = Conv (tl, w1)",
        c2="c2 = Conv (bl, w2)",
        c3="c3 = Conv (tr, w3)",
        c4="c4 = Conv (br, w4)",
    )
    before = graph(text, arrays, inputs="float16[N,4,9,11] x", outputs="float16[N,4,9,11] y")
    after, blocks = kept(before)
    assert forms(blocks) == ["custom-op"]
    assert {value.dtype for value in after.graph.initializers.values()} == {ir.DataType.FLOAT16}
    feeds = {"x": images()["x"].astype(np.float16)}
    (wanted,), (got,) = (run_onnxruntime(serialised(model), feeds) for model in (before, after))
    assert np.abs(wanted.astype(np.float64) - got).max() <= 4e-3 * np.abs(wanted).max()


LOOKALIKE = "c = Conv <dilations = [4, 4], pads = [2, 2, 2, 2]> (x, w)\n y = Relu (c)"
OTHERS = {
    "uneven": (LOOKALIKE.replace("2, 2, 2, 2", "3, 2, 1, 2"), (4, 4, 2, 2)),
    "odd": (LOOKALIKE.replace("4, 4", "3, 3").replace("2, 2, 2, 2", "2, 2, 1, 1"), (4, 4, 2, 2)),
    "two dilations": (LOOKALIKE.replace("4, 4", "4, 2").replace("2, 2, 2, 2", "2, 1, 2, 1"), (4, 4, 2, 2)),
    "dilated beyond": (LOOKALIKE.replace("4, 4", "5, 5"), (4, 4, 2, 2)),
    "strides": (LOOKALIKE.replace("<", "<strides = [2, 2], "), (4, 4, 2, 2)),
    "groups": (LOOKALIKE.replace("<", "<group = 2, "), (4, 4, 2, 2)),
    "fewer inputs": (LOOKALIKE, (4, 2, 2, 2)),
    "three by three": (LOOKALIKE.replace("2, 2, 2, 2", "4, 4, 4, 4"), (4, 4, 3, 3)),
    "not dilated": (LOOKALIKE.replace("4, 4", "1, 1").replace("2, 2, 2, 2", "0, 0, 1, 1"), (4, 4, 2, 2)),
}


@pytest.mark.parametrize(("text", "shape"), OTHERS.values(), ids=OTHERS)
def test_convolutions_of_another_kind_are_no_block(text: str, shape: tuple[int, ...]) -> None:
    model = graph(text, {"w": np.ones(shape, np.float32)})
    assert folded_blocks(model.graph) == []


def test_the_convolution_that_others_differ_from_is_one() -> None:
    model = graph(LOOKALIKE, {"w": np.ones((4, 4, 2, 2), np.float32)})
    (found,) = folded_blocks(model.graph)
    assert (found.geometry.kernel, found.geometry.dilation, found.relu) == (1, 1, True)


def test_weights_that_an_input_can_change_are_no_block() -> None:
    model = graph(LOOKALIKE, {}, inputs=f"{SIZE} x, float[4,4,2,2] w")
    assert folded_blocks(model.graph) == []
    text, weight = LOOKALIKE.replace("(x, w)", "(x, w, b)"), np.ones((4, 4, 2, 2), np.float32)
    assert folded_blocks(graph(text, {"w": weight}, inputs=f"{SIZE} x, float[4] b").graph) == []
    assert len(folded_blocks(graph(text, {"w": weight, "b": np.ones(4, np.float32)}).graph)) == 1


def test_a_graph_without_standard_operators_is_refused() -> None:
    model, blocks = optimise(network(Kind()))
    del model.opset_imports[""]
    with pytest.raises(GraphError, match="names no version of the standard ONNX operators"):
        keep_blocks(model, blocks)
