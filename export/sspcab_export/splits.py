"""Splitting pictures so that nothing is judged on what it was fitted to.

The split is by content hash: it depends on the pictures alone, not on names or order. Near-duplicates stay
together, because a threshold judged on copies of its own pictures is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sspcab_export.pictures import Sample

__all__ = ["MAX_RANGES", "NEAR_DUPLICATE_RMS", "Split", "split_samples"]

MAX_RANGES = 128
"""Most pictures that ranges are measured on; more of them hardly widen a range."""

NEAR_DUPLICATE_RMS = 1.5 / 255
"""Thumbnails whose root-mean-square difference is below this (of [0, 1]) are the same picture again."""


@dataclass(frozen=True, slots=True)
class Split:
    """Pictures by what they are used for.

    Attributes:
        fit: For the threshold and the score maps.
        judge: For the gate.
        ranges: For the ranges of int8.
        duplicates: How many pictures were kept with a near-duplicate.
    """

    fit: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    ranges: tuple[Sample, ...]
    duplicates: int


def split_samples(samples: Sequence[Sample], fit_share: float, ranges_share: float = 0.0) -> Split:
    """Give shares of the pictures to fit and ranges and the rest to judge, classes alike in all.

    Fit is filled first, so that a threshold does not change with ranges that are asked for too; at most
    :data:`MAX_RANGES` pictures of a class go to ranges. With two pictures or more of a class, and unless they
    are all near-duplicates, fit and judge get one.
    """
    fit: list[Sample] = []
    judge: list[Sample] = []
    ranges: list[Sample] = []
    duplicates = 0
    for label in (False, True, None):
        groups = _groups([sample for sample in samples if sample.label is label])
        total = sum(map(len, groups))
        duplicates += total - len(groups)
        wanted = round(total * fit_share)
        if len(groups) > 1 and 0 < fit_share < 1:
            wanted = min(max(wanted, 1), total - 1)
        measured = min(round(total * ranges_share), MAX_RANGES)
        taken = measuring = 0
        for number, group in enumerate(groups):
            rest_needed = number == len(groups) - 1 and taken > 0 and fit_share < 1
            if taken < wanted and not rest_needed:
                fit.extend(group)
                taken += len(group)
            elif measuring + len(group) <= measured and not rest_needed:
                ranges.extend(group)
                measuring += len(group)
            else:
                judge.extend(group)
    return Split(tuple(fit), tuple(judge), tuple(ranges), duplicates)


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Near-duplicates together, groups in the order of their smallest hash."""
    ordered = sorted(samples, key=lambda sample: (sample.digest, sample.name))
    if not ordered:
        return []
    flat = np.stack([sample.thumbnail.ravel() for sample in ordered])
    parents = list(range(len(ordered)))
    squares = (flat**2).sum(axis=1)
    limit = NEAR_DUPLICATE_RMS**2 * flat.shape[1]
    for row in range(len(ordered)):
        distances = squares + squares[row] - 2 * (flat @ flat[row])
        for other in np.flatnonzero(distances[:row] <= limit):
            parents[_root(parents, row)] = _root(parents, int(other))
    groups: dict[int, list[Sample]] = {}
    for position, sample in enumerate(ordered):
        groups.setdefault(_root(parents, position), []).append(sample)
    return list(groups.values())


def _root(parents: list[int], item: int) -> int:
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item
