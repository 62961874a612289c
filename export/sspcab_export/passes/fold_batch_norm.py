"""Batch normalisation after a convolution becomes part of its weights."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import rewriter
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from sspcab_edge.errors import GraphError
from sspcab_export.passes._naming import new_initializer
from sspcab_export.passes._reading import constant, int_attribute
from sspcab_export.passes._report import Report

__all__ = ["fold_batch_norm"]

_RULES = (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)


def fold_batch_norm(model: ir.Model) -> Report:
    """Fold BatchNormalization into the Conv, ConvTranspose or Gemm before it, by onnxscript's own rules.

    Raises:
        GraphError: The graph was exported in training mode: its result depends on the rest of the batch.
    """
    norms = _count(model)
    if norms:
        _give_each_its_own(model.graph)
        ir.passes.Sequential(rewriter.RewritePass(_RULES))(model)
    return Report(norms - _count(model))


def _count(model: ir.Model) -> int:
    norms = [node for node in model.graph if node.op_type == "BatchNormalization" and node.domain == ""]
    for node in norms:
        if int_attribute(node, "training_mode", 0) or sum(bool(output.uses()) for output in node.outputs) > 1:
            raise GraphError(
                f"BatchNormalization {node.name!r} is in training mode, so scores would depend on the batch: "
                "export the network in evaluation mode"
            )
    return len(norms)


def _give_each_its_own(graph: ir.Graph) -> None:
    """Let no two layers share an initialiser: the rules leave such layers alone.

    Exporters merge initialisers of equal content, as the zero biases of a network often are. The data itself
    stays shared.
    """
    for node in graph:
        if node.domain != "" or node.op_type not in ("Conv", "ConvTranspose", "Gemm"):
            continue
        for index in (1, 2):
            value = node.inputs[index] if index < len(node.inputs) else None
            array = constant(value)
            if value is not None and array is not None and len(value.uses()) > 1:
                node.replace_input_with(index, new_initializer(graph, value.name or "weight", array))
