"""The table of proposers, by the kind that a manifest names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sspcab_edge.front_end_spec import Proposals
from sspcab_runtime.frontends.boxes import Boxes
from sspcab_runtime.frontends.proposals.background import Background
from sspcab_runtime.frontends.proposals.detector import ObjectDetector
from sspcab_runtime.frontends.proposals.difference import Difference

__all__ = ["PROPOSERS", "Proposer", "open_proposer"]


class Proposer(Protocol):
    """Looks for objects in the frames of one camera."""

    def propose(self, pixels: npt.NDArray[np.uint8]) -> Boxes:
        """Boxes in the next frame, (H, W, 3) uint8 RGB; those to judge first come first."""

    def reset(self) -> None:
        """Forget earlier frames."""


PROPOSERS: dict[str, Callable[[Proposals, Path | None], Proposer]] = {
    "background": Background,
    "detector": ObjectDetector,
    "difference": Difference,
}


def open_proposer(spec: Proposals, folder: Path | None) -> Proposer:
    """What a manifest asks for; ``folder`` is the bundle's, where a detector lies.

    Raises:
        BundleError: There is a detector, and no folder.
        MissingPackageError: No engine that could run it is installed.
        EngineError: Its file is refused.
    """
    return PROPOSERS[spec.kind](spec, folder)
