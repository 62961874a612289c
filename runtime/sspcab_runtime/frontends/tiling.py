"""Tiles of a picture, and one map from the maps of its tiles: pure functions on arrays.

Inside its own edges a tile's map is what one pass over the whole picture would give, as far as the network is
local: at the edges it sees its padding instead of the neighbourhood. So neighbours overlap, a margin at each
inner edge counts nothing, and between the margins one tile fades into the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sspcab_edge.grid import grid

__all__ = ["Mosaic", "cut", "grid", "merge", "mosaic", "weights"]

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Places = Sequence[tuple[int, int]]
"""Upper left corner of each tile, (top, left) in pixels."""


def cut(pixels: Pixels, places: Places, tile: tuple[int, int]) -> Pixels:
    """Tiles of (height, width) ``tile`` out of (H, W, 3) uint8: (N, height, width, 3), contiguous."""
    height, width = tile
    tiles = np.empty((len(places), height, width, 3), dtype=np.uint8)
    for number, (top, left) in enumerate(places):
        tiles[number] = pixels[top : top + height, left : left + width]
    return tiles


def weights(starts: Sequence[int], tile: int, margin: int) -> Floats:
    """How much each tile counts at each of its pixels, along one axis.

    0 in ``margin`` pixels at an edge with a neighbour (in half of the overlap at most), a linear ramp over
    what is left of that overlap, 1 elsewhere; then divided so that the tiles at a pixel sum to 1.

    Args:
        starts: First pixel of each tile, rising, without gaps: see :func:`~sspcab_edge.grid.grid`.
        tile: Pixels of one tile.
        margin: Pixels that do not count.

    Returns:
        (len(starts), tile) float32. The weights of a tile of a picture are the outer product of two rows.
    """
    shares = np.ones((len(starts), tile))
    for number in range(1, len(starts)):
        common = starts[number - 1] + tile - starts[number]
        left_out = min(margin, common // 2)
        ramp = np.zeros(common)
        rising = common - 2 * left_out
        ramp[left_out : left_out + rising] = (np.arange(rising) + 0.5) / max(1, rising)
        ramp[left_out + rising :] = 1
        shares[number, :common] *= ramp
        shares[number - 1, tile - common :] *= ramp[::-1]
    total = np.zeros(starts[-1] + tile)
    for start, share in zip(starts, shares, strict=True):
        total[start : start + tile] += share
    for start, share in zip(starts, shares, strict=True):
        share /= total[start : start + tile]
    return np.asarray(shares, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Mosaic:
    """How the maps of some tiles of a grid become one map, worked out once.

    Attributes:
        shape: (height, width) of the one map.
        numbers: Which tiles there are, row by row over the whole grid, rising.
        rows: First pixel of each row of tiles, in pixels of the map.
        columns: The same of each column.
        row_weights: (rows, h) float32; see :func:`weights`.
        column_weights: (columns, w) float32.
        share: (height, width) float32, the sum of the weights of the tiles that there are; None where all
            are, so that it is 1 everywhere.
    """

    shape: tuple[int, int]
    numbers: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    row_weights: Floats
    column_weights: Floats
    share: Floats | None


def mosaic(
    rows: Sequence[int],
    columns: Sequence[int],
    tile: tuple[int, int],
    margin: int,
    size: tuple[int, int],
    numbers: Sequence[int],
) -> Mosaic:
    """Work out how maps of tiles become one.

    A map of ``size`` pixels over ``tile`` pixels has ``size / tile`` pixels of map per pixel, along each axis
    for itself. Starts of tiles are rounded to the nearest pixel of the map (half upwards), which leaves no
    gap; a margin is rounded up, so that nothing of it counts.

    Args:
        rows: First pixel of each row of tiles: see :func:`~sspcab_edge.grid.grid`.
        columns: The same of each column.
        tile: (height, width) of a tile in pixels.
        margin: Pixels at inner edges that do not count.
        size: (height, width) of a tile's map.
        numbers: Which tiles are computed, row by row over the whole grid, rising.
    """
    down = _starts(rows, tile[0], size[0])
    across = _starts(columns, tile[1], size[1])
    shape = (down[-1] + size[0], across[-1] + size[1])
    own = (
        weights(down, size[0], math.ceil(margin * size[0] / tile[0])),
        weights(across, size[1], math.ceil(margin * size[1] / tile[1])),
    )
    every = Mosaic(shape, tuple(numbers), down, across, *own, None)
    if len(numbers) == len(rows) * len(columns):
        return every
    ones = np.broadcast_to(np.float32(1), (len(numbers), *size))
    share = _sum(ones, every)
    return Mosaic(shape, tuple(numbers), down, across, *own, share)


def merge(maps: Floats, plan: Mosaic) -> Floats:
    """One map, ``plan.shape`` float32, from the maps (N, h, w) of the tiles ``plan.numbers``.

    0 where no tile was computed. Memory is that of one map beside ``maps``, whatever their number.
    """
    whole = _sum(maps, plan)
    if plan.share is not None:
        np.divide(whole, plan.share, out=whole, where=plan.share > 0)
    return whole


def _sum(maps: Floats, plan: Mosaic) -> Floats:
    """The maps at their places, each times its weights."""
    whole = np.zeros(plan.shape, dtype=np.float32)
    for number, heat in zip(plan.numbers, maps, strict=True):
        row, column = divmod(number, len(plan.columns))
        top, left = plan.rows[row], plan.columns[column]
        share = plan.row_weights[row][:, None] * plan.column_weights[column]
        whole[top : top + heat.shape[0], left : left + heat.shape[1]] += heat * share
    return whole


def _starts(starts: Sequence[int], tile: int, size: int) -> tuple[int, ...]:
    return tuple((2 * start * size + tile) // (2 * tile) for start in starts)
