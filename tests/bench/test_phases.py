"""What counts in a stream that is timed."""

from __future__ import annotations

import numpy as np
import pytest

from sspcab_bench.phases import with_score
from sspcab_edge.errors import InputError, PictureError
from sspcab_edge.protocols import Frame, Verdict
from sspcab_runtime.pipeline import Failure, Result


def _result(number: int, score: float | None) -> Result:
    frame = Frame(np.zeros((1, 1, 3), np.uint8), number, "few", 0.0, 0.0)
    return Result(frame, Verdict(score, None, None), 0.0, {})


def test_frames_without_a_score_do_not_count() -> None:
    """As those that a front-end warms up on, at the beginning and again at each pass of a film."""
    scores = [None, None, 0.5, None, 0.25, 0.0]
    kept = with_score(_result(number, score) for number, score in enumerate(scores))
    assert [(one.frame.index, one.verdict.score) for one in kept] == [(2, 0.5), (4, 0.25), (5, 0.0)]


def test_a_stream_without_any_score_ends() -> None:
    with pytest.raises(InputError, match="none of 1000 frames has a score"):
        next(with_score(_result(number, None) for number in range(10_000)))


def test_a_frame_that_failed_ends_it() -> None:
    failure = Failure(None, PictureError("torn"))
    with pytest.raises(PictureError, match="torn"):
        next(with_score([failure]))
