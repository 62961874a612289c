"""Region-based and track-based detection of anomalies in videos: RBDC and TBDC.

After Ramachandra and Jones, "Street Scene: A new dataset and evaluation protocol for video anomaly
detection", WACV 2020. Detections of all videos are taken from the highest score down. A detection matches
every labelled region of its frame that it overlaps by an IoU of at least ``beta``; it is a false positive
only when it overlaps none. At each point of the curve, the false-positive rate is false positives over
frames, the region rate is matched regions over regions, and the track rate the share of tracks of whose
regions at least ``alpha`` are matched. RBDC and TBDC are the areas under these rates for false-positive rates
from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ALPHA", "BETA", "RegionScores", "VideoRegions", "box_iou", "region_scores"]

ALPHA = 0.1
"""Share of a track's regions that have to be matched."""

BETA = 0.1
"""Least IoU of a match."""

_Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VideoRegions:
    """One video: what is labelled in it, and what was detected.

    Boxes are x_min, y_min, x_max, y_max in pixels, both ends inside.

    Attributes:
        frames: How many frames it has.
        tracks: (n,) int64, the track of each region; numbers mean nothing beyond this video.
        region_frames: (n,) int64, the frame of each region.
        region_boxes: (n, 4) float64.
        detection_frames: (m,) int64, the frame of each detection.
        detection_boxes: (m, 4) float64.
        scores: (m,) float64, higher is more anomalous.
    """

    frames: int
    tracks: npt.NDArray[np.int64]
    region_frames: npt.NDArray[np.int64]
    region_boxes: _Boxes
    detection_frames: npt.NDArray[np.int64]
    detection_boxes: _Boxes
    scores: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        regions, detections = len(self.tracks), len(self.scores)
        for name, values, shape in (
            ("tracks", self.tracks, (regions,)),
            ("region_frames", self.region_frames, (regions,)),
            ("region_boxes", self.region_boxes, (regions, 4)),
            ("detection_frames", self.detection_frames, (detections,)),
            ("detection_boxes", self.detection_boxes, (detections, 4)),
            ("scores", self.scores, (detections,)),
        ):
            if values.shape != shape:
                raise ValueError(f"{name} are {values.shape}, expected {shape}")
        if self.frames < 1:
            raise ValueError(f"a video of {self.frames} frames, expected 1 or more")
        if not np.isfinite(self.scores).all():
            raise ValueError("scores hold NaN or infinity: their order means nothing")


@dataclass(frozen=True, slots=True)
class RegionScores:
    """Areas from 0 to 1, higher is better."""

    rbdc: float
    tbdc: float


def box_iou(first: _Boxes, second: _Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of (n, 4) with (m, 4) boxes, both ends inside: (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low + 1, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) for boxes in (first, second)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None, :] - common))


def region_scores(
    videos: Sequence[VideoRegions], *, alpha: float = ALPHA, beta: float = BETA
) -> RegionScores | None:
    """RBDC and TBDC of a test set; None where nothing is labelled in it.

    Detections of equal score stay in the order of videos, and in a video in theirs; a point each.
    The curve ends at its last point with a false-positive rate of at most 1, whose rates are held up to 1.

    Raises:
        ValueError: There are no videos.
    """
    if not videos:
        raise ValueError("no videos to score")
    scores = np.concatenate([video.scores for video in videos])
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    false = np.ones(len(scores), bool)
    never = len(scores)
    found_regions: list[npt.NDArray[np.int64]] = []
    found_tracks: list[int] = []
    start = 0
    for video in videos:
        own = ranks[start : start + len(video.scores)]
        first, hits = _match(video, own, beta, never)
        false[own[hits]] = False
        found_regions.append(first)
        found_tracks += [_track(first[video.tracks == track], alpha) for track in np.unique(video.tracks)]
        start += len(video.scores)
    regions = np.concatenate(found_regions)
    if len(regions) == 0:
        return None
    rates = np.concatenate([[0.0], np.cumsum(false)]) / sum(video.frames for video in videos)
    return RegionScores(
        _area(rates, _curve(regions, never)), _area(rates, _curve(np.asarray(found_tracks), never))
    )


def _match(
    video: VideoRegions, ranks: npt.NDArray[np.int64], beta: float, never: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The rank of the first detection of each region, and which detections match anything."""
    first = np.full(len(video.tracks), never, np.int64)
    hits = np.zeros(len(ranks), bool)
    for frame in np.intersect1d(video.region_frames, video.detection_frames):
        regions = np.flatnonzero(video.region_frames == frame)
        detections = np.flatnonzero(video.detection_frames == frame)
        matched = box_iou(video.detection_boxes[detections], video.region_boxes[regions]) >= beta
        hits[detections] = matched.any(axis=1)
        first[regions] = np.where(matched, ranks[detections][:, None], never).min(axis=0)
    return first, hits


def _track(first: npt.NDArray[np.int64], alpha: float) -> int:
    """The rank at which enough regions of a track are matched."""
    shares = np.arange(1, len(first) + 1) / len(first)
    enough = min(int(np.searchsorted(shares, alpha)) + 1, len(first))
    return int(np.sort(first)[enough - 1])


def _curve(first: npt.NDArray[np.int64], never: int) -> npt.NDArray[np.float64]:
    """The share that is found before any detection, after the first, and so on: (never + 1,)."""
    counts = np.bincount(first[first < never] + 1, minlength=never + 1)
    return np.asarray(np.cumsum(counts) / len(first))


def _area(rates: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> float:
    last = int(np.flatnonzero(rates <= 1)[-1])
    x, y = rates[: last + 1], values[: last + 1]
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() + (1 - x[-1]) * y[-1])
