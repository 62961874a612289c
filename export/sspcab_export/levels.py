"""Levels of tiles: where tiles show different things, each one's normal scores are brought to one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sspcab_edge.decision import quantiles
from sspcab_edge.errors import OptionError
from sspcab_edge.score_map import ScoreMap

__all__ = ["MINIMUM_LEVEL_PICTURES", "fit_levels"]

MINIMUM_LEVEL_PICTURES = 8
"""Fewest normal pictures that say anything of one tile's scores."""

_LEAST_SPREAD = 0.1
"""Least interquartile range of a tile, over that of all: one whose scores never change is not blown up."""


def fit_levels(
    scores: Sequence[npt.NDArray[np.float64]], numbers: Sequence[int], count: int
) -> tuple[ScoreMap, ...]:
    """The straight line for each tile that puts its normal quartiles where those of all tiles are.

    Args:
        scores: Of the tiles that are looked at, (tiles,) for each normal picture.
        numbers: Which tiles they are, in the whole grid.
        count: Tiles of the whole grid.

    Returns:
        A map for each tile of the grid; those that are not looked at get the identity.

    Raises:
        OptionError: Fewer than :data:`MINIMUM_LEVEL_PICTURES` pictures.
    """
    if len(scores) < MINIMUM_LEVEL_PICTURES:
        raise OptionError(
            f"{len(scores)} normal pictures to fit with, expected {MINIMUM_LEVEL_PICTURES} or more for "
            "--tile-levels: give more with --calibration"
        )
    table = np.stack(scores)
    whole = quantiles(table.ravel())
    levels = [ScoreMap()] * count
    for column, number in enumerate(numbers):
        own = quantiles(table[:, column])
        wide = max(own.iqr, _LEAST_SPREAD * whole.iqr)
        if wide == 0.0 or whole.iqr == 0.0:
            shift = whole.median - own.median
            levels[number] = ScoreMap(
                artifact=(own.median, own.median + 1), source=(own.median + shift, own.median + shift + 1)
            )
        else:
            levels[number] = ScoreMap(
                artifact=(own.median, own.median + wide), source=(whole.median, whole.median + whole.iqr)
            )
    return tuple(levels)
