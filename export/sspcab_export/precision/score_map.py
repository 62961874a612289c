"""Fitting an artifact's score map: its scores, strictly monotone, back onto the source's scale.

Lower precision moves scores in part systematically. A map takes that part out, so that one threshold holds
for every artifact. It is fitted on pictures that nothing is judged on, and only kept where it helps on
pictures that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sspcab_edge.decision import apply_score_map
from sspcab_edge.score_map import ScoreMap

__all__ = ["fit_score_map", "isotonic"]

MAX_KNOTS = 8
"""Fewer knots than this where there are fewer pictures: at least :data:`PICTURES_A_KNOT` each."""

PICTURES_A_KNOT = 5
_FOLDS = 5
_WORTH = 0.9
"""A map has to bring the mean error on left-out pictures below this share of what it is without one."""

Floats = npt.NDArray[np.float64]


def fit_score_map(artifact: Sequence[float], source: Sequence[float], tolerance: float) -> ScoreMap:
    """The map from an artifact's scores to the source's, or the identity.

    Scores in order are cut into groups of equal size; a knot is a group's mean in both, and groups that would
    make the map fall are pooled (isotonic regression). Beyond the outer knots the map goes on with slope 1.
    The identity is given where scores agree within ``tolerance``, or where the map does not bring the mean
    error of five-fold cross-validation down by a tenth.

    Args:
        artifact: Its scores of the fit pictures.
        source: The source's scores of the same pictures.
        tolerance: Largest difference that needs no map.
    """
    x, y = np.asarray(artifact, np.float64), np.asarray(source, np.float64)
    identity = ScoreMap()
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or not len(x):
        return identity
    if np.abs(x - y).max() <= tolerance or len(x) < 2 * PICTURES_A_KNOT:
        return identity
    folds = np.arange(len(x)) % _FOLDS
    order = np.argsort(x, kind="stable")
    fold_of = np.empty(len(x), np.int64)
    fold_of[order] = folds
    mapped = np.empty_like(x)
    for fold in range(_FOLDS):
        held = fold_of == fold
        mapped[held] = apply_score_map(_fit(x[~held], y[~held]), x[held])
    if np.abs(mapped - y).mean() > _WORTH * np.abs(x - y).mean():
        return identity
    return _fit(x, y)


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The non-decreasing sequence nearest to ``values`` in the weighted mean square.

    Pool adjacent violators: Ayer, Brunk, Ewing, Reid, Silverman, "An empirical distribution function for
    sampling with incomplete information", Annals of Mathematical Statistics 26, 1955.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, wa, na), (b, wb, nb) = blocks[-2:]
            blocks[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return np.asarray([value for value, _, count in blocks for _ in range(count)])


def _fit(x: Floats, y: Floats) -> ScoreMap:
    order = np.argsort(x, kind="stable")
    groups = min(MAX_KNOTS, max(1, len(x) // PICTURES_A_KNOT))
    parts = np.array_split(order, groups)
    knots_x = np.asarray([x[part].mean() for part in parts])
    knots_y = isotonic(
        np.asarray([y[part].mean() for part in parts]), np.asarray([len(part) for part in parts], np.float64)
    )
    rising_x, rising_y = [float(knots_x[0])], [float(knots_y[0])]
    for a, b in zip(knots_x[1:], knots_y[1:], strict=True):
        if a > rising_x[-1] and b > rising_y[-1]:
            rising_x.append(float(a))
            rising_y.append(float(b))
    span = max(1.0, rising_x[-1] - rising_x[0])
    return ScoreMap(
        artifact=(rising_x[0] - span, *rising_x, rising_x[-1] + span),
        source=(rising_y[0] - span, *rising_y, rising_y[-1] + span),
    )
