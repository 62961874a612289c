"""Score maps: isotonic against scikit-learn, and only kept where they help."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from sspcab_edge.decision import apply_score_map
from sspcab_edge.manifest import decode_manifest, encode_manifest
from sspcab_edge.score_map import ScoreMap
from sspcab_export.precision.score_map import MAX_KNOTS, PICTURES_A_KNOT, fit_score_map, isotonic

numbers = st.integers(-50, 50).map(lambda i: i / 4)


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, st.integers(1, 9)), min_size=1, max_size=30))
def test_isotonic_is_scikit_learns(pairs: list[tuple[float, int]]) -> None:
    values = np.array([value for value, _ in pairs])
    weights = np.array([weight for _, weight in pairs], np.float64)
    expected = IsotonicRegression().fit_transform(np.arange(len(values)), values, sample_weight=weights)
    np.testing.assert_allclose(isotonic(values, weights), expected, atol=1e-9)


def rises(score_map: ScoreMap) -> bool:
    axes = (score_map.artifact, score_map.source)
    return all(low < high for axis in axes for low, high in pairwise(axis))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(numbers, numbers), max_size=80), st.booleans())
def test_a_map_rises_strictly_whatever_it_is_fitted_to(
    pairs: list[tuple[float, float]], shifted: bool
) -> None:
    artifact, source = [a for a, _ in pairs], [b for _, b in pairs]
    if shifted:
        source = [a * 1.3 + 5 for a in artifact]
    fitted = fit_score_map(artifact, source, 0.0)
    assert rises(fitted)
    assert len(fitted.artifact) == len(fitted.source) != 1
    assert len(fitted.artifact) <= MAX_KNOTS + 2
    if shifted and len(pairs) >= 2 * PICTURES_A_KNOT:
        assert not fitted.identity, "the worst of offsets is worth a map"


DISTORTIONS = {
    "offset": lambda s: s + 0.4,
    "slope": lambda s: 0.7 * s,
    "saturating": lambda s: 3 * np.tanh(s / 3),
    "squared": lambda s: s**2 / 4,
}


@pytest.mark.parametrize("name", list(DISTORTIONS))
@pytest.mark.parametrize("count", [20, 60, 200])
def test_a_distortion_is_taken_back_on_pictures_it_was_not_fitted_to(name: str, count: int) -> None:
    random = np.random.default_rng(count)
    source = random.uniform(0.5, 4, 2 * count)
    artifact = DISTORTIONS[name](source) + random.normal(scale=0.02, size=2 * count)
    fitted = fit_score_map(artifact[:count].tolist(), source[:count].tolist(), 1e-4)
    assert rises(fitted)
    mapped = apply_score_map(fitted, artifact[count:])
    before = np.abs(artifact[count:] - source[count:]).mean()
    after = np.abs(mapped - source[count:]).mean()
    assert after < (0.5 if count < 60 else 0.25) * before


def test_beyond_the_knots_the_map_goes_on_with_slope_one() -> None:
    source = np.linspace(0, 2, 50)
    fitted = fit_score_map((source + 0.5).tolist(), source.tolist(), 1e-4)
    far = apply_score_map(fitted, np.array([-9.0, -8.0, 50.0, 53.0]))
    np.testing.assert_allclose(far, [-9.5, -8.5, 49.5, 52.5], atol=1e-9)


def test_scores_that_agree_need_no_map() -> None:
    source = np.linspace(0, 2, 50)
    assert fit_score_map((source + 0.009).tolist(), source.tolist(), 0.01).identity
    assert not fit_score_map((source + 0.011).tolist(), source.tolist(), 0.01).identity


def test_too_few_pictures_make_no_map() -> None:
    source = np.linspace(0, 2, 2 * PICTURES_A_KNOT)
    assert not fit_score_map((source + 1).tolist(), source.tolist(), 1e-4).identity
    assert fit_score_map((source + 1).tolist()[1:], source.tolist()[1:], 1e-4).identity
    assert fit_score_map([], [], 1e-4).identity


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_not_mapped(seed: int) -> None:
    """What does not help on left-out pictures is left."""
    random = np.random.default_rng(seed)
    source = random.uniform(0, 4, 60)
    artifact = source + random.normal(scale=0.05, size=60)
    assert fit_score_map(artifact.tolist(), source.tolist(), 1e-4).identity


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_make_no_map(bad: float) -> None:
    source = np.linspace(0, 2, 50).tolist()
    shifted = [score + 1 for score in source]
    assert fit_score_map([bad, *shifted[1:]], source, 1e-4).identity
    assert fit_score_map(shifted, [bad, *source[1:]], 1e-4).identity


def test_a_manifest_takes_the_map() -> None:
    """Scores that fall where the source's rise: groups are pooled, and still the map is strict."""
    stored = Path(__file__).parents[2] / "core" / "manifest.json"
    manifest = decode_manifest(stored.read_bytes())
    random = np.random.default_rng(0)
    source = random.uniform(0, 4, 80)
    fitted = fit_score_map((np.round(source) + 1).tolist(), source.tolist(), 1e-4)
    assert not fitted.identity
    artifact = msgspec.structs.replace(manifest.artifacts[0], score_map=fitted)
    changed = msgspec.structs.replace(manifest, artifacts=(artifact, *manifest.artifacts[1:]))
    assert decode_manifest(encode_manifest(changed)).artifacts[0].score_map == fitted
