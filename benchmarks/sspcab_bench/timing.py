"""Timing one callable: warm-up until its speed settles, then a minimum time and a minimum count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["MIN_COUNT", "Clock", "Timed", "WarmUp", "measure", "stopwatch", "until", "warm_up"]

Clock = Callable[[], float]
"""Gives seconds that never run backwards."""

Timed = Callable[[], float]
"""Does its work once and gives the milliseconds that it took."""

MIN_COUNT = 10
"""Fewest calls of a measurement, however long one takes."""

_BATCH_CALLS = 3
_BATCH_S = 0.1
_SETTLED = 0.05


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How warming up went.

    Attributes:
        count: Calls made.
        seconds: How long they took together.
        settled: Whether the speed had settled, or the cap ended it.
    """

    count: int
    seconds: float
    settled: bool


def stopwatch(run: Callable[[], object], clock: Clock = time.perf_counter) -> Timed:
    """``run``, timed by ``clock``."""

    def timed() -> float:
        start = clock()
        run()
        return (clock() - start) * 1e3

    return timed


def until(seconds: float, min_count: int, clock: Clock = time.perf_counter) -> Iterator[int]:
    """Count from 0 until at least ``min_count`` rounds were made and ``seconds`` have passed."""
    start = clock()
    count = 0
    while count < min_count or clock() - start < seconds:
        yield count
        count += 1


def measure(
    run: Timed, *, seconds: float, min_count: int = MIN_COUNT, clock: Clock = time.perf_counter
) -> list[float]:
    """Durations in milliseconds of calls in a row, for at least ``seconds`` and at least ``min_count``."""
    return [run() for _ in until(seconds, min_count, clock)]


def warm_up(run: Timed, *, cap_s: float, clock: Clock = time.perf_counter) -> WarmUp:
    """Call ``run`` until its speed settles, or ``cap_s`` seconds have passed.

    Calls are taken in batches of at least 3 calls and 0.1 s; the speed has settled when the medians of two
    batches in a row differ by at most 5 %. At least one call is made, whatever the cap.
    """
    start = clock()
    count = 0
    before: float | None = None
    while True:
        batch_start = clock()
        batch: list[float] = []
        while len(batch) < _BATCH_CALLS or clock() - batch_start < _BATCH_S:
            batch.append(run())
            count += 1
            if clock() - start >= cap_s:
                return WarmUp(count, clock() - start, settled=False)
        median = statistics.median(batch)
        if before is not None and abs(median - before) <= _SETTLED * before:
            return WarmUp(count, clock() - start, settled=True)
        before = median
