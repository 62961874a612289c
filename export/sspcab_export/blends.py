"""Blends near the threshold: the inputs on which a small error of an artifact becomes another verdict.

A picture below the threshold and one above it are mixed, and the share is bisected with the source until the
blend's score lies close to the threshold, on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sspcab_edge.ports import Entry
from sspcab_export.mixing import mix

__all__ = ["Blend", "find_blends"]

_STEPS = 7


@dataclass(frozen=True, slots=True)
class Blend:
    """A mixed input.

    Attributes:
        name: Which two, and the share of the higher-scoring one.
        entry: What the graph takes.
        score: The source's score of it.
        map: The source's map of it, or None.
    """

    name: str
    entry: Entry
    score: float
    map: npt.NDArray[np.float32] | None


Answer = tuple[float, npt.NDArray[np.float32] | None]


def find_blends(
    low: Sequence[tuple[str, Entry]],
    high: Sequence[tuple[str, Entry]],
    threshold: float,
    ask: Callable[[Entry], Answer],
    pairs: int,
    *,
    clearance: float,
) -> list[Blend]:
    """Up to two blends for each of ``pairs`` pairs: the nearest found on either side of the threshold.

    Args:
        low: Named entries that score at most ``threshold``.
        high: Named entries that score above it.
        threshold: On the source's scale.
        ask: The source's score and map of one entry.
        pairs: How many pairs to mix; each costs seven calls of ``ask``.
        clearance: Blends nearer than this to the threshold are left out: there, rounding alone decides.
    """
    blends: list[Blend] = []
    if not low or not high:
        return blends
    for number in range(pairs):
        low_name, low_frame = low[number % len(low)]
        high_name, high_frame = high[number % len(high)]
        below, above = 0.0, 1.0
        nearest: dict[bool, Blend] = {}
        for _ in range(_STEPS):
            share = (below + above) / 2
            mixed = mix(low_frame, high_frame, share)
            value, anomaly = ask(mixed)
            distance = abs(value - threshold)
            side = value > threshold
            if distance > clearance and (
                side not in nearest or distance < abs(nearest[side].score - threshold)
            ):
                nearest[side] = Blend(f"{share:.3f} of {high_name} in {low_name}", mixed, value, anomaly)
            below, above = (below, share) if side else (share, above)
        blends.extend(nearest.values())
    return blends
