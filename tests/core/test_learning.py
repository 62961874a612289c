"""Thresholds from normal footage: an interval that holds for correlated frames, or "not enough yet"."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import InputError
from sspcab_edge.learning import Learned, NotEnough, effective_samples, learn_threshold

_RUNS = 200


def correlated(phi: float, count: int, runs: int, seed: int) -> npt.NDArray[np.float64]:
    """(runs, count) of a stationary AR(1) process with standard normal values."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((runs, count)) * np.sqrt(1 - phi**2)
    series = np.empty((runs, count))
    series[:, 0] = rng.standard_normal(runs)
    for step in range(1, count):
        series[:, step] = phi * series[:, step - 1] + noise[:, step]
    return series


@pytest.mark.parametrize(
    ("phi", "count", "rate"),
    [(0.0, 2000, 0.01), (0.0, 20000, 0.01), (0.5, 20000, 0.01), (0.8, 20000, 0.01), (0.9, 20000, 0.05),
     (0.95, 20000, 0.05), (0.98, 20000, 0.05)],
)  # fmt: skip
def test_the_interval_covers_the_true_rate(phi: float, count: int, rate: float) -> None:
    covered = declined = 0
    for series in correlated(phi, count, _RUNS, seed=4):
        found = learn_threshold(np.exp(series), rate)  # heavy tail: only the order counts
        if isinstance(found, NotEnough):
            declined += 1
            continue
        true = 1 - NormalDist().cdf(float(np.log(found.threshold)))
        covered += found.low <= true <= found.high
    decided = _RUNS - declined
    print(f"phi {phi}, {count} frames, rate {rate}: {declined} declined, {covered} of {decided} covered")
    assert covered >= 0.9 * decided
    assert decided >= _RUNS / 2


def test_too_little_is_said() -> None:
    found = learn_threshold(correlated(0.98, 2000, 1, seed=5)[0], 0.01)
    assert isinstance(found, NotEnough)
    assert found.needed_share > 1
    assert isinstance(learn_threshold(np.arange(10.0), 0.1), NotEnough)


def test_a_scene_that_never_changes_is_worth_one_frame() -> None:
    found = learn_threshold(np.full(5000, 0.3), 0.01)
    assert isinstance(found, NotEnough)
    assert found.effective == 1


def test_effective_samples_of_a_known_process() -> None:
    """An AR(1) mean is worth n (1 - phi) / (1 + phi)."""
    worth = [effective_samples(series) for series in correlated(0.8, 20000, 20, seed=6)]
    assert np.median(worth) == pytest.approx(20000 * 0.2 / 1.8, rel=0.25)


def test_a_known_quantile() -> None:
    found = learn_threshold(np.random.default_rng(7).permutation(np.arange(10_000.0)), 0.01)
    assert isinstance(found, Learned)
    assert found.threshold == pytest.approx(9900, abs=1)
    assert found.low < 0.01 < found.high


@pytest.mark.parametrize("rate", [0.0, 0.5, -1.0, float("nan")])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(InputError, match="false-alarm rate"):
        learn_threshold(np.arange(100.0), rate)


def test_scores_that_are_none() -> None:
    with pytest.raises(InputError, match="finite"):
        learn_threshold(np.array([1.0, np.nan]), 0.1)
