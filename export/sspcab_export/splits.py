"""Splitting pictures so that nothing is judged on what it was fitted to.

The split is by content hash: it depends on the pictures alone, not on names or order. Near-duplicates stay
together, because a threshold judged on copies of its own pictures is not judged. Where a group of them is too
large for one side it is split at its weakest links, and that is said; the very same picture never is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sspcab_export.near_duplicates import Links, joined
from sspcab_export.pictures import Sample

__all__ = ["MAX_RANGES", "Cut", "Split", "split_samples"]

MAX_RANGES = 128
"""Most pictures that ranges are measured on; more of them hardly widen a range."""

_Sides = tuple[list[list[Sample]], list[list[Sample]]]
_Place = Callable[[Sequence[list[Sample]], int], _Sides]

ROOM = 0.1
"""Share of all pictures by which a side may be larger than asked for before a group is split."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A group of near-duplicates that was split.

    Attributes:
        pictures: How many it had.
        likeness: How alike the two were that are most alike and apart (-1 to 1); None where the scene has too
            few pictures to tell.
    """

    pictures: int
    likeness: float | None


@dataclass(frozen=True, slots=True)
class Split:
    """Pictures by what they are used for.

    Attributes:
        fit: For the threshold and the score maps.
        judge: For the gate.
        ranges: For the ranges of int8.
        duplicates: How many pictures are near-duplicates of one before them.
        cuts: Groups of those that were too large for one side.
    """

    fit: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    ranges: tuple[Sample, ...]
    duplicates: int
    cuts: tuple[Cut, ...] = ()


def split_samples(
    samples: Sequence[Sample], links: Links, fit_share: float, ranges_share: float = 0.0
) -> Split:
    """Give shares of the pictures to fit and ranges and the rest to judge, classes alike in all.

    Fit is filled first, so that a threshold does not change with ranges that are asked for too; at most
    :data:`MAX_RANGES` pictures of a class go to ranges. With two pictures or more of a class, fit and judge
    get one. A group of near-duplicates is split only where it would make a side larger than its share by more
    than :data:`ROOM` of all.
    """
    fit: list[Sample] = []
    judge: list[Sample] = []
    ranges: list[Sample] = []
    cuts: list[Cut] = []
    duplicates = 0
    for label in (False, True, None):
        own = sorted((s for s in samples if s.label is label), key=lambda s: (s.digest, s.name))
        groups = _grouped(own, links)
        duplicates += len(own) - len(groups)
        wanted = round(len(own) * fit_share)
        if len(own) > 1 and 0 < fit_share < 1:
            wanted = min(max(wanted, 1), len(own) - 1)
        taken, rest = _placed(groups, links, wanted, _nearest, cuts)
        measured = min(round(len(own) * ranges_share), MAX_RANGES)
        measuring, judging = _placed(rest, links, min(measured, sum(map(len, rest)) - 1), _at_most, cuts)
        for side, chosen in ((fit, taken), (ranges, measuring), (judge, judging)):
            side.extend(sample for group in chosen for sample in group)
    return Split(tuple(fit), tuple(judge), tuple(ranges), duplicates, tuple(cuts))


def _grouped(ordered: Sequence[Sample], links: Links, most: int | None = None) -> list[list[Sample]]:
    """Near-duplicates together, groups in the order of their smallest hash."""
    places: dict[str, int] = {}
    same: list[tuple[int, int]] = []
    alike: list[tuple[int, int]] = []
    for place, sample in enumerate(ordered):
        if places.setdefault(sample.digest, place) != place:
            same.append((places[sample.digest], place))
    for link in links.pairs:
        if link.first in places and link.second in places:
            pair = places[link.first], places[link.second]
            (same if link.likeness == 1.0 else alike).append(pair)
    return [[ordered[place] for place in group] for group in joined(len(ordered), same, alike, most)]


def _placed(
    groups: Sequence[list[Sample]], links: Links, wanted: int, place: _Place, cuts: list[Cut]
) -> _Sides:
    """Groups on two sides; those split at their weakest links that neither side has room for."""
    total = sum(map(len, groups))
    room = ROOM * total
    largest = max(wanted, total - wanted)
    if not 0 < wanted < total or all(len(group) <= largest + room for group in groups):
        return place(groups, wanted)
    while True:
        pieces = [
            piece
            for group in groups
            for piece in ([group] if len(group) <= largest + room else _grouped(group, links, largest))
        ]
        taken, rest = place(pieces, wanted)
        if largest == 1 or abs(sum(map(len, taken)) - wanted) <= max(1, room):
            break
        largest = largest // 2
    number_of = {sample.digest: number for number, piece in enumerate(pieces) for sample in piece}
    for group in groups:
        own = {sample.digest for sample in group}
        if len({number_of[digest] for digest in own}) > 1:
            apart = (
                link
                for link in links.pairs
                if link.first in own
                and link.second in own
                and number_of[link.first] != number_of[link.second]
            )
            strongest = next(apart, None)
            measured = strongest is not None and strongest.measured
            cuts.append(Cut(len(group), strongest.likeness if strongest and measured else None))
    return taken, rest


def _nearest(groups: Sequence[list[Sample]], wanted: int) -> _Sides:
    """Groups as they come while each brings their number nearer to what is wanted, and the rest."""
    taken: list[list[Sample]] = []
    rest: list[list[Sample]] = []
    count = 0
    for group in groups:
        if len(group) <= 2 * (wanted - count):
            taken.append(group)
            count += len(group)
        else:
            rest.append(group)
    if wanted and not taken and len(rest) > 1:
        taken.append(rest.pop(min(range(len(rest)), key=lambda number: len(rest[number]))))
    if not rest and len(taken) > 1 and wanted < sum(map(len, groups)):
        rest.append(taken.pop())
    return taken, rest


def _at_most(groups: Sequence[list[Sample]], most: int) -> _Sides:
    """Groups as they come with ``most`` pictures at most, but one at least and never all; and the rest."""
    taken: list[list[Sample]] = []
    rest: list[list[Sample]] = []
    count = 0
    for number, group in enumerate(groups):
        last = number == len(groups) - 1 and not rest
        if count + len(group) <= most and not last:
            taken.append(group)
            count += len(group)
        else:
            rest.append(group)
    if most > 0 and not taken and len(rest) > 1:
        taken.append(rest.pop(min(range(len(rest)), key=lambda number: len(rest[number]))))
    return taken, rest
