"""From scores to verdicts: fitting one threshold, mapping scores, deciding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Decision, Quantiles
from sspcab_edge.score_map import ScoreMap

__all__ = [
    "CLEARANCE",
    "DEFAULT_FALSE_ALARM_RATE",
    "apply_score_map",
    "is_anomalous",
    "quantiles",
    "score_scale",
    "threshold_from_labels",
    "threshold_from_quantile",
    "threshold_from_rate",
]

CLEARANCE = 1e-4
"""How far a fitted threshold lies above the normal score that decides it, times :func:`score_scale`.

The picture with that score then has the same label in every artifact, whichever way the last digit is
rounded.
"""

_SMALL = 10.0
"""How many times the largest normal score their scale is at most, so that :data:`CLEARANCE` is at most a
thousandth of it: far more than rounding, and far less than a defect."""

DEFAULT_FALSE_ALARM_RATE = 0.01
"""Share of normal frames that may be flagged, when nothing else is asked for."""

Scores = Sequence[float] | npt.NDArray[np.floating]


def is_anomalous(score: float, threshold: float | None) -> bool | None:
    """The label of a score: strictly above the threshold; None where there is no threshold."""
    return None if threshold is None else bool(score > threshold)


def apply_score_map(score_map: ScoreMap, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Artifact scores (N,) on the source's scale, float64; the end segments go on outside the knots."""
    values = np.asarray(scores, dtype=np.float64)
    if score_map.identity:
        return values
    x, y = np.asarray(score_map.artifact), np.asarray(score_map.source)
    segment = np.clip(np.searchsorted(x, values, side="right") - 1, 0, len(x) - 2)
    slope = (y[segment + 1] - y[segment]) / (x[segment + 1] - x[segment])
    return np.asarray(y[segment] + slope * (values - x[segment]), dtype=np.float64)


def quantiles(scores: Scores) -> Quantiles:
    """Five numbers of a distribution (linear interpolation).

    Raises:
        OptionError: No scores, or one that is not finite.
    """
    values = _finite(scores)
    low, q25, median, q75, high = (float(v) for v in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
    return Quantiles(minimum=low, q25=q25, median=median, q75=q75, maximum=high)


def score_scale(normal: Quantiles | None) -> float:
    """What small differences of scores are shares of: max(1, IQR), less where all normal scores are small.

    Mean squared errors of a reconstruction are 1e-4 and less: 1e-4 more would be twice the threshold.
    """
    if normal is None:
        return 1.0
    reach = max(abs(normal.minimum), abs(normal.maximum))
    return max(min(1.0, _SMALL * reach) or 1.0, normal.iqr)


def threshold_from_rate(normal: Scores, rate: float = DEFAULT_FALSE_ALARM_RATE) -> Decision:
    """The threshold that flags at most ``rate`` of further normal frames, in expectation.

    The k-th smallest of n exchangeable normal scores, k = ceil((n + 1)(1 - rate)), is exceeded by a new one
    with probability at most ``rate`` (split conformal prediction, Vovk et al. 2005). With fewer than
    1/rate - 1 scores no order statistic is high enough: the largest is taken, and the note says which rate
    it stands for. The threshold lies :data:`CLEARANCE` of the scores' scale above the score.

    Raises:
        OptionError: ``rate`` is not between 0 and 1, no scores, or one that is not finite.
    """
    if not 0 < rate < 1:
        raise OptionError(f"false-alarm rate is {rate}, expected more than 0 and less than 1")
    values = np.sort(_finite(normal))
    n = len(values)
    k = math.ceil((n + 1) * (1 - rate) - 1e-9)
    note = None
    if k > n:
        k = n
        needed = math.ceil(1 / rate - 1e-9) - 1
        note = (
            f"{n} normal pictures support a false-alarm rate of {1 / (n + 1):.3g}, not {rate:.3g}: "
            f"the highest normal score is the threshold; give {needed} or more"
        )
    spread = quantiles(values)
    return Decision(
        threshold=float(values[k - 1]) + CLEARANCE * score_scale(spread),
        policy="false-alarm-rate",
        parameter=rate,
        fitted_on=n,
        normal=spread,
        note=note,
    )


def threshold_from_quantile(normal: Scores, quantile: float) -> Decision:
    """The ``quantile`` (0 to 1, linear interpolation) of the normal scores, and a little above it.

    Raises:
        OptionError: ``quantile`` is out of range, no scores, or one that is not finite.
    """
    if not 0 <= quantile <= 1:
        raise OptionError(f"quantile is {quantile}, expected 0 to 1")
    values = _finite(normal)
    spread = quantiles(values)
    return Decision(
        threshold=float(np.quantile(values, quantile)) + CLEARANCE * score_scale(spread),
        policy="quantile",
        parameter=quantile,
        fitted_on=len(values),
        normal=spread,
    )


def threshold_from_labels(scores: Scores, labels: Sequence[bool]) -> Decision:
    """The threshold with the best F1 on labelled scores, half-way to the next lower score.

    Among equal F1 the highest threshold wins (fewest false alarms).

    Raises:
        OptionError: Lengths differ, no anomalous or no normal score, or one that is not finite.
    """
    values = _finite(scores)
    truth = np.asarray(labels, dtype=bool)
    if truth.shape != values.shape:
        raise OptionError(f"{len(values)} scores but {len(truth)} labels")
    if truth.all() or not truth.any():
        raise OptionError("labelled pictures are all normal or all anomalous, expected both")
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(truth[order])
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)
    flagged = np.arange(1, len(ranked) + 1)
    f1 = np.where(last_of_ties, 2 * hits / (flagged + truth.sum()), -1.0)
    best = int(np.argmax(f1))
    lower = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - max(1e-6, abs(ranked[best]) * 1e-6)
    return Decision(
        threshold=float((ranked[best] + lower) / 2),
        policy="best-f1",
        parameter=float(f1[best]),
        fitted_on=len(values),
        normal=quantiles(values[~truth]),
    )


def _finite(scores: Scores) -> npt.NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        raise OptionError("no scores to fit a threshold to")
    if not np.isfinite(values).all():
        raise OptionError("a score is not finite: the network gives NaN or infinity on these pictures")
    return values
