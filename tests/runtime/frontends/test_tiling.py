"""Grids of tiles, their weights, and one map from many: against their definitions, on any sizes."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.grid import grid
from sspcab_runtime.frontends.tiling import cut, merge, mosaic, weights


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length, tile and overlap of an axis."""
    tile = draw(st.integers(1, 80))
    overlap = draw(st.integers(0, tile - 1))
    return draw(st.integers(tile, tile * 6)), tile, overlap


@given(axes())
def test_tiles_cover_an_axis_evenly_with_no_tile_too_many(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    starts = grid(length, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] + tile == length
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (tile - steps >= overlap).all()
    assert steps.size == 0 or steps.max() - steps.min() <= 1
    fewer = len(starts) - 1
    assert fewer == 0 or fewer * tile - (fewer - 1) * overlap < length, "one tile less would not do"


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (64, 64, 0, (0,)),
        (64, 64, 63, (0,)),
        (65, 64, 0, (0, 1)),
        (128, 64, 0, (0, 64)),
        (160, 64, 16, (0, 48, 96)),
        (170, 64, 16, (0, 35, 70, 106)),
    ],
)
def test_known_grids(length: int, tile: int, overlap: int, starts: tuple[int, ...]) -> None:
    assert grid(length, tile, overlap) == starts


@pytest.mark.parametrize("arguments", [(63, 64, 0), (64, 0, 0), (64, 32, 32), (64, 32, -1)])
def test_no_grid(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        grid(*arguments)


@given(axes(), st.integers(0, 40))
def test_weights_are_a_partition_of_unity(axis: tuple[int, int, int], margin: int) -> None:
    length, tile, overlap = axis
    starts = grid(length, tile, overlap)
    shares = weights(starts, tile, margin)
    assert shares.shape == (len(starts), tile)
    assert shares.dtype == np.float32
    assert (shares >= 0).all()
    total = np.zeros(length)
    for start, share in zip(starts, shares, strict=True):
        total[start : start + tile] += share
    assert np.abs(total - 1).max() < 1e-6


@given(axes())
def test_margins_count_nothing_and_borders_count_whole(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    margin = overlap // 2
    starts = grid(length, tile, overlap)
    shares = weights(starts, tile, margin)
    assert shares[0, 0] > 0
    assert shares[-1, -1] > 0
    for number in range(1, len(starts)):
        assert (shares[number, :margin] == 0).all()
        assert (shares[number - 1, tile - margin :] == 0).all()


def test_weights_of_two_tiles_by_hand() -> None:
    """Overlap 6, margin 1: a ramp over 4 pixels, at their centres."""
    shares = weights((0, 4), 10, 1)
    ramp = [0, 0.125, 0.375, 0.625, 0.875, 1]
    assert shares[1].tolist() == [*ramp, 1, 1, 1, 1]
    assert shares[0].tolist() == [1, 1, 1, 1, *ramp[::-1]]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], int, tuple[int, int]]:
    """Region, tile, overlap and the size of a tile's map."""
    tile = (draw(st.integers(2, 20)), draw(st.integers(2, 20)))
    region = (draw(st.integers(tile[0], 60)), draw(st.integers(tile[1], 60)))
    overlap = draw(st.integers(0, min(tile) - 1))
    size = (draw(st.integers(1, tile[0] + 3)), draw(st.integers(1, tile[1] + 3)))
    return region, tile, overlap, size


@given(layouts(), st.data())
def test_maps_of_tiles_become_one_without_gaps(
    layout: tuple[tuple[int, int], tuple[int, int], int, tuple[int, int]], data: st.DataObject
) -> None:
    """Constant maps give the constant everywhere, whatever the ratio of map and tile."""
    region, tile, overlap, size = layout
    margin = data.draw(st.integers(0, overlap // 2))
    rows, columns = grid(region[0], tile[0], overlap), grid(region[1], tile[1], overlap)
    count = len(rows) * len(columns)
    plan = mosaic(rows, columns, tile, margin, size, range(count))
    whole = merge(np.full((count, *size), 3, dtype=np.float32), plan)
    for axis in (0, 1):
        assert whole.shape[axis] == math.floor(region[axis] * size[axis] / tile[axis] + 0.5)
    assert whole.dtype == np.float32
    assert np.abs(whole - 3).max() < 1e-5


@given(layouts(), st.data())
def test_what_some_tiles_cover_is_whole_and_the_rest_is_0(
    layout: tuple[tuple[int, int], tuple[int, int], int, tuple[int, int]], data: st.DataObject
) -> None:
    region, tile, overlap, _ = layout
    rows, columns = grid(region[0], tile[0], overlap), grid(region[1], tile[1], overlap)
    every = [(top, left) for top in rows for left in columns]
    numbers = sorted(data.draw(st.sets(st.integers(0, len(every) - 1), min_size=1)))
    plan = mosaic(rows, columns, tile, 0, tile, numbers)
    whole = merge(np.full((len(numbers), *tile), 3, dtype=np.float32), plan)
    covered = np.zeros(region, dtype=bool)
    for number in numbers:
        top, left = every[number]
        covered[top : top + tile[0], left : left + tile[1]] = True
    assert np.abs(whole[covered] - 3).max() < 1e-4
    assert (whole[~covered] == 0).all()


def test_a_picture_comes_back_from_its_tiles(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (101, 130, 3), dtype=np.uint8)
    rows, columns = grid(101, 40, 9), grid(130, 48, 9)
    tiles = cut(picture, [(top, left) for top in rows for left in columns], (40, 48))
    assert tiles.shape == (len(rows) * len(columns), 40, 48, 3)
    assert tiles.flags.c_contiguous
    plan = mosaic(rows, columns, (40, 48), 4, (40, 48), range(len(tiles)))
    assert np.abs(merge(tiles[..., 0].astype(np.float32), plan) - picture[..., 0]).max() < 1e-3


def test_merging_needs_the_memory_of_a_map_or_two() -> None:
    starts = grid(1024, 64, 48)
    count = len(starts) ** 2
    assert count > 3000
    maps = np.ones((count, 64, 64), dtype=np.float32)
    plan = mosaic(starts, starts, (64, 64), 8, (64, 64), range(count))
    tracemalloc.start()
    whole = merge(maps, plan)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * whole.nbytes
