"""What a series of durations says: percentiles, spread, and whether it was stable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "COV_LIMIT",
    "Histogram",
    "Interval",
    "Statistics",
    "geometric_mean",
    "histogram",
    "median_interval",
    "summarise",
]

COV_LIMIT = 0.05
"""A series is stable when its coefficient of variation is at most this. trtexec warns above 0.025, which is
for a GPU that nothing else uses; a CPU under a general-purpose system wanders more on its own."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A series of durations in milliseconds, summed up.

    Percentiles interpolate linearly between the two nearest order statistics (NumPy's default; type 7 of
    Hyndman and Fan, 1996): p99 of ten values lies just below the largest.

    Attributes:
        count: How many durations.
        std: Sample standard deviation, with n - 1; 0 for a single duration.
    """

    count: int
    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    std: float

    @property
    def cov(self) -> float:
        """Coefficient of variation: standard deviation over mean."""
        return self.std / self.mean if self.mean > 0 else 0.0

    @property
    def stable(self) -> bool:
        """Whether the coefficient of variation is at most :data:`COV_LIMIT`."""
        return self.cov <= COV_LIMIT


def summarise(durations_ms: Sequence[float]) -> Statistics:
    """The statistics of a series.

    Raises:
        ValueError: It is empty.
    """
    if not durations_ms:
        raise ValueError("no durations to sum up")
    values = np.asarray(durations_ms, dtype=np.float64)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
    return Statistics(
        count=len(values),
        min=float(values.min()),
        mean=float(values.mean()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=float(values.max()),
        std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a series is distributed, for people to look at.

    Attributes:
        low: Lower end of the first bin, in milliseconds.
        step: Width of each bin.
        counts: Durations in each bin.
        above: Durations beyond the last bin: the slowest one in a hundred.
    """

    low: float
    step: float
    counts: tuple[int, ...]
    above: int


def histogram(durations_ms: Sequence[float], bins: int = 40) -> Histogram:
    """Equal bins from the shortest to the 99th percentile.

    Raises:
        ValueError: The series is empty.
    """
    if not durations_ms:
        raise ValueError("no durations to draw")
    values = np.asarray(durations_ms, dtype=np.float64)
    low, high = float(values.min()), float(np.percentile(values, 99))
    step = max(high - low, 1e-6) / bins
    places = np.minimum((values[values <= high] - low) / step, bins - 1).astype(np.int64)
    counts = np.bincount(places, minlength=bins)
    return Histogram(low, step, tuple(int(count) for count in counts), len(values) - int(counts.sum()))


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its confidence interval of at least 95 %; no ``low`` and ``high`` for too few values."""

    median: float
    low: float | None
    high: float | None


def median_interval(values: Sequence[float]) -> Interval:
    """The median of independent values, and the order statistics that enclose the true one.

    The number of values below the true median is binomial with 1/2, whatever their distribution is: the k-th
    smallest and k-th largest miss it with probability ``2 P(B < k)``. The largest k with at most 5 % is
    taken; fewer than six values have none.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values to take the median of")
    ordered = sorted(values)
    n = len(ordered)
    k, tail = 0, 0.0
    for below in range(n):
        tail += math.exp(
            math.lgamma(n + 1) - math.lgamma(below + 1) - math.lgamma(n - below + 1) - n * math.log(2)
        )
        if 2 * tail > 0.05:
            break
        k = below + 1
    median = float(np.median(ordered))
    return Interval(median, ordered[k - 1], ordered[n - k]) if k else Interval(median, None, None)


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of positive values: the mean of ratios that does not favour one side.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no values to take the mean of")
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))
