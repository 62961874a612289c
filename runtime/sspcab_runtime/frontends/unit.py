"""What one entry of the graph's batch holds, straight into the engine: how the parity pack is replayed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sspcab_edge.decision import is_anomalous
from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Array, Entry, as_batch, check_inputs
from sspcab_edge.protocols import Request, Verdict
from sspcab_runtime.frontends.scores import on_source_scale

__all__ = ["Unit"]


class Unit:
    """One unit in, its score and map out: no geometry, no zones, no levels. Remembers nothing.

    A unit is the whole region as the graph takes it, one tile, one clip or one object.

    Args:
        manifest: Of the bundle; says what a unit is.
        artifact: Says how its scores are mapped onto the source's scale.
        threshold: On the source's scale, or None for scores without labels.
    """

    def __init__(self, manifest: Manifest, artifact: Artifact, threshold: float | None) -> None:
        self.inputs = manifest.inputs
        self.score_map = artifact.score_map
        self.threshold = threshold

    def ask(self, entry: Entry) -> Request:
        """The unit as a batch of one.

        Raises:
            InputError: It is not what the graph takes.
        """
        batch = as_batch(entry)
        check_inputs(self.inputs, batch)
        return Request(batch)

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
