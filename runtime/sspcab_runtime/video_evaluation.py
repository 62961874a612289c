"""How good a bundle is on labelled videos: frame AUC, RBDC, TBDC; with the device's scores and the papers'.

The device's scores are causal: what it says of a frame it knew then. Papers smooth each video's scores with
filters that look into the future; such figures are given beside, and called non-causal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import OptionError, PictureError
from sspcab_edge.metrics import auroc
from sspcab_edge.protocols import ScoredObject
from sspcab_edge.region_metrics import RegionScores, VideoRegions, region_scores
from sspcab_edge.video_metrics import macro_auroc, micro_auroc
from sspcab_runtime.detector import Detector
from sspcab_runtime.pipeline import Failure
from sspcab_runtime.sources.files import open_path
from sspcab_runtime.video_datasets import LabelledVideo

__all__ = [
    "FILTERS",
    "FrameAreas",
    "PaperFilter",
    "VideoEvaluation",
    "evaluate_videos",
    "gaussian_smoothed",
    "held",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PaperFilter:
    """How papers smooth each video's scores.

    Attributes:
        length: Of the Gaussian, in frames.
        sigma: Its standard deviation, in frames.
        unit: Whether each video's scores are brought to 0 to 1 afterwards.
    """

    length: int
    sigma: float
    unit: bool


FILTERS: dict[str, PaperFilter] = {
    "avenue": PaperFilter(37, 11.0, unit=False),
    "shanghaitech": PaperFilter(900, 282.0, unit=True),
}
"""As the authors' group does (Ristea et al., AED-MAE, CVPR 2024), by layout. They reach as far into the
future as into the past."""


@dataclass(frozen=True, slots=True)
class FrameAreas:
    """Areas under the ROC curve of frames; None where a class is missing.

    Attributes:
        micro: Of all frames together.
        macro: Mean over videos.
    """

    micro: float | None
    macro: float | None


@dataclass(frozen=True, slots=True)
class VideoEvaluation:
    """What a bundle shows on a test set.

    Attributes:
        videos: How many.
        frames: How many in all.
        anomalous: How many of them are labelled so.
        silent: Frames without a verdict, which take the nearest one's score.
        causal: With the scores that the device gives.
        noncausal: With each video's scores smoothed as in papers.
        regions: RBDC and TBDC of the objects' boxes; None without objects or labelled regions.
        false_alarms: Share of normal frames above the threshold; None without one.
        caught: Share of anomalous frames above it.
        by_video: (name, AUC or None where one class is missing).
        fps: Frames a second, from file to verdict.
    """

    videos: int
    frames: int
    anomalous: int
    silent: int
    causal: FrameAreas
    noncausal: FrameAreas
    regions: RegionScores | None
    false_alarms: float | None
    caught: float | None
    by_video: tuple[tuple[str, float | None], ...]
    fps: float


def evaluate_videos(
    detector: Detector,
    videos: Sequence[LabelledVideo],
    layout: str,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> VideoEvaluation:
    """Judge every frame of the videos, each from its beginning.

    Args:
        detector: Open.
        videos: One or more.
        layout: Whose filter papers use.
        progress: Told how many frames are done, of how many.

    Raises:
        OptionError: A video has another number of frames than labels.
        PictureError: A frame cannot be judged, or a video gets no verdict at all.
    """
    total = sum(len(video.labels) for video in videos)
    series: list[tuple[Floats, npt.NDArray[np.bool_]]] = []
    regions: list[VideoRegions] = []
    silent = 0
    start = time.perf_counter()
    for video in videos:
        done = sum(len(scores) for scores, _ in series)
        scores, objects, size = _judged(detector, video, partial(_further, progress, done, total))
        silent += int(np.isnan(scores).sum())
        series.append((held(scores, video.name), video.labels))
        progress(done + len(scores), total)  # the last frames may have had no verdict
        if objects is not None and video.regions is not None:
            regions.append(_regions(video, objects, size))
    elapsed = time.perf_counter() - start
    smooth = [(gaussian_smoothed(scores, FILTERS[layout]), labels) for scores, labels in series]
    labels = np.concatenate([own for _, own in series])
    flagged = None
    if detector.threshold is not None:
        flagged = np.concatenate([scores for scores, _ in series]) > detector.threshold
    return VideoEvaluation(
        videos=len(videos),
        frames=total,
        anomalous=int(labels.sum()),
        silent=silent,
        causal=_areas(series),
        noncausal=_areas(smooth),
        regions=region_scores(regions) if len(regions) == len(videos) else None,
        false_alarms=_share(flagged, ~labels),
        caught=_share(flagged, labels),
        by_video=tuple(
            (video.name, auroc(scores, own)) for video, (scores, own) in zip(videos, series, strict=True)
        ),
        fps=total / elapsed,
    )


def held(scores: Floats, name: str = "a video") -> Floats:
    """Scores with those that are missing (NaN) taken from the frame before, the first ones from the next.

    Raises:
        PictureError: All are missing.
    """
    known = np.flatnonzero(~np.isnan(scores))
    if not len(known):
        raise PictureError(f"{name} gets no verdict: it is shorter than the front-end needs to warm up")
    last = np.maximum.accumulate(np.where(np.isnan(scores), -1, np.arange(len(scores))))
    return np.asarray(scores[np.where(last < 0, known[0], last)])


def gaussian_smoothed(scores: Floats, by: PaperFilter) -> Floats:
    """One video's scores by a centred Gaussian, with the video's least score around it.

    Padding is zero for scores that begin at zero, as the authors' do.
    """
    half = by.length // 2
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / by.sigma) ** 2)
    low = scores.min()
    full = np.convolve(scores - low, kernel / kernel.sum(), mode="full")
    smooth = full[half : half + len(scores)] + low
    if not by.unit:
        return np.asarray(smooth)
    spread = np.ptp(smooth)
    return np.asarray((smooth - smooth.min()) / spread if spread > 0 else np.zeros_like(smooth))


def _further(progress: Callable[[int, int], None], done: int, total: int, own: int) -> None:
    progress(done + own, total)


def _areas(series: Sequence[tuple[Floats, npt.NDArray[np.bool_]]]) -> FrameAreas:
    everything = np.concatenate([scores for scores, _ in series])
    low, spread = everything.min(), np.ptp(everything)
    unit = [((scores - low) / spread if spread > 0 else scores * 0, labels) for scores, labels in series]
    return FrameAreas(micro_auroc(series), macro_auroc(unit))


def _share(flagged: npt.NDArray[np.bool_] | None, among: npt.NDArray[np.bool_]) -> float | None:
    return None if flagged is None or not among.any() else float(flagged[among].mean())


_Objects = list[tuple[ScoredObject, ...]]


def _judged(
    detector: Detector, video: LabelledVideo, progress: Callable[[int], None]
) -> tuple[Floats, _Objects | None, tuple[int, int]]:
    """Scores of a video's frames (NaN without verdict), objects by frame, and (height, width)."""
    count = len(video.labels)
    scores = np.full(count, np.nan)
    objects: _Objects = [()] * count
    any_objects, size, last = False, (0, 0), -1
    detector.front_end.reset()
    with closing(open_path(video.path)) as source, closing(detector.stream(source)) as results:
        for result in results:
            if isinstance(result, Failure):
                raise result.error
            index, verdict = result.frame.index, result.verdict
            size, last = (result.frame.pixels.shape[0], result.frame.pixels.shape[1]), index
            if index >= count:
                break
            if verdict.score is not None:
                scores[index] = verdict.score
            if verdict.objects is not None:
                any_objects, objects[index] = True, verdict.objects
            progress(index + 1)
    ahead = int(getattr(detector.front_end, "ahead", 0))
    if last + 1 + ahead != count and last + 1 != count:
        raise OptionError(
            f"{video.path} has {last + 1 + ahead if last < count else 'more'} frames, expected {count}: as "
            "many as labels"
        )
    return scores, objects if any_objects else None, size


def _regions(video: LabelledVideo, objects: _Objects, size: tuple[int, int]) -> VideoRegions:
    assert video.regions is not None
    down, across = (1.0, 1.0) if video.size is None else (video.size[0] / size[0], video.size[1] / size[1])
    rows = [(number, one) for number, found in enumerate(objects) for one in found]
    boxes = [
        (one.box[0] * across, one.box[1] * down, one.box[2] * across - 1, one.box[3] * down - 1)
        for _, one in rows
    ]
    return VideoRegions(
        frames=len(video.labels),
        tracks=video.regions.tracks,
        region_frames=video.regions.frames,
        region_boxes=video.regions.boxes,
        detection_frames=np.asarray([number for number, _ in rows], np.int64),
        detection_boxes=np.asarray(boxes, np.float64).reshape(-1, 4),
        scores=np.asarray([one.score for _, one in rows], np.float64),
    )
