"""AUPRO: how much of every anomalous region is found, whatever its size, at few false alarms.

After Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 4.1.2. The per-region overlap
at a threshold is the share of a connected region's pixels that score at least as much, averaged over all
regions of all images; the false-positive rate is that of all normal pixels. AUPRO is the area under the first
over the second up to a limit of the second, divided by that limit.

Every anomalous pixel adds the same share of its region to the overlap. So the curve is a ROC curve whose
anomalous pixels weigh one over the size of their region, and is kept like one: as weights by distinct score.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.metrics import MOST_VALUES, Ranking, without_low_bits

__all__ = ["PRO_LIMIT", "RegionOverlap", "label_regions"]

PRO_LIMIT = 0.3
"""Largest false-positive rate that counts, as in the paper."""

_Floats = npt.NDArray[np.float64]


def label_regions(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """(H, W) bool -> (H, W) int32: 0 where the mask is False, 1 to n in its n regions.

    Pixels that touch by a side or a corner belong together (8-connectivity).
    """
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1], dtype=np.int32)


class RegionOverlap:
    """The scores of anomalous regions, map after map, in bounded memory.

    Beyond ``most_values`` distinct scores the lowest bits of their significands are dropped, as
    :class:`~sspcab_edge.metrics.GrowingRanking` does.

    Attributes:
        regions: How many were added.
        dropped_bits: How many low bits of every score were dropped; 0: the scores are exact.
    """

    def __init__(self, most_values: int = MOST_VALUES) -> None:
        self.regions = 0
        self.dropped_bits = 0
        self._most_values = most_values
        self._values: list[npt.NDArray[np.float32]] = []
        self._weights: list[_Floats] = []
        self._waiting = 0

    def add(self, scores: npt.NDArray[np.float32], regions: npt.NDArray[np.int32]) -> None:
        """Add the scores (h, w) of a map and the region (h, w) of each, 0 for none.

        Raises:
            ValueError: The shapes differ.
        """
        if scores.shape != regions.shape:
            raise ValueError(f"scores are {scores.shape}, regions {regions.shape}, expected the same shape")
        inside = regions > 0
        _, which, sizes = np.unique(regions[inside], return_inverse=True, return_counts=True)
        self.regions += len(sizes)
        self._values.append(scores[inside].astype(np.float32))
        self._weights.append(1.0 / sizes[which])
        self._waiting += len(which)
        if self._waiting > self._most_values:
            self._merge()

    def area(self, pixels: Ranking, pixels_dropped: int = 0, limit: float = PRO_LIMIT) -> float | None:
        """AUPRO, 0 to 1; None where no region was added, or no pixel is normal.

        Args:
            pixels: Every pixel of the same maps; its normal ones count.
            pixels_dropped: How many low bits its scores lack.
            limit: Largest false-positive rate that counts.
        """
        normal = pixels.totals[1]
        if not self.regions or not normal:
            return None
        self._merge()
        bits = max(self.dropped_bits, pixels_dropped)
        values = np.concatenate([pixels.values.astype(np.float32), self._values[0]])
        alarms = np.concatenate([pixels.negatives.astype(np.float64), np.zeros(len(self._values[0]))])
        found = np.concatenate([np.zeros(len(pixels.values)), self._weights[0]])
        _, alarms, found = _by_value(without_low_bits(values, bits), alarms, found)
        rate = np.concatenate([[0.0], np.cumsum(alarms[::-1]) / normal])
        overlap = np.concatenate([[0.0], np.cumsum(found[::-1]) / self.regions])
        return _area_up_to(rate, overlap, limit) / limit

    def _merge(self) -> None:
        values, weights = np.concatenate(self._values), np.concatenate(self._weights)
        values, weights, _ = _by_value(without_low_bits(values, self.dropped_bits), weights, weights)
        while len(values) > self._most_values // 2:
            self.dropped_bits += 1
            values, weights, _ = _by_value(without_low_bits(values, self.dropped_bits), weights, weights)
        self._values, self._weights, self._waiting = [values], [weights], len(values)


def _by_value(
    values: npt.NDArray[np.float32], first: _Floats, second: _Floats
) -> tuple[npt.NDArray[np.float32], _Floats, _Floats]:
    """Distinct values, the lowest first, and the sums of both weights by value."""
    distinct, which = np.unique(values, return_inverse=True)
    sums = (np.bincount(which, weights, len(distinct)) for weights in (first, second))
    return distinct, *sums  # type: ignore[return-value]


def _area_up_to(x: _Floats, y: _Floats, limit: float) -> float:
    """Area under the lines through points of rising x, for x from 0 to ``limit``."""
    inside = x <= limit
    xs, ys = x[inside], y[inside]
    if not inside.all():
        xs, ys = np.append(xs, limit), np.append(ys, np.interp(limit, x, y))
    return float((np.diff(xs) * (ys[1:] + ys[:-1]) / 2).sum())
