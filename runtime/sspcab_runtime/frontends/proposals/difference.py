"""Objects as what differs from the frame before."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.front_end_spec import Proposals
from sspcab_runtime.frontends.boxes import Boxes, no_boxes
from sspcab_runtime.frontends.proposals.blobs import blobs, working_size

__all__ = ["Difference"]

_LEVELS = 18
"""Grey levels by which a pixel must change, as in HF2-VAD's public code (Liu et al., ICCV 2021)."""


_GROWN = np.ones((3, 3), np.uint8)


class Difference:
    """Pixels of a blurred grey copy that changed by 18 levels since the frame before.

    Args:
        spec: Smallest area and thinnest form of an object.
        folder: Not looked at.
    """

    def __init__(self, spec: Proposals, folder: Path | None = None) -> None:
        self._spec = spec
        self._before: npt.NDArray[np.uint8] | None = None

    def propose(self, pixels: npt.NDArray[np.uint8]) -> Boxes:
        """What changed; the largest first. Nothing in the first frame."""
        height, width = pixels.shape[:2]
        small = cv2.resize(pixels, working_size(width, height), interpolation=cv2.INTER_AREA)
        grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (3, 3), 0)
        before, self._before = self._before, np.asarray(grey, np.uint8)
        if before is None or before.shape != grey.shape:
            return no_boxes()
        changed = np.asarray((cv2.absdiff(before, grey) >= _LEVELS) * 255, np.uint8)
        mask = np.asarray(cv2.dilate(changed, _GROWN), np.uint8)
        return blobs(mask, width, height, self._spec.min_area, self._spec.max_aspect)

    def reset(self) -> None:
        """Forget the frame before."""
        self._before = None
