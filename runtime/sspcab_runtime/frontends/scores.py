"""Scores of units: onto the source's scale, and once more where only a part of the unit is judged.

A unit is what one entry of the graph's batch holds: the whole region, or one tile.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.decision import apply_score_map
from sspcab_edge.errors import EngineError
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.frontends.zones import Inside

__all__ = ["on_source_scale", "score_inside"]

_FILTER = "map-mean-filter:"


def on_source_scale(score_map: ScoreMap, scores: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """An artifact's scores (N,) on the source's scale.

    Raises:
        EngineError: A score is not finite; no threshold could judge it.
    """
    mapped = apply_score_map(score_map, np.asarray(scores, dtype=np.float64))
    if not np.isfinite(mapped).all():
        worst = mapped[~np.isfinite(mapped)][0]
        raise EngineError(f"the network gave the score {worst}: the frame cannot be judged")
    return mapped


def score_inside(rule: str, heat: npt.NDArray[np.floating], inside: Inside) -> float:
    """A unit's score from that part of its map which is judged, as the host makes it from the whole map.

    ``map-max``: the largest value inside. ``map-mean``: the mean of those inside. ``map-mean-filter:K``: the
    largest mean over K x K pixels of the map, set to 0 outside and around it, always divided by K * K (the
    score of DRAEM, Zavrtanik et al. 2021, for maps that are not negative).

    Args:
        rule: The manifest's ``score``.
        heat: (h, w), the unit's map.
        inside: (h, w), at least one True.
    """
    if rule == "map-max":
        return float(heat[inside].max())
    if rule == "map-mean":
        return float(heat[inside].mean(dtype=np.float64))
    side = int(rule.removeprefix(_FILTER))
    judged = np.where(inside, heat, 0).astype(np.float32)
    means = cv2.boxFilter(judged, -1, (side, side), normalize=True, borderType=cv2.BORDER_CONSTANT)
    return float(means.max())
