"""Objects as what differs from the background that a camera usually shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.front_end_spec import Proposals
from sspcab_runtime.frontends.boxes import Boxes
from sspcab_runtime.frontends.proposals.blobs import blobs, working_size

__all__ = ["Background"]

_HISTORY = 250
_VARIANCES = 16.0
_SHADOWS = 127
"""How the model marks shadows, which are no objects; objects are 255."""


class Background:
    """A mixture of Gaussians for every pixel, which adapts over some 250 frames.

    Zivkovic and van der Heijden, "Efficient adaptive density estimation per image pixel for the task of
    background subtraction", Pattern Recognition Letters 27, 2006, as OpenCV has it (MOG2).

    Args:
        spec: Smallest area and thinnest form of an object.
        folder: Not looked at.
    """

    def __init__(self, spec: Proposals, folder: Path | None = None) -> None:
        self._spec = spec
        self.reset()

    def propose(self, pixels: npt.NDArray[np.uint8]) -> Boxes:
        """What differs from the background so far; the largest first."""
        height, width = pixels.shape[:2]
        small = cv2.resize(pixels, working_size(width, height), interpolation=cv2.INTER_AREA)
        marked = self._model.apply(small)
        mask = np.asarray((marked > _SHADOWS) * 255, np.uint8)
        return blobs(mask, width, height, self._spec.min_area, self._spec.max_aspect)

    def reset(self) -> None:
        """Learn the background anew."""
        self._model = cv2.createBackgroundSubtractorMOG2(_HISTORY, _VARIANCES, detectShadows=True)
