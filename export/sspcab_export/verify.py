"""The gate: every artifact gives the source's verdicts on the judge pictures, from file to verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import GateError, HostError
from sspcab_edge.manifest import Decision, Gate, Parity, Preprocess
from sspcab_edge.parity import Comparison, PackItem, judge
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.protocols import Frame
from sspcab_export.blends import find_blends
from sspcab_export.hosts.base import SourceModel
from sspcab_export.pictures import Sample, load_frame
from sspcab_runtime.calls import answer
from sspcab_runtime.detector import Detector

__all__ = [
    "Judged",
    "artifact_score",
    "blends_near_threshold",
    "judge_artifact",
    "judge_source",
    "source_score",
]

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """One judge input with the source's answer.

    Attributes:
        item: Input at graph size, the source's score and map.
        sample: The picture it came from; None for a blend.
    """

    item: PackItem
    sample: Sample | None


def judge_source(
    source: SourceModel, samples: Iterable[Sample], preprocess: Preprocess, progress: Progress
) -> list[Judged]:
    """The source's scores and maps of the judge pictures.

    Raises:
        HostError: The source gives a score that is not finite.
    """
    judged = []
    for number, sample in enumerate(samples, 1):
        pixels = load_frame(sample, preprocess)
        score, anomaly = source_score(source, pixels)
        item = PackItem(sample.name, "picture", pixels, score, sample.label, anomaly)
        judged.append(Judged(item, sample))
        progress(number)
    return judged


def source_score(
    source: SourceModel, pixels: npt.NDArray[np.uint8]
) -> tuple[float, npt.NDArray[np.float32] | None]:
    """The source's score and map of one frame at graph size.

    Raises:
        HostError: The score is not finite.
    """
    scores, maps = source.infer(pixels[None])
    score = float(scores[0])
    if not np.isfinite(score):
        raise HostError(f"the model gives the score {score} on a picture: the training went wrong")
    return score, None if maps is None else maps[0]


def blends_near_threshold(
    source: SourceModel,
    judged: Sequence[Judged],
    foreign: Sequence[tuple[str, npt.NDArray[np.uint8]]],
    decision: Decision,
    clearance: float,
    pairs: int,
    progress: Progress,
) -> list[Judged]:
    """Blends of judge pictures on either side of the threshold, with the source's answers.

    Args:
        source: The source of truth.
        judged: Judge pictures with its scores.
        foreign: Named frames to look through, where all judge pictures are on one side of the threshold.
        decision: Holds the threshold; without one there are no blends.
        clearance: How near to the threshold a blend may come: nearer, rounding alone decides.
        pairs: How many pairs to mix.
        progress: Told after each call of the source.
    """
    threshold = decision.threshold
    if threshold is None:
        return []
    named = [(j.item.name, j.item.pixels, j.item.score) for j in judged]
    low = [(name, pixels) for name, pixels, score in named if score <= threshold]
    high = [(name, pixels) for name, pixels, score in named if score > threshold]
    calls = 0

    def ask(pixels: npt.NDArray[np.uint8]) -> tuple[float, npt.NDArray[np.float32] | None]:
        nonlocal calls
        calls += 1
        progress(calls)
        return source_score(source, pixels)

    for name, pixels in foreign:
        if min(len(low), len(high)) >= 1:
            break
        (high if ask(pixels)[0] > threshold else low).append((name, pixels))
    found = find_blends(low, high, threshold, ask, pairs, clearance=clearance)
    return [
        Judged(PackItem(blend.name, "blend", blend.pixels, blend.score, None, blend.map), None)
        for blend in found
    ]


def judge_artifact(
    detector: Detector,
    judged: Sequence[Judged],
    gate: Gate,
    scene: Literal["given", "built-in"],
    engine: str,
    progress: Progress,
) -> Parity:
    """Run an artifact through the runtime, pictures from their files and blends as they are, and compare.

    A score that is not finite counts as a difference without bound. ``engine`` names what computes.
    """
    compared = []
    for number, one in enumerate(judged, 1):
        pixels = one.item.pixels if one.sample is None else decode_picture(one.sample.path).pixels
        score, anomaly = artifact_score(detector, pixels)
        difference = None
        if one.item.map is not None and anomaly is not None:
            difference = float(np.abs(one.item.map - anomaly).max())
        compared.append(
            Comparison(
                source=one.item.score,
                artifact=score,
                map_diff=difference,
                label=one.item.label,
                blend=one.item.kind == "blend",
            )
        )
        progress(number)
    return judge(compared, threshold=detector.threshold, gate=gate, scene=scene, engine=engine)


def artifact_score(
    detector: Detector, pixels: npt.NDArray[np.uint8]
) -> tuple[float, npt.NDArray[np.float32] | None]:
    """An artifact's score on the source's scale, and its map; NaN where the score is not finite."""
    frame = Frame(pixels, 0, "", 0.0, 0.0)
    request = detector.front_end.push(frame)
    if request is None:
        raise GateError("the front-end gives no verdict on a single frame")
    outputs = answer(detector.engine, request)
    if not np.isfinite(outputs["score"]).all():
        return float("nan"), None
    verdict = detector.front_end.merge(outputs, request.context)
    return float("nan") if verdict.score is None else verdict.score, verdict.map
