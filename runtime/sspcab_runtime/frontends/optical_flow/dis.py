"""Optical flow by dense inverse search, as OpenCV has it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sspcab_edge.front_end_spec import FlowSpec
from sspcab_runtime.frontends.optical_flow.fields import FlowField, Pixels

__all__ = ["InverseSearch"]

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class InverseSearch:
    """Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016, on grey frames.

    Args:
        spec: How thoroughly.
        folder: Not looked at.
    """

    def __init__(self, spec: FlowSpec, folder: Path | None = None) -> None:
        self._search = cv2.DISOpticalFlow.create(_PRESETS[spec.preset])

    def look(self, pixels: Pixels) -> Pixels:
        """(height, width) grey."""
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)

    def between(self, first: Pixels, second: Pixels) -> FlowField:
        """Flow from one grey frame to another."""
        field = np.zeros((*first.shape, 2), np.float32)
        return np.asarray(self._search.calc(first, second, field), np.float32)
