"""What of a picture is compared with the reference: its details, without lighting and noise."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["FINE", "Slopes", "agreement", "detail", "slopes"]

Floats = npt.NDArray[np.float32]
Slopes = tuple[Floats, Floats]

FINE = 512
"""Longest side of what poses are refined on, in pixels."""

_SMOOTH = 1.0
_COARSE = 8.0
"""Sigma, in pixels of the fine picture, of the blur that is taken away from it."""
_SLOPE_SMOOTH = 2.0
_SQUARE = 32
"""Side, in pixels of the fine picture, of what is compared by itself."""

_T = TypeVar("_T", bound=np.generic)


def detail(grey: npt.NDArray[np.uint8], side: int) -> Floats:
    """A picture (H, W) without noise and without what is coarse: (h, w) float32, ``side`` pixels at most.

    Slow changes of the lighting are coarse, so they have no say in what is found.
    """
    height, width = grey.shape
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), _SMOOTH)
    return np.asarray(smooth - cv2.GaussianBlur(smooth, (0, 0), _COARSE * side / FINE), dtype=np.float32)


def slopes(fine: Floats) -> Slopes:
    """Change of a picture (h, w) per pixel along x and along y, (h, w) float32 each, in grey levels."""
    smooth = cv2.GaussianBlur(fine, (0, 0), _SLOPE_SMOOTH)
    right, down = (cv2.Sobel(smooth, cv2.CV_32F, x, y, scale=1 / 8) for x, y in ((1, 0), (0, 1)))
    return np.asarray(right, dtype=np.float32), np.asarray(down, dtype=np.float32)


def agreement(one: Slopes, other: Slopes, where: npt.NDArray[np.bool_]) -> float:
    """How well two pictures' slopes agree, along x and along y: the lower of the two, -1 to 1.

    Each by itself, because a scene of long lines correlates with itself wherever along them it is laid; but
    across them only at its place. Each is the median of correlations in squares of :data:`_SQUARE` pixels,
    which count by the structure that ``one`` has in them: a defect of any contrast spoils the squares it lies
    in and no others, where it would decide a correlation of the whole.

    Args:
        one: :func:`slopes` of the reference.
        other: Of the other picture.
        where: (h, w), the pixels that count; a square counts where all of its do.
    """
    squares = _squares(where).all(axis=1)
    return min(_median(_squares(a)[squares], _squares(b)[squares]) for a, b in zip(one, other, strict=True))


def _squares(values: npt.NDArray[_T]) -> npt.NDArray[_T]:
    """(h, w) -> (squares, pixels); what is left at the far edges is left out."""
    side = min(_SQUARE, *values.shape)
    rows, columns = values.shape[0] // side, values.shape[1] // side
    cut = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(rows * columns, side * side)


def _median(one: Floats, other: Floats) -> float:
    """Median of Pearson's correlations of (squares, pixels), weighted by the spread of ``one``.

    0 where there are no squares with any structure.
    """
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (one, other))
    spread = np.sqrt((a * a).sum(axis=1))
    scale = spread * np.sqrt((b * b).sum(axis=1))
    correlations = np.divide((a * b).sum(axis=1), scale, out=np.zeros_like(scale), where=scale > 0)
    order = np.argsort(correlations)
    weights = np.cumsum(spread[order])
    if not len(weights) or weights[-1] <= 0:
        return 0.0
    return float(correlations[order][np.searchsorted(weights, weights[-1] / 2)])
