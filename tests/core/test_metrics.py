"""Metrics against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from sspcab_edge.metrics import (
    Confusion,
    GrowingRanking,
    auroc,
    average_precision,
    confusion,
    merge,
    precision_slack,
    rank,
    ranked_auroc,
    ranked_average_precision,
    roc_slack,
    trials_needed,
    upper_bound_95,
)

TIED = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60)
"""Scores of which many are equal, with labels."""

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
PARTS = st.lists(st.lists(st.tuples(FLOATS, st.booleans()), max_size=30), max_size=8)
"""Float32 scores of any size and sign, with labels, in parts."""


def arrays(pairs: list[tuple[float, bool]]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    scores = np.array([score for score, _ in pairs], dtype=np.float32)
    return scores, np.array([label for _, label in pairs], dtype=bool)


@given(TIED)
def test_auroc_is_scikit_learns_with_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = [float(score) for score, _ in pairs]
    labels = [label for _, label in pairs]
    if all(labels) or not any(labels):
        assert auroc(scores, labels) is None
    else:
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


@given(TIED)
def test_average_precision_is_scikit_learns_with_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = [float(score) for score, _ in pairs]
    labels = [label for _, label in pairs]
    if all(labels) or not any(labels):
        assert average_precision(scores, labels) is None
    else:
        assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores))


def test_areas_by_hand() -> None:
    """An anomalous score above a tie of both kinds: 1 + 1/2 of 2 pairs are won; 1/2 * 1 + 1/2 * 2/3."""
    scores, labels = [0.9, 0.5, 0.5], [True, True, False]
    assert auroc(scores, labels) == 0.75
    assert average_precision(scores, labels) == pytest.approx(1 / 2 + 1 / 3)
    assert auroc([1, 2], [True, False]) == 0.0, "whole numbers are scores too"


def test_areas_of_nothing() -> None:
    for labels in ([], [True], [False, False]):
        scores = [0.5] * len(labels)
        assert auroc(scores, labels) is None
        assert average_precision(scores, labels) is None
        assert roc_slack(rank(scores, labels)) == precision_slack(rank(scores, labels)) == 0.0


@given(PARTS.filter(bool))
def test_rankings_of_parts_add_up_to_the_ranking_of_the_whole(parts: list[list[tuple[float, bool]]]) -> None:
    whole = rank(*arrays([pair for part in parts for pair in part]))
    merged = merge([rank(*arrays(part)) for part in parts])
    assert np.array_equal(merged.values, whole.values)
    assert (np.diff(whole.values) > 0).all()
    assert np.array_equal(merged.positives, whole.positives)
    assert np.array_equal(merged.negatives, whole.negatives)
    labels = [label for part in parts for _, label in part]
    assert merged.totals == (sum(labels), len(labels) - sum(labels))


def grown(parts: list[list[tuple[float, bool]]], most_values: int) -> GrowingRanking:
    growing = GrowingRanking(most_values)
    for part in parts:
        growing.add(*arrays(part))
    return growing


@settings(max_examples=300)
@given(PARTS, st.sampled_from([1, 2, 3, 8, 40, 10**6]))
def test_a_growing_ranking_is_exact_or_says_how_far_it_is_off(
    parts: list[list[tuple[float, bool]]], most_values: int
) -> None:
    scores, labels = arrays([pair for part in parts for pair in part])
    growing = grown(parts, most_values)
    ranking = growing.ranking
    assert len(ranking.values) <= most_values
    assert ranking.totals == (labels.sum(), (~labels).sum()), "whatever is dropped, everything is counted"
    assert (growing.dropped_bits == 0) == (len(np.unique(scores)) <= most_values)
    if growing.dropped_bits == 0:
        assert growing.slack == 0.0
    reached = ranked_auroc(ranking), ranked_average_precision(ranking)
    if labels.all() or not labels.any():
        assert reached == (None, None)
        return
    for got, exact in zip(reached, (roc_auc_score, average_precision_score), strict=True):
        assert got is not None
        assert abs(got - exact(labels, scores)) <= growing.slack + 1e-12


def test_slack_is_not_zero_by_mistake_and_not_large_by_habit() -> None:
    """Sixteen scores kept as four: the areas change, by no more than was said, and that is no empty claim."""
    scores = np.linspace(1, 2, 16, endpoint=False, dtype=np.float32)
    labels = np.array([0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1], dtype=bool)
    growing = GrowingRanking(4)
    growing.add(scores, labels)
    assert len(growing.ranking.values) == 4
    got = ranked_average_precision(growing.ranking)
    assert got is not None
    off = abs(got - average_precision_score(labels, scores))
    assert 0 < off <= precision_slack(growing.ranking) <= growing.slack < 0.2
    assert roc_slack(growing.ranking) <= growing.slack


def test_zero_has_no_sign() -> None:
    growing = GrowingRanking()
    growing.add(np.array([[0.0, -0.0]], dtype=np.float32), np.array([[True, False]]))
    growing.add(np.array([-0.0], dtype=np.float32), np.array([False]))
    assert growing.ranking.values.tolist() == [0.0]
    assert ranked_auroc(growing.ranking) == 0.5


@pytest.mark.parametrize("most_values", [2**23, 2**14])
def test_pixels_of_many_maps_are_scikit_learns(most_values: int) -> None:
    random = np.random.default_rng(8)
    maps = (1 / (1 + np.exp(-random.normal(-4, 3, (6, 128, 160))))).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[::2, 20:60, 30:50] = True
    maps[masks] = np.sqrt(maps[masks])
    growing = GrowingRanking(most_values)
    for heat, mask in zip(maps, masks, strict=True):
        growing.add(heat, mask)
    room = 1e-12 + growing.slack
    assert (growing.dropped_bits == 0) == (most_values == 2**23)
    assert growing.slack < 1e-3
    ranking = growing.ranking
    truth, scores = masks.ravel(), maps.ravel()
    assert ranked_auroc(ranking) == pytest.approx(roc_auc_score(truth, scores), abs=room)
    assert ranked_average_precision(ranking) == pytest.approx(
        average_precision_score(truth, scores), abs=room
    )


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        rank([0.1, 0.2], [True])
    with pytest.raises(ValueError, match="labels"):
        GrowingRanking().add(np.zeros((2, 3), np.float32), np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="labels"):
        confusion([True], [True, False])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_confusion_is_scikit_learns(pairs: list[tuple[bool, bool]]) -> None:
    flagged, labels = ([pair[which] for pair in pairs] for which in (0, 1))
    counted = confusion(flagged, labels)
    tn, fp, fn, tp = confusion_matrix(labels, flagged, labels=[False, True]).ravel()
    assert counted == Confusion(tp, fp, fn, tn)
    assert counted.accuracy == pytest.approx(accuracy_score(labels, flagged))
    for got, reference in (
        (counted.precision, precision_score),
        (counted.recall, recall_score),
        (counted.f1, f1_score),
    ):
        expected = float(reference(labels, flagged, zero_division=np.nan))
        assert got == pytest.approx(expected) if got is not None else np.isnan(expected)
    if counted.negatives:
        assert counted.false_alarm_rate == fp / (fp + tn)
    if counted.recall is not None:
        assert counted.miss_rate == pytest.approx(1 - counted.recall)


def test_bounds_of_the_rates_count_their_own_class() -> None:
    counted = Confusion(true_positives=50, false_positives=0, false_negatives=10, true_negatives=59)
    assert counted.false_alarm_upper95 == pytest.approx(1 - 0.05 ** (1 / 59))
    assert counted.miss_upper95 == pytest.approx(float(beta.ppf(0.95, 11, 50)))
    nothing = Confusion(0, 0, 0, 0)
    assert (nothing.accuracy, nothing.precision, nothing.f1) == (None, None, None)
    assert nothing.false_alarm_upper95 == nothing.miss_upper95 == 1.0


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
