"""Metrics against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from sspcab_edge.metrics import auroc, trials_needed, upper_bound_95


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60))
def test_auroc_is_scikit_learns_with_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = [float(score) for score, _ in pairs]
    labels = [label for _, label in pairs]
    if all(labels) or not any(labels):
        assert auroc(scores, labels) is None
    else:
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_upper_bound_is_clopper_and_pearsons(case: tuple[int, int]) -> None:
    events, trials = case
    expected = 1.0 if events == trials else float(beta.ppf(0.95, events + 1, trials - events))
    assert upper_bound_95(events, trials) == pytest.approx(expected, abs=1e-9)


def test_no_flip_in_sixty_pictures_bounds_the_rate_below_five_percent() -> None:
    assert upper_bound_95(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60))
    assert upper_bound_95(0, 0) == 1.0


@pytest.mark.parametrize(("events", "trials"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(events: int, trials: int) -> None:
    with pytest.raises(ValueError, match="trials"):
        upper_bound_95(events, trials)


def test_auroc_of_many_scores_is_fast_enough_to_be_exact() -> None:
    random = np.random.default_rng(3)
    labels = random.random(5000) < 0.3
    scores = random.normal(size=5000) + labels
    assert auroc(scores, labels.tolist()) == pytest.approx(roc_auc_score(labels, scores))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 12), st.sampled_from([0.02, 0.05, 0.1, 0.25, 0.5, 0.9, 0.99]))
def test_trials_needed_is_the_first_count_that_is_enough(events: int, bound: float) -> None:
    trials = np.arange(events + 1, 1500)
    enough = beta.ppf(0.95, events + 1, trials - events) <= bound
    assert trials_needed(events, bound) == trials[np.argmax(enough)]


def test_trials_needed_for_small_rates_are_those_of_the_closed_form() -> None:
    """Without an event the bound is 1 - 0.05 ** (1 / n)."""
    for bound in (0.3, 0.05, 0.01, 0.001, 0.0001):
        expected = int(np.ceil(np.log(0.05) / np.log1p(-bound)))
        assert trials_needed(0, bound) == expected


@pytest.mark.parametrize(("events", "bound"), [(-1, 0.1), (0, 0.0), (0, 1.0), (0, -0.5), (0, float("nan"))])
def test_impossible_bounds_are_refused(events: int, bound: float) -> None:
    with pytest.raises(ValueError, match="bound"):
        trials_needed(events, bound)
