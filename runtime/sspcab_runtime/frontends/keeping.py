"""Pixels that a front-end remembers from frame to frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sspcab_edge.protocols import Frame

__all__ = ["kept"]


def kept(pixels: npt.NDArray[np.uint8], frame: Frame) -> npt.NDArray[np.uint8]:
    """Pixels that stay as they are: a copy, where they are still the frame's own.

    A frame is good until its verdict is there: in the daemon it lies in shared memory that the camera uses
    again.
    """
    return pixels.copy() if np.may_share_memory(pixels, frame.pixels) else pixels
