"""The front-end for hosts that look at one whole picture: resize it, run it, read score and map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sspcab_edge.decision import is_anomalous
from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Array
from sspcab_edge.preprocess import prepare
from sspcab_edge.protocols import Frame, Request, Verdict
from sspcab_runtime.frontends.map_size import map_size
from sspcab_runtime.frontends.pose import Pose
from sspcab_runtime.frontends.scores import on_source_scale, score_inside
from sspcab_runtime.frontends.view import open_view
from sspcab_runtime.frontends.zones import read_inside, touched

__all__ = ["WholeFrame"]


class WholeFrame:
    """One frame in, one verdict out; remembers nothing.

    The frame, or the region of it that the manifest names, becomes one input of the graph. Where only a part
    of it is judged, the score is made anew from that part of the map; a host whose score does not follow from
    its map is judged whole.

    Args:
        manifest: Of the bundle; says which part of a frame is looked at and how it is resized.
        artifact: Says how its scores are mapped onto the source's scale.
        threshold: On the source's scale, or None for scores without labels.
        folder: The bundle's, where the front-end has a reference or a mask.

    Raises:
        BundleError: A picture of the front-end cannot be read, or nothing is left to look at.
    """

    remembers = False

    def __init__(
        self, manifest: Manifest, artifact: Artifact, threshold: float | None, folder: Path | None = None
    ) -> None:
        self.preprocess = manifest.preprocess
        self.score_map = artifact.score_map
        self.threshold = threshold
        self.rule = manifest.score
        self.view = open_view(manifest.front_end, folder)
        inside = read_inside(manifest.front_end, folder)
        size = None if inside is None else map_size(manifest)
        self._inside = None if inside is None or size is None else touched(inside, size)

    def push(self, frame: Frame) -> Request:
        """``frames``: (1, height, width, 3) uint8 RGB.

        Raises:
            InputError: The frame is not (H, W, 3) uint8.
            RegistrationError: The frame does not show the scene where it should be.
        """
        if self.view is None:
            return Request({"frames": prepare(frame.pixels, self.preprocess)[None]})
        pixels, pose = self.view.cut(frame)
        return Request({"frames": prepare(pixels, self.preprocess)[None]}, context=pose)

    def merge(self, outputs: Mapping[str, Array], context: object = None) -> Verdict:
        """The verdict of one frame from ``score`` (1,) and, where the host localises, ``map`` (1, h, w).

        Raises:
            EngineError: The score is not finite; no threshold could judge it.
        """
        score = float(on_source_scale(self.score_map, outputs["score"])[0])
        heat = np.asarray(outputs["map"][0], dtype=np.float32) if "map" in outputs else None
        if heat is not None and self._inside is not None:
            if self.rule is not None:
                own = np.array([score_inside(self.rule, heat, self._inside)])
                score = float(on_source_scale(self.score_map, own)[0])
            heat = np.where(self._inside, heat, np.float32(0))
        if heat is not None and self.view is not None:
            heat = self.view.place(heat, context if isinstance(context, Pose) else None)
        return Verdict(
            score=score,
            threshold=self.threshold,
            anomalous=is_anomalous(score, self.threshold),
            map=heat,
        )

    def reset(self) -> None:
        """Nothing is remembered, so nothing is forgotten."""
