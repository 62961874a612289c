"""Functions inlined, constants folded, dead code removed; and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from definitions.graph_text import BLOCK, block_arrays, check_equal, edited, graph, images, serialised
from definitions.running import RunGraph
from sspcab_edge.errors import GraphError, OptionError
from sspcab_export.passes import PASSES, optimise
from sspcab_export.passes._reading import constant

FUNCTIONS = """
<ir_version: 8, opset_import: ["": 17, "own": 1]>
g (float[N,4,9,11] x) => (float[N,4,9,11] y) {
    c = own.layer (x, w)
    y = own.layer (c, w)
}
<domain: "own", opset_import: ["": 17, "own": 1]>
layer (a, k) => (b) { c = Conv (a, k)  b = own.active (c) }
<domain: "own", opset_import: ["": 17]>
active (a) => (b) { b = Relu (a) }
"""


def test_functions_are_inlined(run_onnxruntime: RunGraph) -> None:
    proto = onnx.parser.parse_model(FUNCTIONS)
    weight = np.random.default_rng(0).standard_normal((4, 4, 1, 1), dtype=np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    before = ir.serde.deserialize_model(proto)
    after, _ = optimise(before)
    assert [node.op_type for node in after.graph] == ["Conv", "Relu", "Conv", "Relu"]
    assert not after.functions
    assert set(after.opset_imports) == {""}
    check_equal(before, after, images(), run_onnxruntime)


def test_raw_pixels_go_into_a_cast_and_nowhere_else(run_onnxruntime: RunGraph) -> None:
    body = """
        all = Shape (frames)
        count = Gather (all, first)
        pixels = Cast <to = 1> (frames)
        shape = Concat <axis = 0> (count, rest)
        y = Reshape (pixels, shape)
    """
    arrays = {"first": np.array([0]), "rest": np.array([-1])}
    before = graph(body, arrays, inputs="uint8[N,3,2,3] frames", outputs="float[N,K] y")
    after, _ = optimise(before)
    assert [use.node.op_type for use in after.graph.inputs[0].uses()] == ["Cast"]
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 2, 3), dtype=np.uint8)
    check_equal(before, after, {"frames": frames}, run_onnxruntime)


def test_initialisers_that_are_also_inputs_become_constants(run_onnxruntime: RunGraph) -> None:
    """Exporters before ONNX IR 4 listed every weight as an input; nobody feeds them."""
    before = graph(BLOCK, block_arrays())
    before.graph.inputs.extend(before.graph.initializers.values())
    after, blocks = optimise(before)
    assert [value.name for value in after.graph.inputs] == ["x"]
    assert [block.form for block in blocks] == ["folded"]
    check_equal(before, after, images(), run_onnxruntime)


def test_constants_are_folded_and_no_operations_dropped(run_onnxruntime: RunGraph) -> None:
    before = graph(
        "a = Mul (two, three)\n b = Unsqueeze (a, axes)\n i = Identity (x)\n t = Cast <to = 1> (i)\n"
        "s = Slice (t, axes, big, one, one)\n d = Dropout (s)\n u = Mul (d, b)\n unused = Neg (u)\n"
        "v = Mul (d, b)\n y = Add (u, v)",
        {
            "two": np.array(2, np.float32),
            "three": np.array(3, np.float32),
            "axes": np.array([0]),
            "one": np.array([1]),
            "big": np.array([2**63 - 1]),
        },
    )
    after, _ = optimise(before)
    assert [node.op_type for node in after.graph] == ["Mul", "Add"]
    assert [constant(value) for value in after.graph.initializers.values()] == [6.0]
    check_equal(before, after, images(), run_onnxruntime)


def test_shapes_are_inferred_anew(run_onnxruntime: RunGraph) -> None:
    before = graph(BLOCK, block_arrays(), outputs="float[batch,4,rows,columns] y")
    before.graph.node(0).outputs[0].shape = ir.Shape(["a", "b", "c", "d"])
    after, _ = optimise(before)
    assert str(after.graph.outputs[0].shape) == "[N,4,9,11]"
    assert all("N" in str(node.outputs[0].shape) for node in after.graph)


def test_an_output_that_is_an_input_is_kept(run_onnxruntime: RunGraph) -> None:
    before = graph("y = Identity (x)", {})
    after, _ = optimise(before)
    check_equal(before, after, images(), run_onnxruntime)


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_is_harmless_alone_and_may_be_left_out(name: str, run_onnxruntime: RunGraph) -> None:
    text = edited(
        BLOCK, y="q = Mul (r, gate)\n y = AveragePool <kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (q)"
    )
    before = graph(text, block_arrays())
    alone, _ = optimise(before, skip=set(PASSES) - {name})
    check_equal(before, alone, images(), run_onnxruntime)
    without, blocks = optimise(before, skip=[name])
    assert bool(blocks) == (name != "fold_sspcab")
    check_equal(before, without, images(), run_onnxruntime)


def test_optimising_twice_changes_nothing_more() -> None:
    once, _ = optimise(graph(BLOCK, block_arrays()))
    twice, blocks = optimise(once)
    assert [node.op_type for node in twice.graph] == [node.op_type for node in once.graph]
    assert blocks == ()


def test_an_unknown_pass_is_refused() -> None:
    with pytest.raises(OptionError, match="unknown pass 'fold': expected one of inline_functions"):
        optimise(graph(BLOCK, block_arrays()), skip=["fold"])


def test_a_pass_that_fails_is_one_error() -> None:
    arrays = {
        "w": np.ones((4, 4, 1, 1), np.float32),
        "four": np.ones(4, np.float32),
        "three": np.ones(3, np.float32),
    }
    model = graph("c = Conv (x, w)\n y = BatchNormalization (c, four, four, four, three)", arrays)
    with pytest.raises(GraphError, match=r"pass fold_batch_norm failed on this graph: [^\n]+$"):
        optimise(model)


def test_the_same_graph_gives_the_same_bytes() -> None:
    one, other = (serialised(optimise(graph(BLOCK, block_arrays()))[0]) for _ in range(2))
    assert one == other
