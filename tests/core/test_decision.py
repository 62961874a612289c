"""Thresholds, score maps and labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from sspcab_edge.decision import (
    apply_score_map,
    is_anomalous,
    quantiles,
    score_scale,
    threshold_from_labels,
    threshold_from_quantile,
    threshold_from_rate,
)
from sspcab_edge.errors import OptionError
from sspcab_edge.score_map import ScoreMap

SCORES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=60)


def test_a_score_equal_to_the_threshold_is_normal() -> None:
    assert is_anomalous(0.5, 0.5) is False
    assert is_anomalous(np.nextafter(0.5, 1), 0.5) is True
    assert is_anomalous(0.5, None) is None


@given(SCORES, st.floats(0.001, 0.9))
def test_rate_flags_no_more_fitted_scores_than_the_rate_allows(scores: list[float], rate: float) -> None:
    decision = threshold_from_rate(scores, rate)
    assert decision.threshold is not None
    flagged = sum(score > decision.threshold for score in scores)
    assert flagged <= rate * (len(scores) + 1)


def test_the_score_that_decides_keeps_its_label_however_it_is_rounded() -> None:
    scores = np.random.default_rng(4).random(50)
    for decision in (threshold_from_rate(scores), threshold_from_quantile(scores, 1.0)):
        assert is_anomalous(scores.max() + 5e-7, decision.threshold) is False


def test_rate_holds_for_new_scores_of_the_same_kind() -> None:
    random = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        threshold = threshold_from_rate(random.normal(size=99), 0.05).threshold
        assert threshold is not None
        rates.append((random.normal(size=200) > threshold).mean())
    assert np.mean(rates) == pytest.approx(0.05, abs=0.006)


def test_too_few_pictures_for_the_rate_are_said_with_the_number_needed() -> None:
    decision = threshold_from_rate([1.0, 3.0, 2.0], 0.01)
    assert decision.threshold == pytest.approx(3.0001)
    assert decision.note is not None
    assert "99 or more" in decision.note
    assert threshold_from_rate(list(range(99)), 0.01).note is None
    assert threshold_from_rate(list(range(98)), 0.01).note is not None


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(OptionError, match="false-alarm rate"):
        threshold_from_rate([1.0, 2.0], rate)


def test_quantile_is_numpys() -> None:
    scores = np.random.default_rng(1).gamma(2, size=50)
    assert threshold_from_quantile(scores, 0.9).threshold == pytest.approx(np.quantile(scores, 0.9), abs=1e-3)
    with pytest.raises(OptionError, match="0 to 1"):
        threshold_from_quantile(scores, 1.5)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=40))
def test_best_f1_is_reached_and_not_exceeded_by_any_other_threshold(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=float)
    labels = np.array([label for _, label in pairs])
    if labels.all() or not labels.any():
        with pytest.raises(OptionError, match="expected both"):
            threshold_from_labels(scores, labels.tolist())
        return
    decision = threshold_from_labels(scores, labels.tolist())
    assert decision.threshold is not None
    reached = f1_score(labels, scores > decision.threshold)
    best = max(f1_score(labels, scores > t) for t in np.arange(-0.5, 13, 1.0))
    assert reached == pytest.approx(best)
    assert decision.parameter == pytest.approx(best)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf"), 1.0]])
def test_scores_that_are_no_numbers_are_refused(scores: list[float]) -> None:
    with pytest.raises(OptionError):
        quantiles(scores)


def test_score_map_goes_through_its_knots_and_on_beyond_them() -> None:
    score_map = ScoreMap(artifact=(0.0, 1.0, 3.0), source=(10.0, 20.0, 22.0))
    mapped = apply_score_map(score_map, np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(mapped, [0.0, 10.0, 15.0, 20.0, 21.0, 22.0, 23.0])


def test_score_map_without_knots_is_the_identity() -> None:
    values = np.random.default_rng(2).normal(size=20).astype(np.float32)
    np.testing.assert_array_equal(apply_score_map(ScoreMap(), values), values)


@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=8, unique=True),
    st.lists(st.integers(-50, 50), min_size=8, max_size=8, unique=True),
    SCORES,
)
def test_score_map_keeps_the_order_of_scores(x: list[int], y: list[int], scores: list[float]) -> None:
    knots = ScoreMap(artifact=tuple(map(float, sorted(x))), source=tuple(map(float, sorted(y)[: len(x)])))
    ordered = np.sort(np.array(scores))
    assert (np.diff(apply_score_map(knots, ordered)) >= 0).all()


@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e-3, 0.05, 1.0, 100.0])
def test_a_threshold_lies_close_above_scores_of_any_size(scale: float) -> None:
    """A defect that scores half as much again as the worst normal image is one, also where all scores are
    mean squared errors of 1e-5; and the worst normal image stays normal on every engine."""
    normal = scale * np.linspace(0.5, 1.0, 120)
    for decision in (threshold_from_rate(normal, 0.01), threshold_from_quantile(normal, 1.0)):
        worst = float(normal.max())
        assert decision.threshold is not None
        assert worst * (1 + 2e-5) < decision.threshold <= worst * 1.002
        assert not is_anomalous(worst, decision.threshold)
        assert is_anomalous(1.5 * worst, decision.threshold)


def test_what_small_differences_are_shares_of() -> None:
    assert score_scale(None) == 1.0
    assert score_scale(quantiles(np.zeros(5))) == 1.0
    assert score_scale(quantiles(np.linspace(0.2, 0.9, 9))) == 1.0
    assert score_scale(quantiles(np.linspace(0, 8, 9))) == 4.0
    assert score_scale(quantiles(-1e-3 * np.linspace(0.5, 1, 9))) == pytest.approx(1e-2)
