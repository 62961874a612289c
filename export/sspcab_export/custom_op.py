"""The block as an operator of its own, ``sspcab.edge::SSPCAB``: what it is called in a file.

Inputs, attributes and formula are in ``docs/custom-op.md``. Nothing here needs onnx, so that a device without
it can tell which files hold the operator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sspcab_edge.errors import GraphError

__all__ = [
    "ATTRIBUTES",
    "DOMAIN",
    "GATE_INPUTS",
    "INPUTS",
    "OPERATOR",
    "OUTPUT",
    "VERSION",
    "may_hold_blocks",
]

DOMAIN: Final = "sspcab.edge"
"""Operator set."""

VERSION: Final = 1
"""Of the operator set."""

OPERATOR: Final = "SSPCAB"
"""Name of the operator."""

INPUTS: Final = ("X", "W", "B")
"""The block's input, and weight and bias of the masked convolution."""

GATE_INPUTS: Final = ("W1", "B1", "W2", "B2")
"""Weights and biases of squeeze-and-excitation; absent where the reduction is 0."""

OUTPUT: Final = "Y"
"""The block's output."""

ATTRIBUTES: Final = ("kernel", "dilation", "reduction", "dialect")
"""k, d and r, and the name of the dialect."""


def may_hold_blocks(path: Path) -> bool:
    """False when this ONNX file surely has no node of our operator set.

    An ONNX file spells out every operator set that it uses.

    Raises:
        GraphError: The file cannot be read.
    """
    try:
        return DOMAIN.encode() in path.read_bytes()
    except OSError as error:
        raise GraphError(f"cannot read {path}: {error.strerror}") from error
