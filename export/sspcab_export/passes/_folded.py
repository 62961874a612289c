"""Recognition of folded blocks: the convolutions that ``fold_sspcab`` makes, and the rest of their block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from sspcab_edge.block import Geometry
from sspcab_export.passes._reading import (
    constant,
    int_attribute,
    ints_attribute,
    produced_by,
    string_attribute,
    unshared,
)
from sspcab_export.passes._sums import sum_of

__all__ = ["FoldedBlock", "folded_blocks"]

_GATE = ("Sigmoid", "Conv", "Relu", "Conv", "GlobalAveragePool")
"""Squeeze-and-excitation in the form its pass leaves, from the product back to the mean."""


@dataclass(frozen=True, slots=True)
class FoldedBlock:
    """One block as its nodes compute it.

    Attributes:
        geometry: Sub-kernel and dilation.
        output: The block's output, (N, C, H, W).
        taps: Row by row of the sub-kernel, the constant weight (C, C, 2, 2) of the convolution of each tap.
        bias: The constant bias (C,) of the sum; None where there is none.
        relu: Whether the sum goes through a ReLU.
        gate: Constant weight (C // r, C, 1, 1) and bias, then weight (C, C // r, 1, 1) and bias, of
            squeeze-and-excitation, a bias None where there is none; None for a block without.
        nodes: Everything between input and output, a convolution of the input first.
    """

    geometry: Geometry
    output: ir.Value
    taps: tuple[ir.Value, ...]
    bias: ir.Value | None
    relu: bool
    gate: tuple[ir.Value | None, ...] | None
    nodes: tuple[ir.Node, ...]

    @property
    def source(self) -> ir.Value | None:
        """The block's input, (N, C, H, W), as the graph has it now."""
        return self.nodes[0].inputs[0]

    @property
    def channels(self) -> int:
        """C."""
        array = constant(self.taps[0])
        return 0 if array is None else int(array.shape[0])

    @property
    def is_closed(self) -> bool:
        """True when nothing outside the block reads a value inside it, and none is a graph output."""
        inner = [value for node in self.nodes for value in node.outputs if value is not self.output]
        return not any(
            value.is_graph_output() or any(use.node not in self.nodes for use in value.uses())
            for value in inner
        )


@dataclass(frozen=True, slots=True)
class _Tap:
    """A 2x2 convolution whose weights lie on the corners of a block's field, padded so much on each side."""

    node: ir.Node
    border: int
    pads: tuple[int, ...]


def folded_blocks(graph: ir.Graph) -> list[FoldedBlock]:
    """The folded blocks of a graph, in its order.

    A convolution of a larger block can look like a smaller block by itself: the largest sum counts.
    """
    found: list[FoldedBlock] = []
    taken: set[ir.Node] = set()
    for node in reversed(list(graph)):
        if node not in taken and len(node.outputs) == 1:
            block = _block_of(node.outputs[0])
            if block is not None:
                found.append(block)
                taken.update(block.nodes)
    return found[::-1]


def _block_of(total: ir.Value) -> FoldedBlock | None:
    """The block whose masked convolution gives ``total``."""
    terms = _terms(total)
    taps = [tap for tap in map(_tap, terms) if tap is not None]
    if not taps or len(taps) != len(terms):
        return None
    sources = {tap.node.inputs[0] for tap in taps}
    biases = [tap.node.inputs[2] for tap in taps if len(tap.node.inputs) > 2 and tap.node.inputs[2]]
    geometry = _geometry(taps)
    if geometry is None or len(sources) != 1 or len(biases) > 1:
        return None
    ordered = sorted(taps, key=lambda tap: tap.pads, reverse=True)
    weights = tuple(tap.node.inputs[1] for tap in ordered)
    nodes = [*(tap.node for tap in taps), *_additions(total, terms)]
    output, gate = total, _gate_on(total)
    relus = [use.node for use in total.uses() if (use.node.domain, use.node.op_type) == ("", "Relu")]
    relu = gate is None and bool(relus)
    if relu:
        nodes.append(relus[0])
        output = relus[0].outputs[0]
        gate = _gate_on(output)
    if gate is not None:
        nodes.extend(gate)
        output = gate[0].outputs[0]
    return FoldedBlock(
        geometry=geometry,
        output=output,
        taps=tuple(weight for weight in weights if weight is not None),
        bias=biases[0] if biases else None,
        relu=relu,
        gate=None if gate is None else (*_parameters(gate[4]), *_parameters(gate[2])),
        nodes=tuple(nodes),
    )


def _terms(total: ir.Value) -> tuple[ir.Value, ...]:
    """The convolutions that are added up to ``total``, which for k = 1 is one; none where zeros take part."""
    added = sum_of(total)
    if added is None:
        return (total,)
    return () if added.zeros else added.terms


def _tap(value: ir.Value) -> _Tap | None:
    node = produced_by(value, "Conv")
    weight = constant(node.inputs[1]) if node is not None else None
    if node is None or weight is None or weight.shape[2:] != (2, 2) or weight.shape[0] != weight.shape[1]:
        return None
    dilations = set(ints_attribute(node, "dilations", (1, 1)))
    plain = (
        int_attribute(node, "group", 1) == 1
        and set(ints_attribute(node, "strides", (1, 1))) == {1}
        and string_attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and _has_constants(node)
    )
    if not plain or len(dilations) != 1:
        return None
    return _Tap(node, dilations.pop(), ints_attribute(node, "pads", (0,) * 4))


def _has_constants(node: ir.Node) -> bool:
    """True when nothing but its first input comes from the network."""
    return all(constant(part) is not None for part in node.inputs[1:] if part is not None)


def _geometry(taps: list[_Tap]) -> Geometry | None:
    """The sub-kernel and dilation for which these are all taps, each once; the inverse of ``fold_sspcab``."""
    kernel = math.isqrt(len(taps))
    borders = {tap.border for tap in taps}
    dilation, odd = divmod(min(borders) - kernel - 1, 2)
    if kernel * kernel != len(taps) or len(borders) != 1 or odd or dilation < 0:
        return None
    wanted = [
        (kernel + dilation - i, kernel + dilation - j, dilation + 1 + i, dilation + 1 + j)
        for i in range(kernel)
        for j in range(kernel)
    ]
    return Geometry(kernel, dilation) if sorted(tap.pads for tap in taps) == sorted(wanted) else None


def _additions(total: ir.Value, terms: tuple[ir.Value, ...]) -> list[ir.Node]:
    """The nodes that add the terms up."""
    ends = set(terms)
    nodes: list[ir.Node] = []
    pending = [total]
    while pending:
        value = pending.pop()
        node = value.producer()
        if node is not None and value not in ends:
            nodes.append(node)
            pending.extend(part for part in node.inputs if part is not None)
    return nodes


def _gate_on(value: ir.Value) -> list[ir.Node] | None:
    """Squeeze-and-excitation on ``value``: the product, then the nodes of ``_GATE``."""
    for use in value.uses():
        if (use.node.domain, use.node.op_type) != ("", "Mul"):
            continue
        for factor in use.node.inputs:
            chain = _chain(factor)
            if chain is not None and chain[-1].inputs[0] is value and _scales(chain):
                return [use.node, *chain]
    return None


def _chain(value: ir.Value | None) -> list[ir.Node] | None:
    """The nodes of ``_GATE`` that ``value`` comes from, where nothing else reads what is between them."""
    nodes: list[ir.Node] = []
    for operator in _GATE:
        node = produced_by(value, operator)
        if node is None or not unshared(node.outputs[0]):
            return None
        nodes.append(node)
        value = node.inputs[0]
    return nodes


def _scales(chain: list[ir.Node]) -> bool:
    """True when both convolutions of the chain are plain 1x1 layers with constants, made for each other."""
    layers = [chain[3], chain[1]]
    weights = [constant(layer.inputs[1]) for layer in layers]
    shapes = [weight.shape for weight in weights if weight is not None]
    return (
        len(shapes) == len(layers)
        and all(shape[2:] == (1, 1) for shape in shapes)
        and shapes[0][:2] == tuple(reversed(shapes[1][:2]))
        and all(_has_constants(layer) for layer in layers)
        and all(int_attribute(layer, "group", 1) == 1 for layer in layers)
        and all(set(ints_attribute(layer, "pads", (0,) * 4)) == {0} for layer in layers)
    )


def _parameters(layer: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    return layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
