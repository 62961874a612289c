"""Layers of a graph as precision sees them: what has weights, what comes before and what is the score head.

A *layer* is a node with constant weights, and goes by the name of its weights: that is what a user knows from
the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["ACTIVATIONS", "SCORE_HEAD", "Layer", "find_layers", "is_quantised", "score_head", "weights_of"]

ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSwish", "Elu"})
"""Pointwise functions that engines compute together with the layer before them."""

SCORE_HEAD = "score_head."
"""How the names of weights begin that turn features into a score and are no layers of the network."""

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with constant weights.

    Attributes:
        name: Of its weights, without the ending ``.weight``.
        node: The node.
        on_one_value: Whether it works on one value a channel, as the gate of squeeze-and-excitation does:
            no time is spent there, and everything is scaled by what comes out.
        output: What the layer gives: the output of the activation behind it, where nothing else reads what is
            between.
    """

    name: str
    node: ir.Node
    on_one_value: bool
    output: ir.Value

    @property
    def input(self) -> ir.Value:
        """The activation that goes in."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def weights(self) -> ir.Value:
        """The constant weights."""
        value = self.node.inputs[1]
        assert value is not None
        return value


def find_layers(model: ir.Model) -> tuple[Layer, ...]:
    """The layers of a graph in its order, names unique.

    Weights that a host keeps in its score head, as a density's, are none: they are called ``score_head.*``.
    """
    layers: list[Layer] = []
    seen: dict[str, int] = {}
    for node in model.graph:
        if node.domain != "" or node.op_type not in _WEIGHTED or weights_of(node) is None:
            continue
        if node.inputs[0] is None or node.inputs[0].const_value is not None:
            continue
        if (node.inputs[1].name or "").startswith(SCORE_HEAD):  # type: ignore[union-attr]
            continue
        name = (node.inputs[1].name or node.name or "layer").removesuffix(".weight")  # type: ignore[union-attr]
        seen[name] = seen.get(name, 0) + 1
        unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
        layers.append(Layer(unique, node, _on_one_value(node), _behind_activation(node)))
    return tuple(layers)


def weights_of(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """The constant float32 weights of a node, or None."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
        return None
    return np.asarray(value.const_value.numpy(), dtype=np.float32)


def is_quantised(model: ir.Model) -> bool:
    """Whether a graph holds quantisers already."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.all_nodes())


def score_head(model: ir.Model) -> frozenset[ir.Node]:
    """The nodes behind the last layers: nothing with weights comes after them.

    They turn logits into map and score. Rounding there goes straight into the score, and they cost next to
    nothing: they stay in float32. Activations that belong to a layer are not part of it.
    """
    layers = find_layers(model)
    before: set[ir.Node] = {layer.node for layer in layers}
    stack = [layer.node for layer in layers]
    while stack:
        for value in stack.pop().inputs:
            producer = None if value is None else value.producer()
            if producer is not None and producer not in before:
                before.add(producer)
                stack.append(producer)
    own = {layer.output.producer() for layer in layers}
    return frozenset(node for node in model.graph if node not in before and node not in own)


def _on_one_value(node: ir.Node) -> bool:
    value = node.inputs[0]
    shape = None if value is None else value.shape
    return (
        node.op_type == "Conv" and shape is not None and len(shape) == 4 and shape[2] == 1 and shape[3] == 1
    )


def _behind_activation(node: ir.Node) -> ir.Value:
    output = node.outputs[0]
    uses = output.uses()
    if len(uses) == 1 and not output.is_graph_output():
        follower: ir.Node = next(iter(uses)).node
        if follower.op_type in ACTIVATIONS and follower.inputs[0] is output:
            return follower.outputs[0]
    return output
