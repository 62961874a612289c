"""Metrics of rankings, of labels and of verdicts that changed; NumPy only.

A ranking of labelled scores is kept as counts by distinct value, from which every area follows: it is small
where scores are tied, and rankings of parts add up to the ranking of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Confusion",
    "GrowingRanking",
    "Ranking",
    "auroc",
    "average_precision",
    "confusion",
    "merge",
    "precision_slack",
    "rank",
    "ranked_auroc",
    "ranked_average_precision",
    "roc_slack",
    "trials_needed",
    "upper_bound_95",
    "without_low_bits",
]

MOST_VALUES = 2**23
"""Distinct values that a :class:`GrowingRanking` keeps: those of 128 maps of 256x256 different pixels."""

Scores = Sequence[float] | npt.NDArray[np.floating]
Labels = Sequence[bool] | npt.NDArray[np.bool_]
_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Labelled scores, counted by value.

    Attributes:
        values: (n,) float32 or float64, the distinct scores, the lowest first.
        positives: (n,) int64, how many anomalous scores have each value.
        negatives: (n,) int64, how many normal ones.
    """

    values: npt.NDArray[np.floating]
    positives: _Counts
    negatives: _Counts

    @property
    def totals(self) -> tuple[int, int]:
        """How many scores are anomalous, and how many normal."""
        return int(self.positives.sum()), int(self.negatives.sum())


