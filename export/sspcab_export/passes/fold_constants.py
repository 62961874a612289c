"""Constant folding with shape inference: what does not depend on the pictures is computed once, here."""

from __future__ import annotations

import math

import onnx_ir as ir
from onnx_ir.passes import common as ir_passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules.common import (
    collapse_slice2_rule,
    collapse_slice_rule,
    dropout_inference_rule,
    dropout_zero_rule,
    no_op_cast_rule,
    no_op_expand_rule,
    no_op_transpose_rule,
)

from sspcab_export.passes._reading import constant_input
from sspcab_export.passes._report import Report

__all__ = ["fold_constants"]

_ROUNDS = 3
"""Each round's shapes let the next one fold what computes with shapes; exporters' noise is gone after two."""


_NO_OPERATIONS = (
    collapse_slice_rule,
    collapse_slice2_rule,
    dropout_inference_rule,
    dropout_zero_rule,
    no_op_cast_rule,
    no_op_expand_rule,
    no_op_transpose_rule,
)

_SMALL = 64
"""Elements; larger constants of one value stay computed."""


class _Fold(ir.passes.InPlacePass):
    """onnxscript's folding as a pass, so that an error in a hostile graph arrives as a ``PassError``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        result = optimizer.fold_constants(model, onnx_shape_inference=True, should_fold=_should_fold)
        return ir.passes.PassResult(model, bool(result.modified))


def _should_fold(node: ir.Node) -> bool | None:
    """Fold small ConstantOfShape too, which onnxscript keeps: paddings are computed through it."""
    if node.op_type == "ConstantOfShape" and node.domain == "":
        shape = constant_input(node, 0)
        return shape is not None and math.prod(shape.tolist()) <= _SMALL
    return None


def fold_constants(model: ir.Model) -> Report:
    """Fold constants, drop what does nothing, compute equal expressions once; constants become initialisers.

    Weights are not touched: only small tensors are folded.
    """
    before = model.graph.num_nodes()
    ir.passes.Sequential(
        ir.passes.PassManager(
            [
                ir_passes.IdentityEliminationPass(),
                _Fold(),
                rewriter.RewritePass(_NO_OPERATIONS),
                ir_passes.RemoveUnusedNodesPass(),
            ],
            steps=_ROUNDS,
            early_stop=True,
        ),
        ir_passes.IdentityEliminationPass(),
        ir_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        ir_passes.DeduplicateInitializersPass(size_limit=16),
        ir_passes.CommonSubexpressionEliminationPass(),
        ir_passes.RemoveUnusedNodesPass(),
    )(model)
    return Report(changes=before - model.graph.num_nodes())
