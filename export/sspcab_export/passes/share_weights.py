"""Equal weights are stored once: a memory that is read and written is one constant, and not two."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx_ir as ir

from sspcab_export.passes._report import Report

__all__ = ["share_weights"]

_SMALL = 64
"""Elements; what has fewer is not worth looking at."""


def share_weights(model: ir.Model) -> Report:
    """Let equal initialisers be one, by their bytes."""
    first: dict[tuple[ir.DataType, tuple[int, ...], bytes], ir.Value] = {}
    changes = 0
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is None or value.const_value.size < _SMALL:
            continue
        array = np.ascontiguousarray(value.const_value.numpy())
        key = (value.const_value.dtype, array.shape, hashlib.sha256(array.view(np.uint8).data).digest())
        kept = first.setdefault(key, value)
        if kept is not value and not value.is_graph_output():
            ir.convenience.replace_all_uses_with(value, kept)
            del model.graph.initializers[name]
            changes += 1
    return Report(changes)
