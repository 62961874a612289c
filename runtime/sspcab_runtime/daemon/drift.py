"""Whether normal scores still look as they did when the threshold was fitted.

Scores are sorted into the four quarters that normal scores had. Frames that follow each other are alike, so
counting them all would find drift in any scene: only every so many seconds one score counts, and its
neighbours' correlation reduces what the counts are worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sspcab_edge.manifest import Quantiles
from sspcab_runtime.daemon.config import DriftConfig

__all__ = ["DriftWatch", "drift_evidence"]

_SAMPLES = 240
"""Scores of one window; fewer than half say nothing."""
_QUARTERS = 4
# upper tail of chi-square with 3 degrees of freedom has a closed form
_WINDOWS = 2


class DriftWatch:
    """Watches the scores of one camera.

    Args:
        config: Its drift table.
        normal: Scores of normal pictures, as the manifest has them.
    """

    def __init__(self, config: DriftConfig, normal: Quantiles) -> None:
        self._config = config
        self._edges = (normal.q25, normal.median, normal.q75)
        self._every_s = config.window_s / _SAMPLES
        self._scores: list[float] = []
        self._next_s: float | None = None
        self._end_s = 0.0
        self._windows = 0
        self.drifting = False

    def push(self, score: float, now: float) -> bool:
        """A score at monotonic time ``now``; whether scores have drifted."""
        if not self._config.window_s:
            return False
        if self._next_s is None:
            self._next_s, self._end_s = now, now + self._config.window_s
        if now >= self._next_s:
            self._scores.append(score)
            self._next_s = max(self._next_s + self._every_s, now)
        if now >= self._end_s:
            self._judge()
            self._scores.clear()
            self._end_s = now + self._config.window_s
        return self.drifting

    def _judge(self) -> None:
        if len(self._scores) < _SAMPLES // 2:
            return
        far = drift_evidence(np.asarray(self._scores), self._edges) < self._config.level
        self._windows = self._windows + 1 if far else 0
        self.drifting = self._windows >= _WINDOWS


def drift_evidence(scores: npt.NDArray[np.float64], edges: Sequence[float]) -> float:
    """p value of ``scores`` (in order of time) falling evenly between ``edges``, three quantiles.

    Pearson's chi-square of the four counts, divided by the variance inflation of correlated counts
    (1 + 2 * sum of autocorrelations of the ranks, up to the first that is not positive), with three degrees
    of freedom: Rao and Scott (1981), first-order correction.
    """
    quarter = np.searchsorted(np.asarray(edges), scores, side="right")
    counts = np.bincount(quarter, minlength=_QUARTERS)
    expected = len(scores) / _QUARTERS
    chi_square = float(np.square(counts - expected).sum()) / expected / _inflation(scores)
    return _tail(chi_square)


def _inflation(scores: npt.NDArray[np.float64]) -> float:
    ranks = np.argsort(np.argsort(scores)).astype(float)
    ranks -= ranks.mean()
    power = float(ranks @ ranks)
    if power == 0:
        return float(len(scores))
    total = 1.0
    for lag in range(1, len(ranks) // 2):
        correlation = float(ranks[lag:] @ ranks[:-lag]) / power
        if correlation <= 0:
            break
        total += 2 * correlation
    return total


def _tail(x: float) -> float:
    """Upper tail of the chi-square distribution with three degrees of freedom."""
    from math import erfc, exp, pi, sqrt

    return erfc(sqrt(x / 2)) + sqrt(2 * x / pi) * exp(-x / 2)
