"""RBDC and TBDC against the definition, written out detection by detection; and cases made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sspcab_edge.region_metrics import RegionScores, VideoRegions, box_iou, region_scores

_Box = tuple[float, float, float, float]


def _overlap(a: _Box, b: _Box) -> float:
    """IoU in whole pixels, counted one by one."""
    first, second = (
        {(x, y) for x in range(int(c[0]), int(c[2]) + 1) for y in range(int(c[1]), int(c[3]) + 1)}
        for c in (a, b)
    )
    return len(first & second) / len(first | second)


def _brute(videos: list[VideoRegions], alpha: float, beta: float) -> RegionScores | None:
    """The definition: every prefix of the detections is judged on its own."""
    regions = [
        (v, int(track), int(frame), tuple(map(float, box)))
        for v, video in enumerate(videos)
        for track, frame, box in zip(video.tracks, video.region_frames, video.region_boxes, strict=True)
    ]
    detections = [
        (v, int(frame), tuple(map(float, box)), float(score))
        for v, video in enumerate(videos)
        for frame, box, score in zip(video.detection_frames, video.detection_boxes, video.scores, strict=True)
    ]
    if not regions:
        return None
    detections.sort(key=lambda one: -one[3])
    frames = sum(video.frames for video in videos)
    points = [(0.0, 0.0, 0.0)]
    matched: set[int] = set()
    false = 0
    for v, frame, box, _ in detections:
        hits = {
            number
            for number, region in enumerate(regions)
            if region[0] == v and region[2] == frame and _overlap(box, region[3]) >= beta  # type: ignore[arg-type]
        }
        matched |= hits
        false += not hits
        tracks: dict[tuple[int, int], list[bool]] = {}
        for number, region in enumerate(regions):
            tracks.setdefault((region[0], region[1]), []).append(number in matched)
        found = sum(sum(track) / len(track) >= alpha for track in tracks.values())
        points.append((false / frames, len(matched) / len(regions), found / len(tracks)))
    points = [point for point in points if point[0] <= 1]
    areas = [0.0, 0.0]
    for before, after in itertools.pairwise(points):
        for which in (0, 1):
            areas[which] += (after[0] - before[0]) * (before[1 + which] + after[1 + which]) / 2
    for which in (0, 1):
        areas[which] += (1 - points[-1][0]) * points[-1][1 + which]
    return RegionScores(*areas)


def _random(rng: np.random.Generator) -> VideoRegions:
    frames = int(rng.integers(1, 7))

    def boxes(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        corner, size = rng.integers(0, 8, (count, 2)), rng.integers(0, 6, (count, 2))
        return np.concatenate([corner, corner + size], axis=1).astype(np.float64)

    regions, detections = int(rng.integers(0, 9)), int(rng.integers(0, 14))
    return VideoRegions(
        frames=frames,
        tracks=rng.integers(0, 3, regions),
        region_frames=rng.integers(0, frames, regions),
        region_boxes=boxes(regions),
        detection_frames=rng.integers(0, frames, detections),
        detection_boxes=boxes(detections),
        scores=rng.integers(0, 6, detections) / 4,
    )


def test_a_thousand_random_sets() -> None:
    """Equal to 1e-12, ties, empty videos and rates beyond 1 among them."""
    rng = np.random.default_rng(11)
    beyond = empty = 0
    for _ in range(1000):
        videos = [_random(rng) for _ in range(int(rng.integers(1, 4)))]
        alpha, beta = float(rng.choice([0.1, 0.5, 1.0])), float(rng.choice([0.1, 0.3]))
        expected, found = _brute(videos, alpha, beta), region_scores(videos, alpha=alpha, beta=beta)
        if expected is None:
            assert found is None
            empty += 1
            continue
        assert found is not None
        assert found.rbdc == pytest.approx(expected.rbdc, abs=1e-12)
        assert found.tbdc == pytest.approx(expected.tbdc, abs=1e-12)
        beyond += sum(len(video.scores) for video in videos) > sum(video.frames for video in videos)
    assert beyond > 100
    assert empty > 5


def _video(
    frames: int, regions: list[tuple[int, int, _Box]], detections: list[tuple[int, _Box, float]]
) -> VideoRegions:
    return VideoRegions(
        frames,
        np.array([track for track, _, _ in regions], np.int64),
        np.array([frame for _, frame, _ in regions], np.int64),
        np.array([box for _, _, box in regions], np.float64).reshape(-1, 4),
        np.array([frame for frame, _, _ in detections], np.int64),
        np.array([box for _, box, _ in detections], np.float64).reshape(-1, 4),
        np.array([score for _, _, score in detections], np.float64),
    )


_A, _B, _FAR = (0.0, 0.0, 9.0, 9.0), (20.0, 0.0, 29.0, 9.0), (50.0, 50.0, 59.0, 59.0)


@pytest.mark.parametrize(
    ("detections", "rbdc", "tbdc"),
    [
        ([(0, _A, 0.9), (1, _A, 0.8)], 1.0, 1.0),
        ([], 0.0, 0.0),
        # one of two regions: half of the regions, all of the one track
        ([(0, _A, 0.9)], 0.5, 1.0),
        # the right box in the wrong frame is a false positive: 1 of 2 frames, then nothing
        ([(0, _B, 0.9)], 0.0, 0.0),
        # a false positive first: the curve is 0 to 0.5, and 1 after it
        ([(0, _FAR, 0.9), (0, _A, 0.5), (1, _A, 0.4)], 0.5, 0.5),
        # two more of the same region are no false positives
        ([(0, _A, 0.9), (0, _A, 0.8), (0, _A, 0.7), (1, _A, 0.6)], 1.0, 1.0),
        # three false positives in two frames: the curve is cut at a rate of 1, before the hits
        ([(0, _FAR, 0.9), (0, _FAR, 0.8), (1, _FAR, 0.7), (0, _A, 0.5)], 0.0, 0.0),
    ],
)
def test_by_hand(detections: list[tuple[int, _Box, float]], rbdc: float, tbdc: float) -> None:
    found = region_scores([_video(2, [(0, 0, _A), (0, 1, _A)], detections)])
    assert found == RegionScores(rbdc, tbdc)


def test_one_detection_may_match_several_regions() -> None:
    both = (0.0, 0.0, 29.0, 9.0)
    found = region_scores([_video(1, [(0, 0, _A), (1, 0, _B)], [(0, both, 1.0)])])
    assert found == RegionScores(1.0, 1.0)


def test_tracks_of_different_videos_are_different() -> None:
    first = _video(1, [(0, 0, _A)], [(0, _A, 1.0)])
    second = _video(1, [(0, 0, _A)], [])
    assert region_scores([first, second]) == RegionScores(0.5, 0.5)


def test_both_ends_are_inside() -> None:
    """A box of one pixel has an area of one."""
    one = np.array([[3.0, 3.0, 3.0, 3.0]])
    assert box_iou(one, np.array([[3.0, 3.0, 4.0, 4.0]]))[0, 0] == 0.25
    assert box_iou(one, one)[0, 0] == 1.0
    assert box_iou(one, np.array([[5.0, 3.0, 6.0, 3.0]]))[0, 0] == 0.0


def test_what_is_refused() -> None:
    good = _video(1, [(0, 0, _A)], [(0, _A, 1.0)])
    with pytest.raises(ValueError, match="no videos"):
        region_scores([])
    with pytest.raises(ValueError, match="0 frames"):
        _video(0, [], [])
    with pytest.raises(ValueError, match="NaN"):
        _video(1, [], [(0, _A, float("nan"))])
    with pytest.raises(ValueError, match=r"region_boxes are \(1, 4\), expected \(2, 4\)"):
        VideoRegions(
            1, np.array([0, 1]), np.array([0, 0]), good.region_boxes, good.detection_frames,
            good.detection_boxes, good.scores,
        )  # fmt: skip
