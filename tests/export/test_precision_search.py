"""How many layers are tried, and which pictures they are tried on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sspcab_export.asking import Unit
from sspcab_export.precision_search import MAX_SENSITIVITY_FRAMES, keep_counts, sensitivity_frames


@pytest.mark.parametrize(
    ("budget", "counts"),
    [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (7, [1, 2, 4, 7]), (8, [1, 2, 4, 8])],
)
def test_layers_are_kept_one_two_four_up_to_the_budget(budget: int, counts: list[int]) -> None:
    assert list(keep_counts(budget)) == counts


@given(st.integers(1, 5000))
def test_counts_rise_by_doubling_at_most_and_end_at_the_budget(budget: int) -> None:
    counts = list(keep_counts(budget))
    assert counts[0] == 1
    assert counts[-1] == budget
    assert all(a < b <= 2 * a for a, b in pairwise(counts))


def scored(scores: list[float]) -> list[Unit]:
    pixels = np.zeros((4, 4, 3), np.uint8)
    return [Unit({"frames": pixels}, score, None) for score in scores]


@settings(deadline=None)
@given(
    scores=st.lists(st.integers(0, 60).map(float), max_size=120),
    threshold=st.none() | st.integers(-5, 65).map(float),
)
def test_frames_are_fit_pictures_each_once_and_no_more_than_wanted(
    scores: list[float], threshold: float | None
) -> None:
    fit = scored(scores)
    chosen = sensitivity_frames(fit, threshold)
    names = [id(one) for one in chosen]
    assert len(names) == len(set(names)) == min(len(fit), MAX_SENSITIVITY_FRAMES)
    assert set(names) <= {id(one) for one in fit}
    if len(fit) <= MAX_SENSITIVITY_FRAMES:
        return
    if threshold is not None:
        half = MAX_SENSITIVITY_FRAMES // 2
        distances = sorted(abs(score - threshold) for score in scores)
        near = sorted(abs(one.score - threshold) for one in chosen)
        assert near[:half] == distances[:half], "the nearest to the threshold are among them"
    assert max(one.score for one in chosen) == max(scores)
    assert min(one.score for one in chosen) == min(scores)


def test_the_rest_is_spread_over_the_scores() -> None:
    fit = scored([float(i) for i in np.random.default_rng(0).permutation(240)])
    scores = sorted(one.score for one in sensitivity_frames(fit, None))
    assert scores[0] == 0
    assert scores[-1] == 239
    assert max(np.diff(scores)) <= 12
    beside = sorted(one.score for one in sensitivity_frames(fit, 1000.0))
    assert beside[-12:] == [float(i) for i in range(228, 240)]
    assert max(np.diff(beside)) <= 23
