"""From a mask of what moves to boxes: what the proposers without a network share."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_runtime.frontends.boxes import Boxes, areas, no_boxes, plausible, scaled

__all__ = ["blobs", "working_size"]

_LONGEST = 320
"""Longest side of the copy that is looked at: objects of interest are larger than a few of its pixels."""

_CLOSING = np.ones((5, 5), np.uint8)
_OPENING = np.ones((3, 3), np.uint8)


def working_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the small copy of a frame that is looked at."""
    factor = min(1.0, _LONGEST / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def blobs(mask: npt.NDArray[np.uint8], width: int, height: int, min_area: int, max_aspect: float) -> Boxes:
    """Boxes around what is connected in a mask, the largest first, in a frame of ``width`` x ``height``.

    Specks vanish (opening) and gaps close. What is smaller than ``min_area`` pixels of the frame or thinner
    than ``max_aspect`` is dropped.
    """
    cleaned = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _OPENING)
    cleaned = cv2.morphologyEx(cleaned, cv2.MORPH_CLOSE, _CLOSING)
    count, _, stats, _ = cv2.connectedComponentsWithStats(cleaned, connectivity=8)
    if count < 2:
        return no_boxes()
    left, top, across, down = (stats[1:, column].astype(np.int64) for column in range(4))
    found = np.stack([left, top, left + across, top + down], axis=1)
    boxes = scaled(found, width / mask.shape[1], height / mask.shape[0])
    boxes = np.minimum(boxes, np.array([width, height, width, height]))
    boxes = boxes[plausible(boxes, min_area, max_aspect)]
    return np.asarray(boxes[np.argsort(-areas(boxes), kind="stable")], np.int64)
