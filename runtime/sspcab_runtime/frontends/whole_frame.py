"""The front-end for hosts that look at one whole frame: resize it, run it, read score and map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sspcab_edge.decision import apply_score_map, is_anomalous
from sspcab_edge.errors import EngineError
from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Array
from sspcab_edge.preprocess import prepare
from sspcab_edge.protocols import Frame, Request, Verdict

__all__ = ["WholeFrame"]


class WholeFrame:
    """One frame in, one verdict out; remembers nothing.

    Args:
        manifest: Of the bundle; says how frames are resized.
        artifact: Says how its scores are mapped onto the source's scale.
        threshold: On the source's scale, or None for scores without labels.
    """

    def __init__(self, manifest: Manifest, artifact: Artifact, threshold: float | None) -> None:
        self.preprocess = manifest.preprocess
        self.score_map = artifact.score_map
        self.threshold = threshold

    def push(self, frame: Frame) -> Request:
        """``frames``: (1, height, width, 3) uint8 RGB.

        Raises:
            InputError: The frame is not (H, W, 3) uint8.
        """
        return Request({"frames": prepare(frame.pixels, self.preprocess)[None]})

    def merge(self, outputs: Mapping[str, Array], context: object = None) -> Verdict:
        """The verdict of one frame from ``score`` (1,) and, where the host localises, ``map`` (1, h, w).

        Raises:
            EngineError: The score is not finite; no threshold could judge it.
        """
        score = float(apply_score_map(self.score_map, np.asarray(outputs["score"], dtype=np.float64))[0])
        if not np.isfinite(score):
            raise EngineError(f"the network gave the score {score}: the frame cannot be judged")
        heat = outputs.get("map")
        return Verdict(
            score=score,
            threshold=self.threshold,
            anomalous=is_anomalous(score, self.threshold),
            map=None if heat is None else np.asarray(heat[0], dtype=np.float32),
        )

    def reset(self) -> None:
        """Nothing is remembered, so nothing is forgotten."""
