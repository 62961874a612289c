"""Flow between numbered frames, each pair computed once and only when somebody asks."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["FlowField", "FlowMethod", "Flows", "Pixels"]

Pixels = npt.NDArray[np.uint8]
FlowField = npt.NDArray[np.float32]
"""(height, width, 2): how far each pixel of the first frame moved right and down to the second, in pixels."""


class FlowMethod(Protocol):
    """How flow between two frames is computed. Remembers nothing."""

    def look(self, pixels: Pixels) -> Pixels:
        """What is kept of a frame, (height, width, 3) uint8 RGB at the size of the flow."""

    def between(self, first: Pixels, second: Pixels) -> FlowField:
        """Flow from one frame to another, of what :meth:`look` gave, at the same size.

        Raises:
            EngineError: It cannot be computed.
        """


class Flows:
    """The flow of one camera.

    Args:
        method: How it is computed.
        size: (width, height) at which, in pixels: those that flow is measured in.

    Attributes:
        size: Likewise.
    """

    def __init__(self, method: FlowMethod, size: tuple[int, int]) -> None:
        self.size = size
        self._method = method
        self._seen: dict[int, Pixels] = {}
        self._found: dict[tuple[int, int], FlowField] = {}

    def add(self, number: int, pixels: Pixels) -> None:
        """A frame, (H, W, 3) uint8 RGB."""
        small = cv2.resize(pixels, self.size, interpolation=cv2.INTER_AREA)
        self._seen[number] = self._method.look(np.asarray(small, np.uint8))

    def between(self, first: int, second: int) -> FlowField:
        """Flow from one frame that was added to another.

        Raises:
            EngineError: It cannot be computed.
        """
        pair = (first, second)
        if pair not in self._found:
            self._found[pair] = self._method.between(self._seen[first], self._seen[second])
        return self._found[pair]

    def forget(self, before: int) -> None:
        """Drop frames with smaller numbers, and the flow from and to them."""
        self._seen = {number: seen for number, seen in self._seen.items() if number >= before}
        self._found = {pair: flow for pair, flow in self._found.items() if min(pair) >= before}
