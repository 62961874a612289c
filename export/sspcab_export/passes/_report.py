"""What a pass gives back."""

from __future__ import annotations

from dataclasses import dataclass

from sspcab_edge.block import BlockSpec

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one pass.

    Attributes:
        changes: How many places were rewritten.
        blocks: The blocks it recognised, in graph order.
    """

    changes: int
    blocks: tuple[BlockSpec, ...] = ()
