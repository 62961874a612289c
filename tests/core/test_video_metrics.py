"""Micro and macro frame areas against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sspcab_edge.video_metrics import macro_auroc, micro_auroc


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        videos = [
            (rng.integers(0, 9, count) / 8, rng.random(count) < 0.3)
            for count in rng.integers(3, 30, int(rng.integers(2, 6)))
        ]
        labels = np.concatenate([truth for _, truth in videos])
        if labels.any() and not labels.all():
            expected = roc_auc_score(labels, np.concatenate([scores for scores, _ in videos]))
            assert micro_auroc(videos) == pytest.approx(expected, abs=1e-12)
        each = [roc_auc_score(np.r_[False, truth, True], np.r_[0.0, scores, 1.0]) for scores, truth in videos]
        assert macro_auroc(videos) == pytest.approx(np.mean(each), abs=1e-12)


def test_one_class_alone() -> None:
    """A video without anomalies has a macro area all the same; micro has none."""
    video = (np.array([0.2, 0.4]), np.array([False, False]))
    assert micro_auroc([video]) is None
    assert macro_auroc([video]) == 1.0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="no videos"):
        macro_auroc([])
    with pytest.raises(ValueError, match=r"between 0\.5 and 7, expected between 0 and 1"):
        macro_auroc([(np.array([0.5, 7.0]), np.array([False, True]))])
