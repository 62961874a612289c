"""Raw pixels go into a Cast and nowhere else."""

from __future__ import annotations

import onnx_ir as ir

from sspcab_export.passes._report import Report

__all__ = ["cast_inputs_first"]


def cast_inputs_first(model: ir.Model) -> Report:
    """Let what asks for the shape of a uint8 input ask for that of its Cast.

    Shapes are the same, and TensorRT takes nothing else than a Cast on a uint8 input.
    """
    changes = 0
    for value in model.graph.inputs:
        if value.dtype != ir.DataType.UINT8:
            continue
        uses = list(value.uses())
        cast = next((use.node for use in uses if use.node.op_type == "Cast"), None)
        for use in uses:
            if use.node.op_type == "Shape" and cast is not None:
                use.node.replace_input_with(use.idx, cast.outputs[0])
                changes += 1
    if changes:
        model.graph.sort()
    return Report(changes)
