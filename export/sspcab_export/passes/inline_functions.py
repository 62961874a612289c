"""Inline: one flat graph, whose only inputs are those that a user feeds."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as ir_passes

from sspcab_export.passes._report import Report

__all__ = ["inline_functions"]


def inline_functions(model: ir.Model) -> Report:
    """Put the bodies of model-local functions in place of their calls.

    OpenVINO does not load ONNX local functions. Initialisers that older exporters also list among the inputs
    stay constants only.
    """
    changes = len(model.functions)
    result = ir.passes.Sequential(
        ir_passes.InlinePass(),
        ir_passes.RemoveInitializersFromInputsPass(),
        ir_passes.LiftSubgraphInitializersToMainGraphPass(),
    )(model)
    return Report(changes=max(changes, int(result.modified)))
