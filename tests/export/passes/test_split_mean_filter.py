"""A mean filter split in two gives the same means."""

from __future__ import annotations

import pytest

from definitions.graph_text import check_equal, graph, images
from definitions.running import RunGraph
from sspcab_export.passes import optimise

COUNTED = "count_include_pad = 1, strides = [1, 1]"


@pytest.mark.parametrize(
    "attributes",
    [
        f"kernel_shape = [21, 21], pads = [10, 10, 10, 10], {COUNTED}",
        f"kernel_shape = [5, 7], pads = [0, 3, 2, 1], {COUNTED}",
        "kernel_shape = [5, 5]",
    ],
)
def test_split_in_rows_and_columns(attributes: str, run_graph: RunGraph) -> None:
    before = graph(f"y = AveragePool <{attributes}> (x)", {}, outputs="float[N,4,P,Q] y")
    after, _ = optimise(before)
    assert [node.attributes["kernel_shape"].as_ints()[i] for i, node in enumerate(after.graph)] == [
        before.graph.node(0).attributes["kernel_shape"].as_ints()[i] for i in range(2)
    ]
    check_equal(before, after, images(2, 4, 9, 11), run_graph)


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape = [21, 21], pads = [10, 10, 10, 10]",
        f"kernel_shape = [3, 3], pads = [1, 1, 1, 1], {COUNTED}",
        "kernel_shape = [5, 5], strides = [2, 2]",
        'kernel_shape = [5, 5], auto_pad = "SAME_UPPER"',
    ],
)
def test_other_pools_stay(attributes: str, run_onnxruntime: RunGraph) -> None:
    before = graph(f"y = AveragePool <{attributes}> (x)", {}, outputs="float[N,4,P,Q] y")
    after, _ = optimise(before)
    assert after.graph.num_nodes() == 1
    check_equal(before, after, images(), run_onnxruntime)
