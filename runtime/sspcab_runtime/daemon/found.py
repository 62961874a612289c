"""Objects on their way between processes and into events."""

from __future__ import annotations

import msgspec

from sspcab_edge.protocols import ScoredObject

__all__ = ["MOST_OBJECTS", "FoundObject", "found_objects", "scored_objects"]

MOST_OBJECTS = 16
"""Most objects of a frame that go on: a message has only so much room."""


class FoundObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of a frame: (left, top, right, bottom) in its pixels, and its score."""

    box: tuple[int, int, int, int]
    score: float


def found_objects(objects: tuple[ScoredObject, ...] | None) -> tuple[FoundObject, ...] | None:
    """The worst of a verdict's objects; None where it has none to speak of."""
    if objects is None:
        return None
    return tuple(FoundObject(box=one.box, score=one.score) for one in objects[:MOST_OBJECTS])


def scored_objects(found: tuple[FoundObject, ...] | None) -> tuple[ScoredObject, ...] | None:
    """As verdicts have them."""
    return None if found is None else tuple(ScoredObject(one.box, one.score) for one in found)
