"""Metrics of rankings and of verdicts that changed; NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["auroc", "trials_needed", "upper_bound_95"]


def auroc(scores: Sequence[float] | npt.NDArray[np.floating], labels: Sequence[bool]) -> float | None:
    """Area under the ROC curve: the chance that an anomalous score is above a normal one, ties half.

    Mann-Whitney's U over the number of pairs. None where one of the two classes is missing.
    """
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels, dtype=bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        return None
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    del distinct
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_rank[inverse][truth].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def upper_bound_95(events: int, trials: int) -> float:
    """Exact one-sided 95 % upper bound of a rate after ``events`` in ``trials`` (Clopper & Pearson 1934).

    The rate p at which seeing so few events would have a chance of 5 %; 1.0 for no trials at all.

    Raises:
        ValueError: ``events`` is negative or above ``trials``.
    """
    if not 0 <= events <= trials:
        raise ValueError(f"{events} events in {trials} trials")
    if events == trials:
        return 1.0
    low, high = events / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_cdf(events, trials, middle) > 0.05:
            low = middle
        else:
            high = middle
    return high


def trials_needed(events: int, bound: float) -> int:
    """Fewest trials whose :func:`upper_bound_95` after ``events`` is at most ``bound``.

    Raises:
        ValueError: ``events`` is negative, or ``bound`` is not between 0 and 1.
    """
    if events < 0 or not 0 < bound < 1:
        raise ValueError(f"{events} events, bound {bound}")
    low, high = events, max(1, 2 * events)
    while upper_bound_95(events, high) > bound:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound_95(events, middle) <= bound else (middle, high)
    return high


def _binomial_cdf(events: int, trials: int, rate: float) -> float:
    if rate <= 0.0:
        return 1.0
    if rate >= 1.0:
        return 0.0
    logs = (
        math.lgamma(trials + 1)
        - math.lgamma(i + 1)
        - math.lgamma(trials - i + 1)
        + i * math.log(rate)
        + (trials - i) * math.log1p(-rate)
        for i in range(events + 1)
    )
    return min(1.0, math.fsum(math.exp(value) for value in logs))
