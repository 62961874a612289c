"""Comparing callables on a noisy machine: taken in turns, so that what disturbs one disturbs the others.

A *round* gives every callable one turn, forwards in one round and backwards in the next, so that a slow drift
favours nobody. A turn begins with calls that do not count: they bring the callable's data back into the
caches, and outlast the threads of the one before, which go on spinning for about a millisecond after their
last inference. What is compared is the ratio of two turns of the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sspcab_bench.summary import Interval, median_interval
from sspcab_bench.timing import Clock, Timed, until

__all__ = ["MIN_ROUNDS", "Paired", "measure_paired"]

MIN_ROUNDS = 10
"""Fewest rounds of a comparison, however long one takes."""

_LEAD_S = 0.003
_TURN_S = 0.02


@dataclass(frozen=True, slots=True)
class Paired:
    """Durations of callables that were measured in turns.

    Attributes:
        calls_ms: By name, every call that counts.
        rounds_ms: By name, the median call of each round's turn; equally many for all.
    """

    calls_ms: Mapping[str, list[float]]
    rounds_ms: Mapping[str, list[float]]

    def ratio(self, over: str, under: str) -> Interval:
        """How many times as long ``over`` takes as ``under``: the median of the rounds' ratios."""
        pairs = zip(self.rounds_ms[over], self.rounds_ms[under], strict=True)
        return median_interval([above / below for above, below in pairs])


def measure_paired(
    runs: Mapping[str, Timed],
    *,
    seconds: float,
    min_rounds: int = MIN_ROUNDS,
    clock: Clock = time.perf_counter,
) -> Paired:
    """Measure ``runs`` in turns, for at least ``seconds`` in all and ``min_rounds`` rounds.

    A turn is at least one call and 3 ms that do not count, then at least one call and 20 ms that do.
    """
    names = list(runs)
    calls: dict[str, list[float]] = {name: [] for name in names}
    rounds: dict[str, list[float]] = {name: [] for name in names}
    for number in until(seconds, min_rounds, clock):
        for name in names if number % 2 == 0 else reversed(names):
            for _ in until(_LEAD_S, 1, clock):
                runs[name]()
            turn = [runs[name]() for _ in until(_TURN_S, 1, clock)]
            calls[name].extend(turn)
            rounds[name].append(statistics.median(turn))
    return Paired(calls, rounds)
