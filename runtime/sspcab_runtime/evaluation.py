"""How good a detector is on labelled pictures, on this device: the computation, without any printing.

::

    with Detector.open("bundle") as detector:
        evaluation = evaluate(detector, read_dataset("bottle"))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sspcab_edge.datasets import Category, Dataset, LabelledImage, read_mask
from sspcab_edge.decision import threshold_from_labels
from sspcab_edge.errors import EngineError, PictureError
from sspcab_edge.metrics import (
    Confusion,
    GrowingRanking,
    auroc,
    average_precision,
    confusion,
    ranked_auroc,
    ranked_average_precision,
)
from sspcab_edge.printable import printable
from sspcab_edge.protocols import Frame
from sspcab_edge.region_overlap import RegionOverlap, label_regions
from sspcab_runtime.detector import Detector
from sspcab_runtime.pipeline import Failure, Result
from sspcab_runtime.sources.pictures import Pictures

__all__ = [
    "Areas",
    "BestF1",
    "Evaluation",
    "Figures",
    "Judged",
    "Speed",
    "evaluate",
    "mask_at",
]

_NAMED_FAILURES = 10
_Label = TypeVar("_Label", np.bool_, np.int32)


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture and what the detector said of it.

    Attributes:
        path: The file.
        name: Path below the data set.
        category: Of the data set.
        label: Whether it is anomalous.
        score: On the source's scale.
        anomalous: The verdict; None without a threshold.
    """

    path: Path
    name: str
    category: str
    label: bool
    score: float
    anomalous: bool | None


@dataclass(frozen=True, slots=True)
class Areas:
    """Threshold-free figures, 0 to 1, each None where there is none.

    Attributes:
        image_auroc: Of the pictures' scores.
        image_ap: Average precision of the same.
        pixel_auroc: Of all values of the score maps; see :func:`evaluate`.
        pixel_ap: Average precision of the same.
        aupro: Area under the per-region overlap up to a false-positive rate of 0.3, over 0.3; see
            :mod:`sspcab_edge.region_overlap`.
    """

    image_auroc: float | None = None
    image_ap: float | None = None
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    aupro: float | None = None


@dataclass(frozen=True, slots=True)
class BestF1:
    """The best F1 of any threshold, and that threshold: chosen on the test set, so no figure to report."""

    f1: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one category adds up to.

    Attributes:
        name: Of the category.
        normal: How many pictures are normal.
        anomalous: How many are anomalous.
        areas: Its areas.
        pixel_slack: How far the pixel areas can be off, where there was too much to rank exactly; 0.0: exact.
        without_pixels: Why there are no pixel areas, in words; None where there are.
        confusion: Verdicts against labels; None without a threshold.
        best_f1: For information; None where a class is missing.
    """

    name: str
    normal: int
    anomalous: int
    areas: Areas
    pixel_slack: float
    without_pixels: str | None
    confusion: Confusion | None
    best_f1: BestF1 | None


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast it went, from file to verdict: decoding, resizing, inference and judging.

    Attributes:
        fps: Pictures a second by the wall clock, the first ones included; decoding, inference and the work of
            evaluating (reading masks, ranking) overlap.
        median_ms: Of the work on one picture, from decoding to verdict, without waiting.
        p95_ms: Of the same, the 95th percentile.
    """

    fps: float
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All of it.

    Attributes:
        threshold: That judged; None: scores only.
        categories: One or more, in the order of the data set.
        mean: Of the areas over the categories, where there are several and each of them has the area.
        confusion: Of all categories together; None without a threshold.
        pictures: Every picture, in the order of the data set.
        speed: How fast it went.
        converted: What decoding had to convert, in words, and in how many pictures.
    """

    threshold: float | None
    categories: tuple[Figures, ...]
    mean: Areas | None
    confusion: Confusion | None
    pictures: tuple[Judged, ...]
    speed: Speed
    converted: Mapping[str, int]


def evaluate(
    detector: Detector, dataset: Dataset, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Judge every picture of a data set through the runtime, as live frames are, and compare with the labels.

    Pixel figures are over all values of all maps of a category, normal pictures included, at the map's own
    size: masks come to it by nearest neighbour (:func:`mask_at`), so that every value counts once, with the
    label at its centre. DRAEM's own recipe differs: it resizes masks bilinearly and then counts only what
    stayed fully anomalous, which trims a line around each region. Regions for AUPRO are told apart at the
    mask's own size; one that is too small for any value of the map is left out.

    Args:
        detector: Opened, with the threshold that is to judge.
        dataset: From :func:`~sspcab_runtime.datasets.read_dataset`.
        progress: Called with (pictures judged, pictures in all).

    Raises:
        PictureError: Pictures cannot be judged, or a mask cannot be read or has not its picture's size.
        EngineError: The engine failed, or a picture got no score, or a map that is not finite.
    """
    tally = _Tally(dataset.count, progress)
    figures, judged = [], []
    for category in dataset.categories:
        pictures, pixels, overlap = _judge(detector, category, tally)
        figures.append(_figures(category, pictures, pixels, overlap))
        judged.extend(pictures)
    if tally.failures:
        raise _unjudged(tally.failures, dataset.count)
    return Evaluation(
        threshold=detector.threshold,
        categories=tuple(figures),
        mean=_mean([one.areas for one in figures]) if len(figures) > 1 else None,
        confusion=_confusion(judged),
        pictures=tuple(judged),
        speed=tally.speed(),
        converted=tally.converted,
    )


