"""What of the region is judged: polygons and a mask, drawn once when a front-end is opened."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import BundleError
from sspcab_edge.front_end_spec import FrontEndSpec
from sspcab_runtime.frontends.files import read_grey

__all__ = ["Inside", "read_inside", "touched"]

Inside = npt.NDArray[np.bool_]
"""(h, w): True where a pixel is judged."""


def read_inside(spec: FrontEndSpec, folder: Path | None) -> Inside | None:
    """Which pixels of the region are judged; None where all are.

    A pixel is judged when it lies in any of the zones (their borders included) and the mask is not 0 there.

    Args:
        spec: With ``frame``, where it has zones or a mask.
        folder: The bundle's, for the mask.

    Raises:
        BundleError: The mask cannot be read, or nothing of the region is left.
    """
    frame = spec.frame
    if frame is None or (not spec.zones and spec.mask is None):
        return None
    drawn = np.full((frame.height, frame.width), 0 if spec.zones else 1, dtype=np.uint8)
    for zone in spec.zones:  # one by one: together, what two of them share would be outside
        cv2.fillPoly(drawn, [np.array(zone, dtype=np.int32)], 1)
    inside = drawn > 0
    if spec.mask is not None:
        inside &= read_grey(folder, spec.mask, frame) > 0
    box = spec.region
    if box is not None:
        inside = inside[box.top : box.top + box.height, box.left : box.left + box.width]
    if not inside.any():
        raise BundleError("zones and mask leave nothing of the region to look at: draw them inside of it")
    return None if inside.all() else np.ascontiguousarray(inside)


def touched(inside: Inside, size: tuple[int, int]) -> Inside:
    """The same at another resolution, (height, width) ``size``: True where any pixel below is True.

    Any, so that what is narrower than a pixel of the map is not lost.
    """
    counts = cv2.integral(np.asarray(inside, dtype=np.uint8))
    (top, bottom), (left, right) = (
        _below(length, parts) for length, parts in zip(inside.shape, size, strict=True)
    )
    rows = counts[bottom] - counts[top]
    return np.asarray(rows[:, right] > rows[:, left], dtype=np.bool_)


def _below(length: int, parts: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First pixel below each of ``parts`` equal parts of an axis, and the first behind it."""
    numbers = np.arange(parts, dtype=np.int64)
    return numbers * length // parts, -(-(numbers + 1) * length // parts)
