"""AUPRO against its definition, in plain loops with scikit-image's regions."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.metrics import GrowingRanking
from sspcab_edge.region_overlap import PRO_LIMIT, RegionOverlap, label_regions

measure = pytest.importorskip("skimage.measure", reason="scikit-image is not installed: no other definition")

Maps = list[npt.NDArray[np.float32]]
Masks = list[npt.NDArray[np.bool_]]


def by_definition(maps: Maps, masks: Masks, limit: float) -> float:
    """Every threshold, every region, one after the other; the curve is cut at the limit by interpolation."""
    regions = []
    for anomaly, mask in zip(maps, masks, strict=True):
        labels = measure.label(mask, connectivity=2)
        regions += [anomaly[labels == number] for number in range(1, labels.max() + 1)]
    normal = np.concatenate([anomaly[~mask] for anomaly, mask in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in sorted({float(value) for anomaly in maps for value in anomaly.ravel()}, reverse=True):
        rate = float((normal >= threshold).mean())
        points.append((rate, float(np.mean([(region >= threshold).mean() for region in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 > limit:
            if x0 < limit:
                y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
                area += (limit - x0) * (y0 + y1) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def streamed(maps: Maps, masks: Masks, limit: float, most: int = 2**23) -> tuple[float | None, int]:
    pixels, overlap = GrowingRanking(most), RegionOverlap(most)
    for anomaly, mask in zip(maps, masks, strict=True):
        pixels.add(anomaly, mask)
        overlap.add(anomaly, label_regions(mask))
    return overlap.area(pixels.ranking, pixels.dropped_bits, limit), overlap.dropped_bits


def scene(seed: int, levels: int) -> tuple[Maps, Masks]:
    """Maps with ties, masks with regions of many sizes that touch by corners, too."""
    random = np.random.default_rng(seed)
    maps, masks = [], []
    for _ in range(3):
        mask = random.random((9, 12)) < random.uniform(0.05, 0.5)
        noise = random.random((9, 12)) + random.uniform(0, 1) * mask
        maps.append((np.round(noise * levels) / levels).astype(np.float32))
        masks.append(mask)
    masks[0][2, 2] = True
    masks[1][0, 0] = False
    return maps, masks


@given(st.integers(0, 10_000), st.sampled_from([2, 7, 1000]), st.sampled_from([0.05, PRO_LIMIT, 1.0]))
def test_it_is_what_the_paper_defines(seed: int, levels: int, limit: float) -> None:
    maps, masks = scene(seed, levels)
    got, dropped = streamed(maps, masks, limit)
    assert dropped == 0
    assert got == pytest.approx(by_definition(maps, masks, limit), abs=1e-12)


def test_every_region_counts_the_same_whatever_its_size() -> None:
    """A large region found whole and a small one missed are a half, where pixels would say nearly all."""
    mask = np.zeros((40, 40), bool)
    mask[:20] = True
    mask[30, 30] = True
    anomaly = np.zeros((40, 40), np.float32)
    anomaly[:20] = 1
    got, _ = streamed([anomaly], [mask], PRO_LIMIT)
    # the missed region is found with all normal pixels alone: along the line from (0, 1/2) to (1, 1)
    assert got == pytest.approx(0.5 + 0.5 * PRO_LIMIT / 2)


def test_corners_connect() -> None:
    assert label_regions(np.eye(5, dtype=bool)).max() == 1
    assert label_regions(np.zeros((3, 4), bool)).max() == 0


def test_bounded_memory_changes_little() -> None:
    random = np.random.default_rng(3)
    masks = [random.random((64, 64)) < 0.3 for _ in range(6)]
    maps = [(random.normal(size=(64, 64)) + mask).astype(np.float32) for mask in masks]
    exact, _ = streamed(maps, masks, PRO_LIMIT)
    bounded, dropped = streamed(maps, masks, PRO_LIMIT, most=2000)
    assert dropped > 0
    assert bounded == pytest.approx(exact, abs=1e-3)


def test_nothing_to_find_or_nothing_normal_is_no_figure() -> None:
    anomaly = np.ones((2, 2), np.float32)
    assert streamed([anomaly], [np.zeros((2, 2), bool)], PRO_LIMIT)[0] is None
    assert streamed([anomaly], [np.ones((2, 2), bool)], PRO_LIMIT)[0] is None
    with pytest.raises(ValueError, match="expected the same shape"):
        RegionOverlap().add(anomaly, np.zeros((1, 2), np.int32))