def rank(scores: Scores, labels: Labels) -> Ranking:
    """The ranking of scores (n,) by labels (n,), True for anomalous. -0.0 counts as 0.0.

    Raises:
        ValueError: There is not one label for each score.
    """
    values = np.asarray(scores)
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    truth = np.asarray(labels, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ValueError(f"scores are {values.shape}, labels {truth.shape}, expected (n,) and (n,)")
    return _count(values, truth.astype(np.int64), (~truth).astype(np.int64))


def merge(rankings: Sequence[Ranking]) -> Ranking:
    """The ranking of all scores of one or more rankings together."""
    return _count(
        np.concatenate([ranking.values for ranking in rankings]),
        np.concatenate([ranking.positives for ranking in rankings]),
        np.concatenate([ranking.negatives for ranking in rankings]),
    )


def _count(values: npt.NDArray[np.floating], positives: _Counts, negatives: _Counts) -> Ranking:
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    first = np.ones(len(ascending), dtype=bool)
    first[1:] = ascending[1:] != ascending[:-1]
    starts = np.flatnonzero(first)
    return Ranking(
        ascending[starts],
        np.asarray(np.add.reduceat(positives[order], starts), dtype=np.int64),
        np.asarray(np.add.reduceat(negatives[order], starts), dtype=np.int64),
    )


def auroc(scores: Scores, labels: Labels) -> float | None:
    """Area under the ROC curve: the chance that an anomalous score is above a normal one, ties half.

    Mann-Whitney's U over the number of pairs. None where one of the two classes is missing.
    """
    return ranked_auroc(rank(scores, labels))


def average_precision(scores: Scores, labels: Labels) -> float | None:
    """Average precision: the precision at each distinct score, weighted by the recall that it adds.

    The sum of (R_i - R_{i-1}) P_i over the scores from the highest to the lowest, tied scores in one step,
    without interpolation (scikit-learn, ``average_precision_score``). None where one of the two classes is
    missing: without normal scores it is 1 whatever the scores are.
    """
    return ranked_average_precision(rank(scores, labels))


def ranked_auroc(ranking: Ranking) -> float | None:
    """:func:`auroc` of a ranking."""
    positives, negatives = ranking.totals
    if positives == 0 or negatives == 0:
        return None
    below = np.cumsum(ranking.negatives) - ranking.negatives
    wins = float((ranking.positives * (below + ranking.negatives / 2)).sum())
    return wins / (float(positives) * negatives)


def ranked_average_precision(ranking: Ranking) -> float | None:
    """:func:`average_precision` of a ranking."""
    positives, negatives = ranking.totals
    if positives == 0 or negatives == 0:
        return None
    found = ranking.positives[::-1]
    hits = np.cumsum(found)
    alarms = np.cumsum(ranking.negatives[::-1])
    return float((found * (hits / (hits + alarms))).sum()) / positives


def roc_slack(ranking: Ranking) -> float:
    """How far :func:`ranked_auroc` can be from that of the same scores, had ties been told apart.

    Half of the pairs that are tied, over all pairs. 0 where a class is missing.
    """
    positives, negatives = ranking.totals
    if positives == 0 or negatives == 0:
        return 0.0
    tied = float((ranking.positives * ranking.negatives.astype(np.float64)).sum())
    return tied / 2 / (float(positives) * negatives)


def precision_slack(ranking: Ranking) -> float:
    """How far :func:`ranked_average_precision` can be from that of the same scores, had ties been told apart.

    Within a tie of p anomalous and n normal scores the precision lies between that of one anomalous score
    behind all n normal ones and that of all p before them. 0 where a class is missing.
    """
    reached = ranked_average_precision(ranking)
    if reached is None:
        return 0.0
    found, wrong = ranking.positives[::-1], ranking.negatives[::-1]
    hits, alarms = np.cumsum(found), np.cumsum(wrong)
    some = found > 0
    found, wrong, hits, alarms = found[some], wrong[some], hits[some], alarms[some]
    best = hits / (hits + alarms - wrong)
    worst = (hits - found + 1) / (hits - found + 1 + alarms)
    total = ranking.totals[0]
    highest, lowest = (float((found * precision).sum()) / total for precision in (best, worst))
    return max(highest - reached, reached - lowest)


class GrowingRanking:
    """A ranking of float32 scores that come in parts, in bounded memory: every pixel of many maps.

    Exact as long as there are at most ``most_values`` distinct scores. Beyond that, the lowest bits of their
    significands are dropped, one bit after the other, and scores that differ only there count as tied;
    :attr:`slack` bounds what that can change (below 3e-7 as measured, 60 to 300 maps of 1024x1024 pixels).
    It keeps at most 0.2 GB and takes at most 1.1 GB while it merges.

    Attributes:
        dropped_bits: How many low bits of every score were dropped; 0: the ranking is exact.
    """

    def __init__(self, most_values: int = MOST_VALUES) -> None:
        self.dropped_bits = 0
        self._most_values = most_values
        self._parts: list[Ranking] = []
        self._waiting = 0

    def add(self, scores: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> None:
        """Add scores and labels, both of any one shape.

        Raises:
            ValueError: The shapes differ.
        """
        if scores.shape != labels.shape:
            raise ValueError(f"scores are {scores.shape}, labels {labels.shape}, expected the same shape")
        part = rank(without_low_bits(scores.ravel(), self.dropped_bits), labels.ravel())
        self._parts.append(part)
        self._waiting += len(part.values)
        if self._waiting > max(1, self._most_values // 4):
            self._merge()

    @property
    def ranking(self) -> Ranking:
        """The ranking of all that was added."""
        self._merge()
        return self._parts[0]

    @property
    def slack(self) -> float:
        """How far AUROC and average precision can be from those of the exact scores; 0.0 for none."""
        ranking = self.ranking
        return max(roc_slack(ranking), precision_slack(ranking)) if self.dropped_bits else 0.0

    def _merge(self) -> None:
        empty = Ranking(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
        merged = merge(self._parts) if self._parts else empty
        while len(merged.values) > self._most_values:
            self.dropped_bits += 1
            shorter = without_low_bits(merged.values, self.dropped_bits)
            merged = _count(shorter, merged.positives, merged.negatives)
        self._parts, self._waiting = [merged], 0


def without_low_bits(scores: npt.NDArray[np.floating], bits: int) -> npt.NDArray[np.float32]:
    """float32 scores (n,) rounded towards zero by dropping low bits, which keeps their order."""
    raw = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    return (raw & np.uint32((0xFFFFFFFF << bits) & 0xFFFFFFFF)).view(np.float32)


@dataclass(frozen=True, slots=True)
class Confusion:
    """Labels against verdicts, counted; anomalous is positive.

    A share is None where there is nothing to take it of.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def positives(self) -> int:
        """Anomalous ones."""
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> int:
        """Normal ones."""
        return self.true_negatives + self.false_positives

    @property
    def precision(self) -> float | None:
        """Share of those flagged that are anomalous."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of those anomalous that are flagged."""
        return _share(self.true_positives, self.positives)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)."""
        wrong = self.false_positives + self.false_negatives
        return _share(2 * self.true_positives, 2 * self.true_positives + wrong)

    @property
    def accuracy(self) -> float | None:
        """Share of verdicts that are right."""
        return _share(self.true_positives + self.true_negatives, self.positives + self.negatives)

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of those normal that are flagged."""
        return _share(self.false_positives, self.negatives)

    @property
    def false_alarm_upper95(self) -> float:
        """Its exact one-sided 95 % upper bound; 1.0 where nothing is normal."""
        return upper_bound_95(self.false_positives, self.negatives)

    @property
    def miss_rate(self) -> float | None:
        """Share of those anomalous that are not flagged."""
        return _share(self.false_negatives, self.positives)

    @property
    def miss_upper95(self) -> float:
        """Its exact one-sided 95 % upper bound; 1.0 where nothing is anomalous."""
        return upper_bound_95(self.false_negatives, self.positives)


def confusion(flagged: Labels, labels: Labels) -> Confusion:
    """Count verdicts (n,) against labels (n,), True for anomalous in both.

    Raises:
        ValueError: There is not one verdict for each label.
    """
    said, truth = np.asarray(flagged, dtype=bool), np.asarray(labels, dtype=bool)
    if said.ndim != 1 or said.shape != truth.shape:
        raise ValueError(f"verdicts are {said.shape}, labels {truth.shape}, expected (n,) and (n,)")
    return Confusion(
        true_positives=int((said & truth).sum()),
        false_positives=int((said & ~truth).sum()),
        false_negatives=int((~said & truth).sum()),
        true_negatives=int((~said & ~truth).sum()),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


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
