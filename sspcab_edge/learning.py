"""A threshold from normal footage, for a wished rate of false alarms, with an interval that can be believed.

Frames that follow each other are alike: a thousand frames of one minute are not a thousand trials. So the
interval comes from batch means: footage is cut into blocks that are long against the correlation, and the
shares above the threshold in the blocks vary as independent trials do. Where there are too few of these, the
answer is "not enough yet", and how much is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import InputError

__all__ = ["Learned", "NotEnough", "effective_samples", "learn_threshold", "rate_interval"]

Scores = npt.NDArray[np.float64]

_NEEDED_RUNS = 10.0
"""Independent exceedances that an interval is based on, at least."""
_LEAST_EFFECTIVE = 50.0
_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Learned:
    """A threshold.

    Attributes:
        threshold: Scores above are false alarms of the footage.
        rate: Share of the footage's frames above it.
        low: The true share is between this ...
        high: ... and this, with 95 % confidence.
        effective: How many independent frames the footage is worth.
    """

    threshold: float
    rate: float
    low: float
    high: float
    effective: float


@dataclass(frozen=True, slots=True)
class NotEnough:
    """The footage cannot tell.

    Attributes:
        effective: How many independent frames it is worth.
        needed_share: How many times as much footage is needed, about.
    """

    effective: float
    needed_share: float


def learn_threshold(scores: Scores, rate: float) -> Learned | NotEnough:
    """The threshold that a share ``rate`` of normal frames exceeds.

    Args:
        scores: (N,) of normal frames, in order of time, at even intervals.
        rate: Wished share of frames above, between 0 and 0.5.

    Raises:
        InputError: Scores are not finite, or the rate is no such share.
    """
    scores = np.asarray(scores, dtype=np.float64).ravel()
    if not np.isfinite(scores).all():
        raise InputError("scores to learn from must be finite")
    if not 0 < rate < 0.5:
        raise InputError(f"a false-alarm rate of {rate} per frame, expected more than 0 and less than 0.5")
    if len(scores) < _LEAST_EFFECTIVE:
        return NotEnough(float(len(scores)), _LEAST_EFFECTIVE / max(1, len(scores)))
    threshold = float(np.quantile(scores, 1 - rate, method="higher"))
    above = scores > threshold
    worth = min(effective_samples(above.astype(float)), effective_samples(_ranks(scores)))
    runs = worth * rate
    if runs < _NEEDED_RUNS or worth < _LEAST_EFFECTIVE:
        share = max(_NEEDED_RUNS / max(runs, 1e-9), _LEAST_EFFECTIVE / max(worth, 1e-9))
        return NotEnough(worth, share)
    observed = float(above.mean())
    low, high = rate_interval(observed, worth)
    return Learned(threshold, observed, low, high, worth)


def rate_interval(share: float, effective: float) -> tuple[float, float]:
    """95 % interval of a true share, seen as ``share`` in so many independent trials.

    Wilson (1927), with the number of trials lessened by what estimating it costs.
    """
    trials = effective * 0.8
    z2 = _Z_95**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z_95 / (1 + z2 / trials) * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def effective_samples(series: Scores) -> float:
    """How many independent samples the mean of a correlated series is worth.

    Two estimates, of which the smaller counts: the initial positive sequence of autocorrelations (Geyer 1992:
    sums of neighbouring pairs, as long as they are positive), and the variance of the means of blocks, long
    against that, and at least twenty of them.
    """
    count = len(series)
    centred = series - series.mean()
    variance = float(centred @ centred) / count
    if variance == 0:
        return 1.0
    time = _correlation_time(centred, variance)
    length = min(max(1, ceil(5 * time)), count // 20)
    by_blocks = count / time
    if length > 1:
        blocks = count // length
        means = centred[: blocks * length].reshape(blocks, length).mean(axis=1)
        spread = float(means.var(ddof=1))
        if spread > 0:
            by_blocks = variance / (spread / blocks) if spread else by_blocks
    return max(1.0, min(count / time, by_blocks, float(count)))


def _correlation_time(centred: Scores, variance: float) -> float:
    """1 + 2 * sum of autocorrelations, up to where their pairs are no longer positive."""
    count = len(centred)
    size = 1 << ceil(log(2 * count, 2))
    spectrum = np.fft.rfft(centred, size)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), size)[: count // 2] / (count * variance)
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    kept = pairs[: ends[0]] if len(ends) else pairs
    kept = np.minimum.accumulate(kept)  # Geyer's monotone form
    return max(1.0, 2 * float(kept.sum()) - 1)


def _ranks(scores: Scores) -> Scores:
    return np.argsort(np.argsort(scores)).astype(np.float64)
