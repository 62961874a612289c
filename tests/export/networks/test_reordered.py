"""A graph in another order of summation: exact sums stay, others differ by rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sspcab_export.networks.onnx_file import open_session
from sspcab_export.networks.reordered import reordered

RANDOM = np.random.default_rng(11)


def weights(name: str, *shape: int, whole: bool) -> Any:
    values = RANDOM.integers(-3, 4, shape) if whole else RANDOM.normal(0, 1, shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def network(op: str, *, whole: bool) -> ir.Model:
    """One operator that sums up, a ReLU, and the same operator again with the same weights."""
    image = op in ("Conv", "Grouped", "ConvTranspose")
    shape: list[int | str] = ["N", 8, 6, 6] if image else ["N", 8]
    attributes: dict[str, Any] = {}
    if op in ("Conv", "Grouped"):
        attributes = {"pads": [1, 1, 1, 1], "group": 2 if op == "Grouped" else 1}
        constants = [weights("w", 8, 4 if op == "Grouped" else 8, 3, 3, whole=whole)]
    elif op == "ConvTranspose":
        attributes, constants = {"pads": [1, 1, 1, 1]}, [weights("w", 8, 8, 3, 3, whole=whole)]
    else:
        constants = [weights("w", 8, 8, whole=whole)]
    if op == "Turned":
        attributes = {"transB": 1}
    kind = {"Grouped": "Conv", "Turned": "Gemm"}.get(op, op)
    if kind != "MatMul":
        constants.append(weights("b", 8, whole=whole))
    names = [constant.name for constant in constants]
    nodes = [
        helper.make_node(kind, ["x", *names], ["one"], **attributes),
        helper.make_node("Relu", ["one"], ["two"]),
        helper.make_node(kind, ["two", *names], ["y"], **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        constants,
    )
    return ir.serde.deserialize_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )


def both(model: ir.Model, *, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    shape = [3, 8, 6, 6] if len(model.graph.inputs[0].shape or ()) == 4 else [3, 8]
    x = (RANDOM.integers(-4, 5, shape) if whole else RANDOM.normal(0, 1, shape)).astype(np.float32)
    one, two = (open_session(graph).run(None, {"x": x})[0] for graph in (model, reordered(model)))
    return one, two


@pytest.mark.parametrize("op", ["Conv", "Grouped", "ConvTranspose", "MatMul", "Gemm", "Turned"])
def test_exact_sums_stay_as_they_are(op: str) -> None:
    one, two = both(network(op, whole=True), whole=True)
    assert np.array_equal(one, two)
    assert np.abs(one).max() > 10


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "MatMul", "Gemm", "Turned"])
def test_rounding_differs(op: str) -> None:
    one, two = both(network(op, whole=False), whole=False)
    assert 0 < np.abs(one - two).max() < 1e-5 * np.abs(one).max()


def test_the_graph_itself_is_left_alone() -> None:
    model = network("Conv", whole=False)
    before = ir.serde.serialize_model(model).SerializeToString()
    reordered(model)
    assert ir.serde.serialize_model(model).SerializeToString() == before
