"""The judge: flips, rates, AUROC and what is said of those that fall short."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from sspcab_edge.manifest import Gate, Parity
from sspcab_edge.parity import Comparison, judge, shortfalls

FP32 = Gate(max_flips=0, score_tolerance=1e-4, map_tolerance=1e-3, mean_map_tolerance=5e-5)


def one(
    source: float,
    artifact: float,
    *,
    map_diff: float | None = None,
    label: bool | None = None,
    blend: bool = False,
    map_mean: float | None = None,
) -> Comparison:
    return Comparison(source, artifact, map_diff, label, blend, map_mean)


def judged(compared: Sequence[Comparison], gate: Gate, threshold: float | None = 0.5) -> Parity:
    return judge(compared, threshold=threshold, gate=gate, scene="given", engine="test")


def upper_bound(flips: int, pictures: int) -> float:
    """Clopper and Pearson's, by SciPy."""
    return 1.0 if flips == pictures else float(beta.ppf(0.95, flips + 1, pictures - flips))


def pictures(count: int, flips: int = 0, *, blend: bool = False) -> list[Comparison]:
    return [one(0.4, 0.6 if number < flips else 0.4, blend=blend) for number in range(count)]


scores = st.integers(0, 20).map(lambda i: i / 20)
comparisons = st.builds(
    Comparison,
    source=scores,
    artifact=scores,
    map_diff=st.none() | scores,
    label=st.none() | st.booleans(),
    blend=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(comparisons, min_size=1, max_size=40), scores)
def test_a_comparison_is_summed_up_by_the_definition(compared: list[Comparison], threshold: float) -> None:
    parity = judged(compared, Gate(), threshold)
    flipped = [c for c in compared if (c.source > threshold) != (c.artifact > threshold)]
    plain = [c for c in compared if not c.blend]
    differences = [abs(c.source - c.artifact) for c in compared]
    assert (parity.pictures, parity.blends) == (len(compared), len(compared) - len(plain))
    assert (parity.flips, parity.blend_flips) == (len(flipped), sum(c.blend for c in flipped))
    expected = upper_bound(sum(not c.blend for c in flipped), len(plain)) if plain else 1.0
    assert parity.flips_upper95 == pytest.approx(expected, abs=1e-9)
    assert parity.max_abs_score_diff == pytest.approx(max(differences))
    assert parity.mean_abs_score_diff == pytest.approx(np.mean(differences))
    assert parity.margin == pytest.approx(min(abs(c.source - threshold) for c in compared))
    maps = [c.map_diff for c in compared if c.map_diff is not None]
    assert parity.max_abs_map_diff == (max(maps) if maps else None)
    labelled = [c for c in plain if c.label is not None]
    labels = [bool(c.label) for c in labelled]
    assert parity.labelled == len(labelled)
    for got, side in ((parity.auroc_source, "source"), (parity.auroc_artifact, "artifact")):
        if len(set(labels)) < 2:
            assert got is None
        else:
            assert got == pytest.approx(roc_auc_score(labels, [getattr(c, side) for c in labelled]))
    assert parity.passed
    assert shortfalls(parity) == ()


def test_nothing_compared_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        judged([], Gate())


def test_flips_of_blends_do_not_count_in_the_rate() -> None:
    gate = Gate(max_flips_upper95=0.02)
    calm = pictures(200)
    restless = [*calm, *pictures(50, 50, blend=True)]
    assert judged(calm, gate).flips_upper95 == pytest.approx(upper_bound(0, 200))
    parity = judged(restless, gate)
    assert (parity.flips, parity.blend_flips, parity.blends) == (50, 50, 50)
    assert parity.flips_upper95 == pytest.approx(upper_bound(0, 200))
    assert parity.passed
    assert not judged([*pictures(200, 6), *pictures(5000, blend=True)], gate).passed, "nor do their verdicts"


def test_flips_of_blends_count_at_fp32() -> None:
    compared = [*pictures(200), one(0.49999, 0.50001, blend=True)]
    parity = judged(compared, FP32)
    assert not parity.passed
    assert shortfalls(parity) == ("1 of 201 verdicts flip (allowed 0)",)
    assert judged(compared, msgspec.structs.replace(FP32, max_flips=1)).passed


@settings(deadline=None)
@given(
    pictures_given=st.integers(0, 400),
    flips=st.integers(0, 8),
    limit=st.sampled_from([0.01, 0.02, 0.05, 0.3]),
)
def test_too_few_pictures_are_told_how_many_are_needed(pictures_given: int, flips: int, limit: float) -> None:
    flips = min(flips, pictures_given)
    compared = [*pictures(pictures_given, flips), *pictures(3, 3, blend=True)]
    parity = judged(compared, Gate(max_flips_upper95=limit))
    said = "; ".join(shortfalls(parity))
    bound = upper_bound(flips, pictures_given) if pictures_given else 1.0
    assert parity.passed == (bound <= limit)
    if parity.passed:
        assert said == ""
        return
    assert said.startswith(f"{flips} of {pictures_given} pictures flip: the rate may be up to {bound:.2%}")
    if flips > limit * pictures_given:
        assert "too few" not in said, "more pictures would not help"
        return
    match = re.search(rf"too few pictures to decide: (\d+) are needed for {flips} flips", said)
    assert match is not None
    needed = int(match[1])
    assert needed > pictures_given
    assert upper_bound(flips, needed) <= limit < upper_bound(flips, needed - 1)


def test_pictures_that_were_needed_are_enough() -> None:
    gate = Gate(max_flips_upper95=0.02)
    assert not judged(pictures(148), gate).passed
    assert judged(pictures(149), gate).passed
    assert "149 are needed for 0 flips, 148 were judged" in shortfalls(judged(pictures(148), gate))[0]


