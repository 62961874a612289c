"""Networks of small blocks as text, of any kind and one behind the other, and the same blocks for NumPy."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from definitions.graph_text import BLOCK, block_arrays, edited, graph
from definitions.running import Array, Arrays

SIZE = "float[N,4,9,11]"
_GATE = ("mean", "hidden", "active", "logit", "gate", "y")


@dataclass(frozen=True)
class Kind:
    """A block with 4 channels; ``gated`` tells whether it has squeeze-and-excitation, with r = 2."""

    kernel: int = 1
    dilation: int = 1
    dialect: str = "official"
    gated: bool = True

    @property
    def last(self) -> str:
        """The value of ``BLOCK`` that is the block's output."""
        return "y" if self.gated else "r" if self.dialect == "official" else "s"

    def arrays(self) -> dict[str, Array]:
        """Its constants, by their names in ``BLOCK``; gates are weak, as trained ones are, and not shut."""
        arrays = block_arrays(self.kernel, self.dilation)
        return arrays | {name: arrays[name] * np.float32(0.2) for name in ("v1", "d1", "v2", "d2")}

    def text(self) -> str:
        """Its nodes, from ``x`` to ``last``."""
        text = BLOCK
        if self.dialect == "anomalib":
            changed = {"mean": "mean = GlobalAveragePool (s)", "y": "y = Mul (s, gate)"}
            text = edited(text, r="", **changed)
        return text if self.gated else edited(text, **dict.fromkeys(_GATE, ""))


def network(
    *kinds: Kind, outputs: str = "", tail: str = "", more: Arrays | None = None, opset: int = 18
) -> ir.Model:
    """The blocks of these kinds one after the other, between ``x`` and ``y``.

    Every name of block number n ends in ``_n``, from 0 on.

    Args:
        kinds: One or more.
        outputs: More outputs, after ``y``.
        tail: More nodes, after the blocks.
        more: Constants for them.
        opset: Version of the standard operators.
    """
    lines: list[str] = []
    arrays: dict[str, Array] = {}
    source = "x"
    for number, kind in enumerate(kinds):
        text, own = kind.text(), kind.arrays()
        made = [line.split("=")[0].strip() for line in text.strip().splitlines()]
        renamed = re.sub(rf"\b({'|'.join([*made, *own])})\b", rf"\1_{number}", text)
        lines.append(re.sub(r"\bx\b", source, renamed))
        arrays |= {f"{name}_{number}": array for name, array in own.items()}
        source = f"{kind.last}_{number}"
    lines.append(f"y = Identity ({source})")
    named = ", ".join(filter(None, [f"{SIZE} y", outputs]))
    text = "\n".join([*lines, tail])
    return graph(text, arrays | dict(more or {}), inputs=f"{SIZE} x", outputs=named, opset=opset)


def corners(weight: Array) -> dict[tuple[bool, bool], Array]:
    """Weight (C, C, k, k) of the corner (above?, left?) of the centre, from the operator's (C, C, 2k, 2k)."""
    k = weight.shape[2] // 2
    return {
        (above, left): weight[:, :, 0 if above else k :, 0 if left else k :][:, :, :k, :k]
        for above in (True, False)
        for left in (True, False)
    }


def open_gate(channels: int) -> tuple[Array, Array, Array, Array]:
    """A squeeze-and-excitation that multiplies by 1."""
    return np.zeros((1, channels)), np.zeros(1), np.zeros((channels, 1)), np.full(channels, np.inf)
