"""Blends lie near the threshold, on both sides, and not within rounding of it."""

from __future__ import annotations

import numpy as np
import pytest

from sspcab_edge.ports import Entry
from sspcab_export.blends import find_blends


def level(value: int) -> Entry:
    return {"frames": np.full((8, 8, 3), value, np.uint8)}


def mean(entry: Entry) -> float:
    return float(np.asarray(entry["frames"], np.uint8).mean())


def ask(entry: Entry) -> tuple[float, None]:
    return mean(entry), None


@pytest.mark.parametrize("threshold", [31.4, 100.3, 180.2])
def test_both_sides_of_the_threshold_are_found(threshold: float) -> None:
    blends = find_blends([("dark", level(10))], [("bright", level(240))], threshold, ask, 1, clearance=0.01)
    scores = [mean(blend.entry) for blend in blends]
    assert {score > threshold for score in scores} == {True, False}
    assert all(abs(score - threshold) <= 2.0 for score in scores)


def test_nothing_comes_nearer_than_the_clearance() -> None:
    blends = find_blends([("dark", level(10))], [("bright", level(240))], 100.0, ask, 1, clearance=5.0)
    assert blends
    assert all(abs(mean(blend.entry) - 100) > 5 for blend in blends)


def test_the_name_says_what_was_mixed_and_how_much() -> None:
    (blend, *_) = find_blends([("dark", level(0))], [("bright", level(255))], 127.6, ask, 1, clearance=0.0)
    share = float(blend.name.split()[0])
    assert blend.name.endswith("of bright in dark")
    assert mean(blend.entry) == pytest.approx(255 * share, abs=0.5)
    assert blend.score == mean(blend.entry)


def test_without_frames_on_one_side_there_are_none() -> None:
    assert find_blends([], [("bright", level(240))], 100.0, ask, 3, clearance=0.0) == []
    assert find_blends([("dark", level(1))], [], 100.0, ask, 3, clearance=0.0) == []
