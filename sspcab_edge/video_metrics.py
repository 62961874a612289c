"""Frame-level metrics of video anomaly detection: micro and macro area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sspcab_edge.metrics import auroc

__all__ = ["macro_auroc", "micro_auroc"]

VideoFrames = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
"""Scores and labels (True for anomalous) of the frames of one video, both (n,)."""


def micro_auroc(videos: Sequence[VideoFrames]) -> float | None:
    """Of all frames of all videos together; None where one of the two classes is missing."""
    return auroc(
        np.concatenate([scores for scores, _ in videos]), np.concatenate([labels for _, labels in videos])
    )


def macro_auroc(videos: Sequence[VideoFrames]) -> float:
    """The mean of each video's own.

    Every video gets a normal frame of score 0 and an anomalous one of score 1, so that videos with one class
    have an area too (the convention of Georgescu, Ristea et al.). Scores are expected in [0, 1].

    Raises:
        ValueError: There are no videos, or a score lies outside of [0, 1].
    """
    if not videos:
        raise ValueError("no videos to score")
    areas = []
    for scores, labels in videos:
        if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
            raise ValueError(
                f"scores lie between {scores.min():.4g} and {scores.max():.4g}, expected between 0 and 1: "
                "the frames that are added would not be the lowest and the highest"
            )
        area = auroc(np.concatenate([[0.0], scores, [1.0]]), np.concatenate([[False], labels, [True]]))
        assert area is not None
        areas.append(area)
    return float(np.mean(areas))
