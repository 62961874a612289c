"""The gate: every artifact gives the source's verdicts on the judge pictures, from file to verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import GateError
from sspcab_edge.manifest import Decision, Gate, Parity
from sspcab_edge.parity import Comparison, PackItem, judge, map_differences
from sspcab_edge.ports import Array, Entry
from sspcab_edge.protocols import Engine, FrontEnd, Request, Verdict
from sspcab_export.asking import ask, ask_unit, frame_of
from sspcab_export.blends import find_blends
from sspcab_export.hosts.base import SourceModel
from sspcab_export.pictures import Sample
from sspcab_runtime.calls import answer
from sspcab_runtime.detector import Detector
from sspcab_runtime.frontends.unit import Unit

__all__ = [
    "Judged",
    "artifact_score",
    "blends_near_threshold",
    "judge_artifact",
    "judge_source",
    "unit_score",
]

MAX_MAP_VALUES = 64_000_000
"""Most values of all maps that are kept to compare: those of 976 maps of 256 x 256, or 15 of 2048 x 2048."""

Progress = Callable[[int], None]

_Map = npt.NDArray[np.float32] | None


class _Merges(Protocol):
    def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """One judge input with the source's answer.

    Attributes:
        item: For the parity pack: a unit at graph size, the source's score and map of it. Of a picture in
            tiles it is the tile that scores highest, of a frame the object; None for a frame without any.
        sample: The picture it came from; None for a blend.
        expected: The source's verdict of the whole picture or frame of a video; None for a blend.
        request: What the front-end asks about a frame of a video, whose files are not decoded again.
        starts: Whether the front-end was reset before it.
    """

    item: PackItem | None
    sample: Sample | None
    expected: Verdict | None
    request: Request | None = None
    starts: bool = False


def judge_source(
    source: SourceModel, front_end: FrontEnd, samples: Iterable[Sample], progress: Progress
) -> list[Judged]:
    """The source's verdicts of the judge pictures; their maps until there are :data:`MAX_MAP_VALUES`.

    Args:
        source: The source of truth.
        front_end: Opened for the source.
        samples: The pictures.
        progress: Told how many are done.

    Raises:
        HostError: The source gives a score that is not finite.
        PictureError: A picture does not show what the front-end was set up for.
    """
    judged = []
    room = MAX_MAP_VALUES
    for number, sample in enumerate(samples, 1):
        asked = ask(source, front_end, sample.pixels(), 1, sample.name)
        (unit,) = asked.units
        item = PackItem(sample.name, "picture", unit.entry, unit.score, sample.label, unit.map)
        verdict = asked.verdict
        if verdict.map is not None:
            room -= verdict.map.size
            verdict = verdict if room >= 0 else replace(verdict, map=None)
        judged.append(Judged(item, sample, verdict))
        progress(number)
    return judged


def blends_near_threshold(
    source: SourceModel,
    judged: Sequence[Judged],
    foreign: Sequence[tuple[str, Entry]],
    decision: Decision,
    clearance: float,
    pairs: int,
    progress: Progress,
) -> list[Judged]:
    """Blends of judge pictures on either side of the threshold, with the source's answers.

    Args:
        source: The source of truth.
        judged: Judge pictures with its scores.
        foreign: Named entries to look through, where all judge pictures are on one side of the threshold.
        decision: Holds the threshold; without one there are no blends.
        clearance: How near to the threshold a blend may come: nearer, rounding alone decides.
        pairs: How many pairs to mix.
        progress: Told after each call of the source.
    """
    threshold = decision.threshold
    if threshold is None:
        return []
    named = [(j.item.name, j.item.entry, j.item.score) for j in judged if j.item is not None]
    low = [(name, entry) for name, entry, score in named if score <= threshold]
    high = [(name, entry) for name, entry, score in named if score > threshold]
    calls = 0

    def score_of(entry: Entry) -> tuple[float, npt.NDArray[np.float32] | None]:
        nonlocal calls
        calls += 1
        progress(calls)
        unit = ask_unit(source, entry)
        return unit.score, unit.map

    for name, entry in foreign:
        if min(len(low), len(high)) >= 1:
            break
        (high if score_of(entry)[0] > threshold else low).append((name, entry))
    found = find_blends(low, high, threshold, score_of, pairs, clearance=clearance)
    return [
        Judged(PackItem(blend.name, "blend", blend.entry, blend.score, None, blend.map), None, None)
        for blend in found
    ]


def judge_artifact(
    detector: Detector,
    unit_front_end: Unit,
    judged: Sequence[Judged],
    gate: Gate,
    scene: Literal["given", "built-in"],
    engine: str,
    progress: Progress,
) -> Parity:
    """Run an artifact through the runtime, pictures from their files and blends as units, and compare.

    A score that is not finite counts as a difference without bound. ``engine`` names what computes.
    """
    compared = []
    for number, one in enumerate(judged, 1):
        expected, expected_map, score, anomaly = _both(detector, unit_front_end, one)
        difference = mean = None
        if expected_map is not None and anomaly is not None:
            difference, mean = map_differences(expected_map, anomaly)
        if one.item is not None:  # without objects there is nothing that could differ
            compared.append(
                Comparison(
                    source=expected,
                    artifact=score,
                    map_diff=difference,
                    label=one.item.label,
                    blend=one.item.kind == "blend",
                    map_mean=mean,
                )
            )
        progress(number)
    return judge(compared, threshold=detector.threshold, gate=gate, scene=scene, engine=engine)


def _both(detector: Detector, unit: Unit, one: Judged) -> tuple[float, _Map, float, _Map]:
    """The source's score and map, and the artifact's."""
    if one.request is not None and one.expected is not None:
        if one.starts:
            detector.front_end.reset()
        got = _merged(detector.engine, detector.front_end, one.request)
        return _score(one.expected), one.expected.map, *got
    if one.sample is not None and one.expected is not None:
        pixels = one.sample.pixels()
        got = artifact_score(detector.engine, detector.front_end, pixels)
        return _score(one.expected), one.expected.map, *got
    assert one.item is not None
    return one.item.score, one.item.map, *unit_score(detector.engine, unit, one.item.entry)


def _score(verdict: Verdict) -> float:
    return float("nan") if verdict.score is None else verdict.score


def unit_score(engine: Engine, unit: Unit, entry: Entry) -> tuple[float, _Map]:
    """As :func:`artifact_score`, of one entry of the graph's batch."""
    return _merged(engine, unit, unit.ask(entry))


def _merged(engine: Engine, front_end: _Merges, request: Request) -> tuple[float, _Map]:
    outputs = answer(engine, request) if request.inputs else {}
    if not all(np.isfinite(outputs[name]).all() for name in outputs if name == "score"):
        return float("nan"), None
    verdict = front_end.merge(outputs, request.context)
    return _score(verdict), verdict.map


def artifact_score(
    engine: Engine, front_end: FrontEnd, pixels: npt.NDArray[np.uint8]
) -> tuple[float, npt.NDArray[np.float32] | None]:
    """An artifact's score on the source's scale, and its map; NaN where the score is not finite."""
    request = front_end.push(frame_of(pixels))
    if request is None:
        raise GateError("the front-end gives no verdict on a single frame")
    return _merged(engine, front_end, request)
