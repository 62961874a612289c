"""Scores of units that are judged in part: against NumPy and SciPy, from the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from sspcab_edge.errors import EngineError
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.frontends.scores import on_source_scale, score_inside


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("side", [1, 3, 21])
def test_mean_filter_is_scipys(rng: np.random.Generator, share: float, side: int) -> None:
    heat = rng.uniform(0, 1, (40, 57)).astype(np.float32)
    inside = rng.uniform(size=heat.shape) < share
    inside[7, 9] = True
    means = uniform_filter(np.where(inside, heat, 0).astype(np.float64), side, mode="constant", cval=0)
    assert score_inside(f"map-mean-filter:{side}", heat, inside) == pytest.approx(means.max(), abs=1e-6)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_mean_filter_is_its_definition(side: int, height: int, width: int, seed: int) -> None:
    """The largest mean over K x K pixels, even K and maps smaller than K included."""
    rng = np.random.default_rng(seed)
    heat = rng.uniform(0, 1, (height, width)).astype(np.float32)
    inside = rng.uniform(size=heat.shape) < 0.6
    inside[0, 0] = True
    padded = np.pad(np.where(inside, heat, 0).astype(np.float64), side // 2)
    padded = np.pad(padded, ((0, side), (0, side)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    best = windows.sum(axis=(2, 3)).max() / side**2
    assert score_inside(f"map-mean-filter:{side}", heat, inside) == pytest.approx(best, abs=1e-6)


def test_max_and_mean_are_of_what_is_inside() -> None:
    heat = np.array([[9, -3], [-1, 5]], dtype=np.float32)
    inside = np.array([[False, True], [True, False]])
    assert score_inside("map-max", heat, inside) == -1
    assert score_inside("map-mean", heat, inside) == -2


@pytest.mark.parametrize("rule", ["map-max", "map-mean", "map-mean-filter:3"])
def test_a_map_that_is_no_number_gives_no_score(rule: str) -> None:
    heat = np.zeros((5, 5), dtype=np.float32)
    heat[2, 2] = np.nan
    score = score_inside(rule, heat, np.ones((5, 5), dtype=bool))
    with pytest.raises(EngineError, match="cannot be judged"):
        on_source_scale(ScoreMap(), np.array([0.5, score]))
