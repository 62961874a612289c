"""Resizing with filters that are widened by the scale when shrinking: as torch does, and as Pillow does.

Separable: a weighted sum of rows, and of columns as the rows of the transposed image. Rows are summed a few
at a time, so that they stay in the cache. No matrix products: their threads would wait, busy, beside the
engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["antialias_linear", "pil_cubic", "pil_linear"]

Pixels = npt.NDArray[np.uint8]
_Block = tuple[int, int, npt.NDArray[Any]]

_BITS = 32 - 8 - 2
"""Of the fraction in Pillow's weights: 8 bits are the pixel's, 2 are room."""

_BLOCK = 8

_Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Filter:
    """What pixels weigh by their distance, in units of the pixels of the smaller image.

    Attributes:
        reach: Distance from which on they weigh nothing.
        weigh: Distances (...), which may be negative, to weights (...) before they are made to sum to 1.
    """

    reach: float
    weigh: Callable[[_Weights], _Weights]


def _cubic(distances: _Weights) -> _Weights:
    """Keys' cubic convolution (IEEE TASSP 29, 1981) with a = -1/2, summed up in Pillow's order."""
    x = np.abs(distances)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_TRIANGLE: Final = _Filter(1.0, lambda distances: np.clip(1 - np.abs(distances), 0, None))
_CUBIC: Final = _Filter(2.0, _cubic)


def antialias_linear(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, 3) uint8 -> (height, width, 3) uint8, as torch's antialiased bilinear resize of float pixels.

    In float32, rows first, which lie together in memory; rounded once, half to even.
    """
    tall = _filter_rows(_flat(pixels), height).reshape(height, -1, 3)
    small = _filter_rows(_flat(cv2.transpose(tall)), width).reshape(width, height, 3)
    return np.asarray(np.clip(np.rint(cv2.transpose(small)), 0, 255), dtype=np.uint8)


def pil_linear(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, 3) uint8 -> (height, width, 3) uint8, bit for bit as Pillow's ``resize`` with ``BILINEAR``.

    Weights are integers with 22 bits of fraction, and each pass rounds to 8 bits; columns first, and a side
    that keeps its size is not filtered (Pillow's ``Resample.c``, from 3.4 to 11). Later versions filter rows
    first where the height shrinks much more than the width, which changes some pixels by a level.
    """
    return _as_pil(pixels, height, width, _TRIANGLE)


def pil_cubic(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, 3) uint8 -> (height, width, 3) uint8, bit for bit as Pillow's ``resize`` with ``BICUBIC``.

    Which is what it does since Pillow 7 when no filter is named. Order and versions as in :func:`pil_linear`.
    """
    return _as_pil(pixels, height, width, _CUBIC)


def _as_pil(pixels: Pixels, height: int, width: int, kernel: _Filter) -> Pixels:
    if pixels.shape[1] != width:
        turned = _pil_rows(_flat(cv2.transpose(pixels)), width, kernel).reshape(width, pixels.shape[0], 3)
        pixels = np.asarray(cv2.transpose(turned), np.uint8).reshape(pixels.shape[0], width, 3)
    if pixels.shape[0] != height:
        pixels = _pil_rows(_flat(pixels), height, kernel).reshape(height, width, 3)
    return np.ascontiguousarray(pixels)


def _flat(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W, 3) -> (H, 3 W)."""
    return image.reshape(image.shape[0], -1)


def _filter_rows(rows: npt.NDArray[Any], size_out: int) -> npt.NDArray[np.float32]:
    """(n, m) uint8 or float32 -> (size_out, m) float32."""
    taps = _taps(rows.shape[0], size_out, _TRIANGLE)
    out = np.empty((size_out, rows.shape[1]), np.float32)
    for first, last, source in _blocks(rows, taps, np.float32):
        for number in range(first, last):
            start, stop = taps.starts[number] - taps.starts[first], taps.stops[number] - taps.starts[first]
            weights = taps.weights[number, : stop - start]
            np.einsum("t,tn->n", weights, source[start:stop], out=out[number])
    return out


def _pil_rows(rows: Pixels, size_out: int, kernel: _Filter) -> Pixels:
    """(n, m) uint8 -> (size_out, m) uint8: weighted sums in int32, rounded half up, kept within 8 bits."""
    taps = _taps(rows.shape[0], size_out, kernel)
    out = np.empty((size_out, rows.shape[1]), np.uint8)
    sums = np.empty((_BLOCK, rows.shape[1]), np.int32)
    for first, last, source in _blocks(rows, taps, np.int32):
        for number in range(first, last):
            start, stop = taps.starts[number] - taps.starts[first], taps.stops[number] - taps.starts[first]
            weights = taps.integers[number, : stop - start]
            np.einsum("t,tn->n", weights, source[start:stop], out=sums[number - first])
        done = sums[: last - first]
        done += 1 << (_BITS - 1)
        done >>= _BITS
        if taps.overshoots:
            np.clip(done, 0, 255, out=done)
        out[first:last] = done
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Taps:
    """Which rows each new row is a sum of.

    Attributes:
        starts: (n,) the first row.
        stops: (n,) the row behind the last.
        weights: (n, taps) float32, rows that sum to 1, zeros behind ``stops``.
        integers: (n, taps) int32, the same times 2**22, rounded half away from zero.
        overshoots: Whether some are negative, so that sums may lie outside of what pixels hold.
    """

    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    integers: npt.NDArray[np.int32]
    overshoots: bool


@lru_cache(maxsize=32)
def _taps(size_in: int, size_out: int, kernel: _Filter) -> _Taps:
    """The filter's weights, in the order of operations of Pillow's ``precompute_coeffs``."""
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    support = kernel.reach * stretch
    centres = (np.arange(size_out) + 0.5) * scale
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    stops = np.minimum((centres + support + 0.5).astype(np.int64), size_in)
    positions = starts[:, None] + np.arange(int((stops - starts).max()))
    weights = kernel.weigh((positions - centres[:, None] + 0.5) * (1 / stretch))
    weights[positions >= stops[:, None]] = 0
    weights /= np.cumsum(weights, axis=1)[:, -1:]
    integers = np.trunc(weights * (1 << _BITS) + np.copysign(0.5, weights)).astype(np.int32)
    return _Taps(starts, stops, weights.astype(np.float32), integers, bool((weights < 0).any()))


def _blocks(rows: npt.NDArray[Any], taps: _Taps, dtype: type[np.generic]) -> Iterator[_Block]:
    """A few new rows at a time: the first, the one behind the last, and the old rows they need."""
    count = len(taps.starts)
    for first in range(0, count, _BLOCK):
        last = min(first + _BLOCK, count)
        yield first, last, rows[taps.starts[first] : taps.stops[first:last].max()].astype(dtype)
