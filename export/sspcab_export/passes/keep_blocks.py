"""Keep every folded block as one node, ``sspcab.edge::SSPCAB``, for engines that bring their own kernel.

The node is a call of a local function that computes the block from the node's inputs, so that engines without
a kernel run the file all the same. A second block of another sub-kernel, dilation, dialect or attention needs
another body. ONNX tells bodies of one name apart by ``overload``, but ONNX Runtime 1.18 and onnx's reference
evaluator take one body for all of them and compute something else without a word; so the second kind of block
is called ``SSPCAB_2``, and so on. Inputs and attributes are the same under every name.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import GraphError
from sspcab_export.block_keys import reduction_from
from sspcab_export.custom_op import DOMAIN, OPERATOR, VERSION
from sspcab_export.passes._block_body import BodyKind, block_function
from sspcab_export.passes._folded import FoldedBlock, folded_blocks
from sspcab_export.passes._naming import drop_unused, new_initializer
from sspcab_export.passes._reading import constant

__all__ = ["keep_blocks", "still_folded"]

_IR_WITH_FUNCTIONS = 8
"""First ONNX IR version whose models hold functions."""


def keep_blocks(model: ir.Model, blocks: Sequence[BlockSpec]) -> tuple[ir.Model, tuple[BlockSpec, ...]]:
    """Make one node of every block that ``optimise`` has folded.

    A block stays as it is where a value inside it is a graph output or read by the rest of the network.
    Blocks in the ``reference`` form stay too.

    Args:
        model: The graph as :func:`~sspcab_export.passes.optimise` gives it. It is not changed; its weights
            are shared with the result.
        blocks: The blocks that it said are there, in its order; their paths may have been changed.

    Returns:
        The new graph, and the blocks in the same order, each with the form it now has.

    Raises:
        GraphError: The graph does not say which version of the standard operators it uses.
    """
    if "" not in model.opset_imports:
        raise GraphError("the graph names no version of the standard ONNX operators: export it anew")
    model = model.clone()
    kept = list(blocks)
    waiting = [number for number, block in enumerate(blocks) if block.form == "folded"]
    names: dict[BodyKind, str] = {}
    for found in folded_blocks(model.graph):
        number = next((number for number in waiting if _is_this(found, blocks[number])), None)
        if number is None:
            continue
        waiting.remove(number)
        if not found.is_closed:
            continue
        kind = BodyKind(found.geometry, found.relu, found.gate is not None)
        if kind not in names:
            names[kind] = _add_body(model, kind)
        _replace(model.graph, found, names[kind], blocks[number].path)
        kept[number] = msgspec.structs.replace(blocks[number], form="custom-op")
    return model, tuple(kept)


def still_folded(blocks: Sequence[BlockSpec]) -> list[str]:
    """A note for every block that :func:`keep_blocks` left folded."""
    return [
        f"block at {block.path} stays folded: the network reads a value inside it, so it is not one node"
        for block in blocks
        if block.form == "folded"
    ]


def _is_this(found: FoldedBlock, block: BlockSpec) -> bool:
    return (found.geometry, found.channels) == (block.geometry, block.channels)


def _add_body(model: ir.Model, kind: BodyKind) -> str:
    """Add the body under the first name that is free; gives the name."""
    candidates = itertools.chain([OPERATOR], (f"{OPERATOR}_{number}" for number in itertools.count(2)))
    name = next(name for name in candidates if (DOMAIN, name, "") not in model.functions)
    function = block_function(name, kind, model.opset_imports[""])
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = VERSION
    model.ir_version = max(model.ir_version, _IR_WITH_FUNCTIONS)
    return name


def _replace(graph: ir.Graph, found: FoldedBlock, name: str, path: str) -> None:
    """Put one node in place of the block's nodes."""
    gate = found.gate or ()
    weights = [found.taps[0] if len(found.taps) == 1 else _side_by_side(graph, found, path)]
    weights.append(_bias(graph, found.bias, found.taps[0], f"{path}.masked.bias"))
    for number, (weight, bias) in enumerate(zip(gate[::2], gate[1::2], strict=True), start=1):
        if weight is not None:
            weights += [weight, _bias(graph, bias, weight, f"{path}.gate.bias{number}")]
    hidden = constant(gate[0]) if gate else None
    node = ir.node(
        name,
        [found.source, *weights],
        {
            "kernel": found.geometry.kernel,
            "dilation": found.geometry.dilation,
            "reduction": 0 if hidden is None else reduction_from(found.channels, hidden.shape[0]),
            "dialect": "official" if found.relu else "anomalib",
        },
        domain=DOMAIN,
        version=VERSION,
        name=path,
    )
    node.outputs[0].type, node.outputs[0].shape = found.output.type, found.output.shape
    last = found.output.producer()
    if last is None:
        return
    ir.convenience.replace_nodes_and_values(graph, last, found.nodes, [node], [found.output], node.outputs)
    drop_unused(graph, found.taps)


def _side_by_side(graph: ir.Graph, found: FoldedBlock, path: str) -> ir.Value:
    """The weights of all taps as one tensor (C, C, 2k, 2k), each corner's k x k in one piece."""
    k = found.geometry.kernel
    taps = [_array(tap) for tap in found.taps]
    weight = np.empty((*taps[0].shape[:2], 2 * k, 2 * k), taps[0].dtype)
    for number, tap in enumerate(taps):
        i, j = divmod(number, k)
        weight[:, :, i::k, j::k] = tap
    return new_initializer(graph, f"{path}.masked.weight", weight)


def _bias(graph: ir.Graph, bias: ir.Value | None, weight: ir.Value, name: str) -> ir.Value:
    """The bias, or zeros where there is none: no input of the operator is optional by itself."""
    if bias is not None:
        return bias
    array = _array(weight)
    return new_initializer(graph, name, np.zeros(array.shape[0], array.dtype))


def _array(value: ir.Value) -> npt.NDArray[np.generic]:
    array = constant(value)
    if array is None:
        raise GraphError(f"{value.name} is no constant of the graph, expected the weight of a block")
    return array
