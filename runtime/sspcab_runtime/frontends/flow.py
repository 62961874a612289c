"""Dense optical flow between frames of one camera, each pair computed once."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.manifest import FlowSpec

__all__ = ["FlowField", "Flows"]

FlowField = npt.NDArray[np.float32]
"""(height, width, 2): how far each pixel of the first frame moved right and down to the second, in pixels."""

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class Flows:
    """Flow between numbered frames, by dense inverse search (Kroeger et al., ECCV 2016, arXiv 1603.03590).

    Args:
        spec: At which size, and how thoroughly.
    """

    def __init__(self, spec: FlowSpec) -> None:
        self.size = (spec.width, spec.height)
        self._search = cv2.DISOpticalFlow.create(_PRESETS[spec.preset])
        self._grey: dict[int, npt.NDArray[np.uint8]] = {}
        self._found: dict[tuple[int, int], FlowField] = {}

    def add(self, number: int, pixels: npt.NDArray[np.uint8]) -> None:
        """A frame, (H, W, 3) uint8 RGB."""
        small = cv2.resize(pixels, self.size, interpolation=cv2.INTER_AREA)
        self._grey[number] = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)

    def between(self, first: int, second: int) -> FlowField:
        """Flow from one frame that was added to another."""
        pair = (first, second)
        if pair not in self._found:
            field = np.zeros((self.size[1], self.size[0], 2), np.float32)
            found = self._search.calc(self._grey[first], self._grey[second], field)
            self._found[pair] = np.asarray(found, np.float32)
        return self._found[pair]

    def forget(self, before: int) -> None:
        """Drop frames with smaller numbers, and the flow from and to them."""
        self._grey = {number: grey for number, grey in self._grey.items() if number >= before}
        self._found = {pair: flow for pair, flow in self._found.items() if min(pair) >= before}
