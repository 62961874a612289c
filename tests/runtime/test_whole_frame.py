"""The whole-frame front-end."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, InputError
from sspcab_edge.preprocess import prepare
from sspcab_edge.protocols import Frame
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.frontends import FRONT_ENDS, open_front_end

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def bundle(pristine: Path) -> Bundle:
    return Bundle.open(pristine)


def frame(pixels: Pixels) -> Frame:
    return Frame(pixels, 0, "made", 0.0, 0.0)


def test_resizes_as_the_manifest_says(bundle: Bundle, rng: np.random.Generator) -> None:
    front_end = open_front_end(bundle.manifest, bundle.manifest.artifacts[0], 0.5)
    pixels = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    request = front_end.push(frame(pixels))
    assert request is not None
    inputs = request.inputs
    assert inputs["frames"].shape == (1, 24, 32, 3)
    assert np.array_equal(inputs["frames"][0], prepare(pixels, bundle.manifest.preprocess))
    front_end.reset()


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4), (10, 10, 1), (0, 10, 3), (3, 10, 10)])
def test_refuses_what_is_no_rgb_frame(bundle: Bundle, shape: tuple[int, ...]) -> None:
    front_end = open_front_end(bundle.manifest, bundle.manifest.artifacts[0], 0.5)
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8 RGB"):
        front_end.push(frame(np.zeros(shape, dtype=np.uint8)))


@pytest.mark.parametrize(
    ("score", "threshold", "anomalous"),
    [(0.5, 0.5, False), (np.nextafter(np.float32(0.5), np.float32(1)), 0.5, True), (0.75, None, None)],
)
def test_anomalous_is_strictly_above(
    bundle: Bundle, score: float, threshold: float | None, anomalous: bool | None
) -> None:
    front_end = open_front_end(bundle.manifest, bundle.manifest.artifacts[0], threshold)
    verdict = front_end.merge({"score": np.array([score], dtype=np.float32)}, None)
    assert (verdict.score, verdict.threshold, verdict.anomalous) == (float(score), threshold, anomalous)
    assert verdict.map is None


def test_scores_are_mapped_onto_the_sources_scale(bundle: Bundle) -> None:
    knots = ScoreMap(artifact=(0.0, 1.0, 2.0), source=(10.0, 20.0, 40.0))
    artifact = msgspec.structs.replace(bundle.manifest.artifacts[0], score_map=knots)
    front_end = open_front_end(bundle.manifest, artifact, 25.0)
    verdict = front_end.merge(
        {"score": np.array([1.5], np.float32), "map": np.ones((1, 2, 3), dtype=np.float32)}, None
    )
    assert verdict.score == 30.0
    assert verdict.anomalous is True
    assert verdict.map is not None
    assert verdict.map.shape == (2, 3)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_never_normal(bundle: Bundle, score: float) -> None:
    """NaN > threshold is False: a broken network would pass everything."""
    front_end = open_front_end(bundle.manifest, bundle.manifest.artifacts[0], 0.5)
    with pytest.raises(EngineError, match="cannot be judged"):
        front_end.merge({"score": np.array([score], dtype=np.float32)}, None)


def test_the_table_has_every_kind_of_the_manifest(bundle: Bundle) -> None:
    kinds = get_args(get_type_hints(type(bundle.manifest.front_end))["kind"])
    assert sorted(FRONT_ENDS) == sorted(kinds)
    make = FRONT_ENDS[bundle.manifest.front_end.kind]
    assert make(bundle.manifest, bundle.manifest.artifacts[0], None, None)
