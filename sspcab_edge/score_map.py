"""How an artifact's scores, or a tile's, come onto a common scale."""

from __future__ import annotations

from itertools import pairwise

from sspcab_edge.errors import BundleError
from sspcab_edge.record import Record

__all__ = ["ScoreMap", "check_rising"]


class ScoreMap(Record, frozen=True, kw_only=True):
    """A strictly increasing, piecewise linear map from an artifact's scores to the source's scale.

    ``artifact`` and ``source`` are the knots' coordinates; outside them the end segments go on. No knots is
    the identity.
    """

    artifact: tuple[float, ...] = ()
    source: tuple[float, ...] = ()

    @property
    def identity(self) -> bool:
        """Whether scores pass unchanged."""
        return not self.artifact


def check_rising(knots: ScoreMap, name: str) -> None:
    """Check a map that was read.

    Raises:
        BundleError: It does not rise strictly; the message begins with ``name``.
    """
    rising = all(low < high for axis in (knots.artifact, knots.source) for low, high in pairwise(axis))
    if len(knots.artifact) != len(knots.source) or len(knots.artifact) == 1 or not rising:
        raise BundleError(f"{name} is not strictly increasing")
