"""Statistics against NumPy and against exact binomial sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_bench.summary import geometric_mean, median_interval, summarise

_DURATIONS = st.lists(st.floats(1e-3, 1e5), min_size=2, max_size=60)


@given(_DURATIONS)
def test_statistics_are_numpys(durations: list[float]) -> None:
    got = summarise(durations)
    assert got.count == len(durations)
    assert (got.min, got.max) == (min(durations), max(durations))
    assert got.mean == pytest.approx(np.mean(durations))
    assert got.std == pytest.approx(np.std(durations, ddof=1), abs=1e-9)
    assert got.cov == pytest.approx(np.std(durations, ddof=1) / np.mean(durations), abs=1e-9)
    expected = np.percentile(durations, [50, 90, 95, 99], method="linear")
    assert [got.p50, got.p90, got.p95, got.p99] == pytest.approx(expected)


def test_a_percentile_lies_between_two_durations() -> None:
    got = summarise([float(value) for value in range(11)])
    assert [got.p50, got.p90, got.p95, got.p99] == pytest.approx([5.0, 9.0, 9.5, 9.9])


def test_one_duration_has_no_spread() -> None:
    got = summarise([2.5])
    assert (got.p99, got.std, got.cov, got.stable) == (2.5, 0.0, 0.0, True)


@pytest.mark.parametrize(("spread", "stable"), [(0.0499, True), (0.0501, False)])
def test_stable_up_to_five_percent(spread: float, stable: bool) -> None:
    low, high = 100 * (1 - spread / math.sqrt(2)), 100 * (1 + spread / math.sqrt(2))
    assert summarise([low, high]).cov == pytest.approx(spread)
    assert summarise([low, high]).stable is stable


def test_nothing_cannot_be_summed_up() -> None:
    with pytest.raises(ValueError, match="no durations"):
        summarise([])
    with pytest.raises(ValueError, match="no values"):
        median_interval([])
    with pytest.raises(ValueError, match="no values"):
        geometric_mean([])


@pytest.mark.parametrize("count", [6, 7, 8, 10, 17, 25, 40, 71, 100, 400])
def test_interval_is_the_tightest_of_95_percent(count: int) -> None:
    got = median_interval([float(value) for value in range(1, count + 1)])
    assert got.low is not None
    assert got.high is not None
    k = int(got.low)
    assert got.high == count + 1 - k
    assert got.median == (count + 1) / 2

    def misses(rank: int) -> float:
        return 2 * float(sum(math.comb(count, below) for below in range(rank)) / 2**count)

    assert misses(k) <= 0.05 < misses(k + 1)


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_values_have_no_interval(count: int) -> None:
    got = median_interval([3.0] * count)
    assert (got.median, got.low, got.high) == (3.0, None, None)


def test_geometric_mean_treats_twice_and_half_alike() -> None:
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)
    assert geometric_mean([1.5]) == pytest.approx(1.5)
