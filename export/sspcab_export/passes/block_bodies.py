"""Graphs with blocks kept as one node each, for other engines: bodies put in place, or taken out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as ir_passes

from sspcab_export.custom_op import DOMAIN, OPERATOR
from sspcab_export.passes._naming import new_initializer
from sspcab_export.passes._reading import constant_input, produced_by
from sspcab_export.passes.inline_functions import inline_functions

__all__ = ["holds_blocks", "inlined", "without_bodies"]


def holds_blocks(model: ir.Model) -> bool:
    """True when a node of the graph is a block."""
    return any(node.domain == DOMAIN for node in model.graph)


def inlined(model: ir.Model) -> ir.Model:
    """The graph with every local function in place of its calls: blocks are folded again.

    OpenVINO does not load local functions. The weights of the taps are cut out here, so that the convolutions
    have constant weights as ``optimise`` left them.

    Args:
        model: With or without functions. It is not changed; its weights are shared with the result.
    """
    model = model.clone()
    inline_functions(model)
    for node in list(model.graph):
        array = _cut(node)
        if array is not None:
            weight = new_initializer(model.graph, node.name or "weight", array)
            ir.convenience.replace_all_uses_with(node.outputs[0], weight)
    ir.passes.Sequential(
        ir_passes.RemoveUnusedNodesPass(), ir_passes.RemoveUnusedOpsetsPass(), ir_passes.NameFixPass()
    )(model)
    return model


def _cut(node: ir.Node) -> npt.NDArray[np.generic] | None:
    """What a Slice forwards through rows and columns of a constant gives; None for any other node."""
    if not node.outputs or produced_by(node.outputs[0], "Slice") is None or node.outputs[0].is_graph_output():
        return None
    whole = constant_input(node, 0)
    pairs = [_pair(value) for value in node.inputs[1:]]
    known = [pair for pair in pairs if pair is not None]
    if whole is None or whole.ndim != 4 or len(pairs) != 4 or len(known) != 4:
        return None
    (top, left), (bottom, right), axes, (down, along) = known
    if axes != (2, 3) or min(down, along) < 1:
        return None
    return whole[:, :, top:bottom:down, left:right:along]


def _pair(value: ir.Value | None) -> tuple[int, int] | None:
    """The two integers of a Constant node. Asking the IR for its tensor would rename what models share."""
    node = produced_by(value, "Constant")
    attribute = node.attributes.get("value") if node is not None else None
    array = attribute.as_tensor().numpy() if attribute is not None else np.empty(0)
    return (int(array[0]), int(array[1])) if array.shape == (2,) and array.dtype.kind == "i" else None


def without_bodies(model: ir.Model) -> ir.Model:
    """The graph with its blocks as ``sspcab.edge::SSPCAB`` and nothing that says how to compute them.

    Only an engine with a kernel of that name runs it. Inputs and attributes tell all that a kernel needs, so
    that blocks of several kinds have one name here.

    Args:
        model: As ``keep_blocks`` gives it. It is not changed; its weights are shared with the result.
    """
    model = model.clone()
    for node in model.graph:
        if node.domain == DOMAIN:
            node.op_type = OPERATOR
    for identifier in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[identifier]
    return model