def ranked(artifact: Sequence[float]) -> list[Comparison]:
    source = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
    labels = [False] * 4 + [True] * 4
    return [one(a, b, label=label) for a, b, label in zip(source, artifact, labels, strict=True)]


def test_auroc_may_fall_as_far_as_the_gate_allows() -> None:
    swapped = ranked([0.1, 0.2, 0.3, 0.65, 0.6, 0.7, 0.8, 0.9])
    parity = judged(swapped, Gate(max_auroc_drop=0.05), None)
    assert (parity.auroc_source, parity.auroc_artifact) == (1.0, 1 - 1 / 16)
    assert shortfalls(parity) == ("AUROC falls from 1.0000 to 0.9375 (allowed drop 0.05)",)
    assert judged(swapped, Gate(max_auroc_drop=0.0625), None).passed
    rising = [Comparison(c.artifact, c.source, None, c.label, False) for c in swapped]
    assert judged(rising, Gate(max_auroc_drop=0.0), None).passed
    unlabelled = [one(c.source, c.artifact) for c in swapped]
    assert judged(unlabelled, Gate(max_auroc_drop=0.0), None).passed


def test_blends_have_no_part_in_auroc() -> None:
    blends = [one(0.9, 0.0, label=True, blend=True), one(0.0, 0.9, label=False, blend=True)]
    parity = judged(
        [*ranked([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]), *blends], Gate(max_auroc_drop=0.0), None
    )
    assert (parity.labelled, parity.auroc_artifact) == (8, 1.0)
    assert parity.passed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_passes_no_gate(bad: float) -> None:
    compared = [*pictures(500), one(0.4, bad)]
    parity = judged(compared, Gate())
    assert parity.max_abs_score_diff == math.inf
    assert "a score is not finite" in shortfalls(parity)
    assert not parity.passed


def test_nan_is_no_anomaly_and_so_flips_what_was_one() -> None:
    assert judged([one(0.9, math.nan)], Gate()).flips == 1
    assert judged([one(0.1, math.nan)], Gate()).flips == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_that_is_not_finite_passes_no_gate(bad: float) -> None:
    compared = [one(0.4, 0.4, map_diff=0.0), one(0.4, 0.4, map_diff=bad), one(0.4, 0.4)]
    parity = judged(compared, FP32)
    assert parity.max_abs_map_diff == math.inf
    assert shortfalls(parity) == (
        "maps differ without bound: one is missing, of another shape or not finite",
    )
    assert not parity.passed


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_that_is_not_finite_passes_no_gate_without_a_map_tolerance_either(bad: float) -> None:
    """As a score does: the gates of fp16 and int8 limit no map, and NaN is no map at all."""
    parity = judged([one(0.4, 0.4, map_diff=bad)], Gate(max_flips=0))
    assert not parity.passed
    assert any("map" in part for part in shortfalls(parity))


@pytest.mark.parametrize(
    ("compared", "part"),
    [
        (one(0.4, 0.4003), "scores differ by 0.0003 (allowed 0.0001)"),
        (one(0.4, 0.4, map_diff=0.5), "maps differ by 0.5 (allowed 0.001)"),
        (one(0.4, 0.4, map_diff=5e-4, map_mean=2e-4), "a map differs by 0.0002 on average (allowed 5e-05)"),
    ],
)
def test_differences_beyond_the_tolerance_are_told(compared: Comparison, part: str) -> None:
    assert shortfalls(judged([*pictures(3), compared], FP32)) == (part,)


def test_a_shift_of_all_scores_is_told_where_the_largest_difference_is_not_new() -> None:
    compared = [one(0.1, 0.15) for _ in range(9)]
    gate = Gate(score_tolerance=0.5, mean_score_tolerance=0.02)
    assert shortfalls(judged([*compared, one(0.1, 0.1)], gate)) == (
        "scores differ by 0.045 on average (allowed 0.02)",
    )
    assert judged([*[one(0.1, 0.1)] * 9, one(0.1, 0.25)], gate).passed


def test_what_rounding_explains_grows_with_the_score() -> None:
    """Distances of anomalies may be a hundred times those of normal pictures."""
    gate = Gate(score_tolerance=1e-4, score_relative=1e-5)
    parity = judged([one(0.4, 0.4), one(700.0, 700.005)], gate)
    assert parity.passed
    assert parity.score_excess == 0.0
    assert parity.max_abs_score_diff == pytest.approx(0.005)
    assert shortfalls(judged([one(0.4, 0.4), one(700.0, 700.0072)], gate)) == (
        "scores differ by 0.0002 (allowed 0.0001, besides 1e-05 of the score)",
    )
    assert not judged([one(0.4, 0.4002), one(700.0, 700.0)], gate).passed


def test_differences_up_to_the_tolerance_pass() -> None:
    gate = Gate(score_tolerance=0.25, map_tolerance=0.25)
    assert judged([one(0.25, 0.5, map_diff=0.25)], gate).passed


def test_without_a_threshold_nothing_flips_and_no_rate_is_asked() -> None:
    parity = judged(pictures(10, 10), Gate(max_flips=0, max_flips_upper95=0.01), None)
    assert (parity.flips, parity.blend_flips, parity.flips_upper95, parity.margin) == (None,) * 4
    assert parity.passed


def test_everything_that_falls_short_is_told() -> None:
    compared = [*pictures(50, 20), one(0.4, 0.4, map_diff=9.0)]
    gate = Gate(max_flips=3, max_flips_upper95=0.02, score_tolerance=0.1, map_tolerance=1.0)
    parts = shortfalls(judged(compared, gate))
    assert [part.split()[0] for part in parts] == ["scores", "maps", "20", "20"]