def mask_at(mask: npt.NDArray[_Label], shape: tuple[int, int]) -> npt.NDArray[_Label]:
    """Labels (H, W) at another size (h, w): for each pixel, the label at its centre (nearest neighbour).

    Row i of h looks at row floor((i + 1/2) H / h), columns likewise.
    """
    rows, columns = (
        (2 * np.arange(size, dtype=np.int64) + 1) * full // (2 * size)
        for size, full in zip(shape, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


@dataclass(slots=True)
class _Tally:
    """What adds up over all categories."""

    total: int
    progress: Callable[[int, int], None] | None
    done: int = 0
    failures: list[Failure] = field(default_factory=list)
    converted: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    def count(self, result: Result | Failure) -> None:
        self.done += 1
        if isinstance(result, Failure):
            self.failures.append(result)
        else:
            self.latencies_ms.append(result.latency_ms)
            converted = result.frame.converted
            if converted is not None:
                self.converted[converted] = self.converted.get(converted, 0) + 1
        if self.progress is not None:
            self.progress(self.done, self.total)

    def speed(self) -> Speed:
        median, p95 = np.percentile(self.latencies_ms, [50, 95])
        return Speed(len(self.latencies_ms) / self.elapsed_s, float(median), float(p95))


def _judge(
    detector: Detector, category: Category, tally: _Tally
) -> tuple[list[Judged], GrowingRanking | None, RegionOverlap]:
    """Verdicts of a category's images, and the ranking of its pixels where it has masks and maps."""
    pixels = GrowingRanking() if category.masks else None
    overlap = RegionOverlap()
    judged: list[Judged] = []
    paths = [picture.path for picture in category.images]
    start = time.perf_counter()
    with closing(Pictures(category.name, paths)) as source, closing(detector.stream(source)) as results:
        for result, picture in zip(results, category.images, strict=True):
            tally.count(result)
            if isinstance(result, Failure):
                continue
            verdict = result.verdict
            if verdict.score is None:
                raise EngineError(f"{picture.path} got no score: the host wants a sequence, not pictures")
            if verdict.map is None:
                pixels = None
            elif pixels is not None:
                regions = _regions(picture, result.frame, verdict.map)
                pixels.add(verdict.map, regions > 0)
                if picture.label:
                    overlap.add(verdict.map, regions)
            judged.append(
                Judged(
                    path=picture.path,
                    name=picture.name,
                    category=category.name,
                    label=picture.label,
                    score=verdict.score,
                    anomalous=verdict.anomalous,
                )
            )
    tally.elapsed_s += time.perf_counter() - start
    return judged, pixels, overlap


def _regions(image: LabelledImage, frame: Frame, heat: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """The anomalous region of every value of a map (h, w), 0 for none."""
    if not np.isfinite(heat).all():
        raise EngineError(f"the map of {printable(image.path)} has values that are not finite")
    height, width = frame.pixels.shape[:2]
    mask = np.zeros((height, width), dtype=bool)
    for path in image.masks:
        own = read_mask(path)
        if own.shape != mask.shape:
            raise PictureError(
                f"the mask {printable(path)} is {own.shape[1]}x{own.shape[0]} pixels, but its image "
                f"{printable(image.path)} is {width}x{height}: masks have the size of their image"
            )
        mask |= own
    return mask_at(label_regions(mask), (heat.shape[0], heat.shape[1]))


def _figures(
    category: Category, judged: Sequence[Judged], pixels: GrowingRanking | None, overlap: RegionOverlap
) -> Figures:
    scores = [picture.score for picture in judged]
    labels = [picture.label for picture in judged]
    ranking = None if pixels is None else pixels.ranking
    areas = Areas(
        image_auroc=auroc(scores, labels),
        image_ap=average_precision(scores, labels),
        pixel_auroc=None if ranking is None else ranked_auroc(ranking),
        pixel_ap=None if ranking is None else ranked_average_precision(ranking),
        aupro=None if ranking is None or pixels is None else overlap.area(ranking, pixels.dropped_bits),
    )
    without = None
    if not category.masks:
        without = "no masks"
    elif pixels is None:
        without = "the host gives no map"
    elif areas.pixel_auroc is None:
        without = "no pixel is anomalous, or none is normal"
    return Figures(
        name=category.name,
        normal=labels.count(False),
        anomalous=labels.count(True),
        areas=areas,
        pixel_slack=0.0 if pixels is None else pixels.slack,
        without_pixels=without,
        confusion=_confusion(judged),
        best_f1=_best_f1(scores, labels),
    )


def _confusion(judged: Sequence[Judged]) -> Confusion | None:
    flagged = [picture.anomalous for picture in judged if picture.anomalous is not None]
    if not flagged:
        return None
    return confusion(flagged, [picture.label for picture in judged])


def _best_f1(scores: Sequence[float], labels: Sequence[bool]) -> BestF1 | None:
    if all(labels) or not any(labels):
        return None
    decision = threshold_from_labels(scores, labels)
    if decision.threshold is None or decision.parameter is None:
        return None
    return BestF1(decision.parameter, decision.threshold)


def _mean(areas: Sequence[Areas]) -> Areas:
    """The mean of each area that all have."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    return Areas(
        image_auroc=mean([one.image_auroc for one in areas]),
        image_ap=mean([one.image_ap for one in areas]),
        pixel_auroc=mean([one.pixel_auroc for one in areas]),
        pixel_ap=mean([one.pixel_ap for one in areas]),
        aupro=mean([one.aupro for one in areas]),
    )


def _unjudged(failures: Sequence[Failure], total: int) -> PictureError:
    """One error for all pictures that could not be judged."""
    named = "; ".join(str(failure.error) for failure in failures[:_NAMED_FAILURES])
    more = len(failures) - _NAMED_FAILURES
    rest = f"; and {more} more" if more > 0 else ""
    return PictureError(f"{len(failures)} of {total} pictures could not be judged: {named}{rest}")
