"""The check of verdicts that are being timed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sspcab_bench.checking import PackCheck
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import GateError
from sspcab_edge.parity import PackItem, read_pack
from sspcab_edge.protocols import Verdict


@pytest.fixture
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.open(bundle_path)


@pytest.fixture
def items(bundle: Bundle) -> list[PackItem]:
    return list(read_pack(bundle))


@pytest.fixture
def check(bundle: Bundle) -> PackCheck:
    return PackCheck(bundle, bundle.manifest.artifacts[0])


def _verdict(item: PackItem, error: float = 0.0) -> Verdict:
    return Verdict(score=item.score + error, threshold=0.5, anomalous=None, map=item.map)


def test_right_verdicts_pass(check: PackCheck, items: list[PackItem]) -> None:
    for number, item in enumerate(items[:4]):
        check.see(number, _verdict(item), with_map=True)
    parity = check.require("engine")
    assert (check.checked, check.inputs) == (4, len(items))
    assert (parity.pictures, parity.max_abs_score_diff, parity.max_abs_map_diff) == (4, 0.0, 0.0)


def test_the_worst_of_several_verdicts_counts(check: PackCheck, items: list[PackItem]) -> None:
    for error in (0.0, 2e-5, -5e-5, 1e-5):
        check.see(1, _verdict(items[1], error), with_map=False)
    assert check.require("engine").max_abs_score_diff == pytest.approx(5e-5)
    check.see(1, _verdict(items[1], 2e-4), with_map=False)
    check.see(1, _verdict(items[1]), with_map=False)
    with pytest.raises(GateError, match=r"onnx-fp32 on engine does not give .* scores differ by 0.0002"):
        check.require("engine")


def test_a_verdict_without_score_fails(check: PackCheck) -> None:
    check.see(0, Verdict(score=None, threshold=0.5, anomalous=None), with_map=False)
    with pytest.raises(GateError):
        check.require("engine")


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_not_forgotten(
    check: PackCheck, items: list[PackItem], score: float
) -> None:
    check.see(0, Verdict(score=score, threshold=0.5, anomalous=None), with_map=False)
    check.see(0, _verdict(items[0]), with_map=False)
    with pytest.raises(GateError):
        check.require("engine")


@pytest.mark.parametrize("shape", [None, (2, 2), "right but wrong"])
def test_maps_are_compared(
    check: PackCheck, items: list[PackItem], shape: tuple[int, int] | str | None
) -> None:
    expected = items[0].map
    assert expected is not None
    wrong = None if shape is None else expected + 1 if isinstance(shape, str) else np.zeros(shape, np.float32)
    verdict = Verdict(score=items[0].score, threshold=0.5, anomalous=None, map=wrong)
    check.see(0, verdict, with_map=False)
    check.require("engine")
    check.see(0, verdict, with_map=True)
    check.see(0, _verdict(items[0]), with_map=True)
    with pytest.raises(GateError, match="maps differ"):
        check.require("engine")


def test_a_flip_fails_whatever_the_tolerance(
    build: Callable[..., Bundle], items: list[PackItem], check: PackCheck
) -> None:
    """Scores on both sides of the threshold, nearer to each other than the gate's tolerance."""
    nearest = min(range(len(items)), key=lambda number: abs(items[number].score - 0.5))
    gap = 0.5 - items[nearest].score
    check.see(nearest, _verdict(items[nearest], gap + math.copysign(1e-6, gap)), with_map=False)
    with pytest.raises(GateError, match="flip"):
        check.require("engine")
