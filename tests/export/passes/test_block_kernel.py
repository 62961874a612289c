"""Inputs and attributes of the operator suffice for a kernel of one's own: here NumPy's, from the definition.

The bodies are taken out of the file; onnx's reference evaluator calls the kernel.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from definitions.block_nets import Kind, corners, network, open_gate
from definitions.graph_text import images, serialised
from definitions.running import Array, RunGraph
from definitions.sspcab_numpy import CORNERS, sspcab
from sspcab_export.custom_op import ATTRIBUTES, DOMAIN, GATE_INPUTS, INPUTS, OPERATOR, VERSION
from sspcab_export.passes import optimise
from sspcab_export.passes.block_bodies import without_bodies
from sspcab_export.passes.keep_blocks import keep_blocks

CALLS: list[dict[str, object]] = []


class SSPCAB(OpRun):
    """A kernel by somebody who has read ``docs/custom-op.md`` only."""

    op_domain = "sspcab.edge"

    def _run(
        self, x: Array, weight: Array, bias: Array, *gate: Array,
        kernel: int, dilation: int, reduction: int, dialect: str,
    ) -> tuple[Array]:  # fmt: skip
        CALLS.append({"kernel": kernel, "dilation": dilation, "reduction": reduction, "dialect": dialect})
        channels = x.shape[1]
        assert weight.shape == (channels, channels, 2 * kernel, 2 * kernel)
        assert len(gate) == (4 if reduction else 0)
        by_corner = corners(weight)
        zeros = np.zeros_like(bias)
        result = sspcab(
            x,
            [by_corner[corner] for corner in CORNERS[dialect]],
            [bias, zeros, zeros, zeros],
            [array.reshape(array.shape[:2]) for array in gate] if gate else open_gate(channels),
            dialect=dialect,
            dilation=dilation,
        )
        return (result.astype(x.dtype),)


def run_with_kernel(proto: onnx.ModelProto, inputs: dict[str, Array]) -> Array:
    CALLS.clear()
    (result,) = ReferenceEvaluator(proto, new_ops=[SSPCAB]).run(None, inputs)
    return np.asarray(result)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("dialect", ["official", "anomalib"])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_a_kernel_computes_the_same(
    kernel: int, dilation: int, dialect: str, gated: bool, run_onnxruntime: RunGraph
) -> None:
    before = network(Kind(kernel, dilation, dialect, gated))
    model, _ = keep_blocks(*optimise(before))
    proto = onnx.load_from_string(serialised(model))
    del proto.functions[:]
    onnx.checker.check_model(proto, full_check=True)
    feeds = images()
    got = run_with_kernel(proto, feeds)
    assert [tuple(call) for call in CALLS] == [ATTRIBUTES]
    (wanted,) = run_onnxruntime(serialised(before), feeds)
    assert np.abs(wanted - got).max() <= 1e-6 * np.abs(wanted).max()


def test_one_kernel_serves_blocks_of_all_kinds(run_onnxruntime: RunGraph) -> None:
    before = network(Kind(1, 1), Kind(3, 0, "anomalib", False), Kind(2, 2))
    model, _ = keep_blocks(*optimise(before))
    stripped = without_bodies(model)
    assert [(node.domain, node.op_type) for node in stripped.graph] == [(DOMAIN, OPERATOR)] * 3
    assert not stripped.functions
    feeds = images()
    got = run_with_kernel(onnx.load_from_string(serialised(stripped)), feeds)
    assert [call["kernel"] for call in CALLS] == [1, 3, 2]
    (wanted,) = run_onnxruntime(serialised(before), feeds)
    assert np.abs(wanted - got).max() <= 2e-6 * np.abs(wanted).max()


def test_the_names_are_those_of_the_documentation() -> None:
    """A kernel somewhere relies on them: they change with the version only."""
    assert (DOMAIN, OPERATOR, VERSION) == ("sspcab.edge", "SSPCAB", 1)
    model, _ = keep_blocks(*optimise(network(Kind())))
    (function,) = model.functions.values()
    assert tuple(value.name for value in function.inputs) == (*INPUTS, *GATE_INPUTS)
    assert (*INPUTS, *GATE_INPUTS) == ("X", "W", "B", "W1", "B1", "W2", "B2")
    assert [value.name for value in function.outputs] == ["Y"]
    assert tuple(function.attributes) == ATTRIBUTES == ("kernel", "dilation", "reduction", "dialect")
