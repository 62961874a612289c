"""Boxes of objects: (N, 4) int64, left, top, right, bottom in pixels, right and bottom outside of the box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Boxes", "areas", "grown", "no_boxes", "plausible", "scaled"]

Boxes = npt.NDArray[np.int64]


def no_boxes() -> Boxes:
    """None at all."""
    return np.empty((0, 4), np.int64)


def areas(boxes: Boxes) -> npt.NDArray[np.int64]:
    """(N,) square pixels."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.int64)


def plausible(boxes: Boxes, min_area: int, max_aspect: float) -> npt.NDArray[np.bool_]:
    """(N,): which are large enough, and no thin line."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    longest, shortest = sides.max(axis=1, initial=0), sides.min(axis=1, initial=2**31)
    return np.asarray((areas(boxes) >= min_area) & (longest <= max_aspect * shortest), np.bool_)


def grown(boxes: Boxes, by: int, width: int, height: int) -> Boxes:
    """Boxes that are larger by so many pixels on each side, but not beyond the frame."""
    limits = np.array([width, height, width, height])
    return np.asarray(np.clip(boxes + np.array([-by, -by, by, by]), 0, limits), np.int64)


def scaled(boxes: npt.NDArray[np.floating] | Boxes, across: float, down: float) -> Boxes:
    """Boxes in a frame that is so many times as wide and as high, rounded outwards."""
    factors = np.array([across, down, across, down])
    moved = np.asarray(boxes, np.float64) * factors
    # what rounding alone puts beyond a whole pixel is no other pixel
    return np.concatenate([np.floor(moved[:, :2] + 1e-6), np.ceil(moved[:, 2:] - 1e-6)], axis=1).astype(
        np.int64
    )
