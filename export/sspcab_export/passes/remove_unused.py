"""Dead code: what no output needs goes, and what stays gets its shapes anew."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as ir_passes

from sspcab_export.passes._report import Report

__all__ = ["remove_unused"]


def remove_unused(model: ir.Model) -> Report:
    """Remove unused nodes, initialisers and operator sets; infer all intermediate shapes afresh."""
    before = model.graph.num_nodes()
    ir.passes.Sequential(
        ir_passes.IdentityEliminationPass(),
        ir_passes.CommonSubexpressionEliminationPass(),
        ir_passes.RemoveUnusedNodesPass(),
        ir_passes.RemoveUnusedOpsetsPass(),
        ir_passes.OutputFixPass(),
        ir_passes.NameFixPass(),
    )(model)
    declared = [output.shape for output in model.graph.outputs]
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    ir_passes.ShapeInferencePass(check_type=False, strict_mode=False)(model)
    symbols = {size for value in model.graph.inputs for size in _symbols(value.shape)}
    for output, shape in zip(model.graph.outputs, declared, strict=True):
        output.shape = _merged(shape, output.shape, symbols)
    return Report(before - model.graph.num_nodes())


def _symbols(shape: ir.Shape | None) -> list[str]:
    return [size.value for size in shape or () if isinstance(size, ir.SymbolicDim) and size.value is not None]


def _merged(declared: ir.Shape | None, inferred: ir.Shape | None, symbols: set[str]) -> ir.Shape | None:
    """The declared output shape, its free sizes as inference knows them where it names an input's."""
    if declared is None or inferred is None or len(declared) != len(inferred):
        return declared
    return ir.Shape(
        have if isinstance(have, int) else new if isinstance(new, int) or new.value in symbols else have
        for have, new in zip(declared, inferred, strict=True)
    )
