"""What of a picture is compared with the reference: its details, without lighting and noise."""

from __future__ import annotations

import math

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
_TINY = 1e-12


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
    across them only at its place. Slopes are bounded before they are correlated, at about their own mean
    size: a defect of any contrast counts by its area, and the few joints of a wall as much as its long lines.

    Args:
        one: :func:`slopes` of the reference.
        other: Of the other picture.
        where: (h, w), the pixels that count.
    """
    return min(_correlation(_bounded(a[where]), _bounded(b[where])) for a, b in zip(one, other, strict=True))


def _bounded(values: Floats) -> Floats:
    """(N,) to within -1 to 1, steepest around 0; what is as large as the mean magnitude becomes 0.7."""
    size = float(np.abs(values).mean()) if values.size else 0.0
    return np.asarray(values / np.sqrt(values * values + size * size + _TINY), dtype=np.float32)


def _correlation(one: Floats, other: Floats) -> float:
    """Pearson's, of (N,) values; 0 where there are none, or one side is constant."""
    if one.size == 0:
        return 0.0
    a, b = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else 0.0
