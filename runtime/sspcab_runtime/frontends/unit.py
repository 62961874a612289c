"""What one entry of the graph's batch holds, straight into the engine: how the parity pack is replayed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sspcab_edge.decision import is_anomalous
from sspcab_edge.errors import InputError
from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Frame, Request, Verdict
from sspcab_runtime.frontends.scores import on_source_scale

__all__ = ["Unit"]


class Unit:
    """One unit in, its score and map out: no geometry, no zones, no levels. Remembers nothing.

    A unit is the whole region as the graph takes it, or one tile.

    Args:
        manifest: Of the bundle; says how large a unit is.
        artifact: Says how its scores are mapped onto the source's scale.
        threshold: On the source's scale, or None for scores without labels.
    """

    def __init__(self, manifest: Manifest, artifact: Artifact, threshold: float | None) -> None:
        self.shape = (manifest.preprocess.height, manifest.preprocess.width, 3)
        self.score_map = artifact.score_map
        self.threshold = threshold

    def push(self, frame: Frame) -> Request:
        """``frames``: (1, height, width, 3) uint8 RGB, the frame as it is.

        Raises:
            InputError: The frame is not (height, width, 3) uint8, the size of the graph's input.
        """
        pixels = frame.pixels
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            raise InputError(
                f"unit is {tuple(pixels.shape)} {pixels.dtype}, expected {self.shape} uint8 RGB: "
                "give it as the graph takes it"
            )
        return Request({"frames": np.ascontiguousarray(pixels)[None]})

    def merge(self, outputs: Mapping[str, Array], context: object = None) -> Verdict:
        """The verdict of one unit from ``score`` (1,) and, where the host localises, ``map`` (1, h, w).

        Raises:
            EngineError: The score is not finite; no threshold could judge it.
        """
        score = float(on_source_scale(self.score_map, outputs["score"])[0])
        heat = outputs.get("map")
        return Verdict(
            score=score,
            threshold=self.threshold,
            anomalous=is_anomalous(score, self.threshold),
            map=None if heat is None else np.asarray(heat[0], dtype=np.float32),
        )

    def reset(self) -> None:
        """Nothing is remembered, so nothing is forgotten."""
