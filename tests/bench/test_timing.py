"""How long a measurement lasts, on a clock that only moves when told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from sspcab_bench.timing import measure, stopwatch, until, warm_up


class Clock(Protocol):
    """The fixture of that name."""

    now_s: float

    def __call__(self) -> float: ...

    def taking(self, *durations_ms: float) -> Callable[[], float]: ...


def test_slow_calls_are_measured_often_enough(clock: Clock) -> None:
    assert measure(clock.taking(1000), seconds=2, min_count=10, clock=clock) == [1000] * 10


def test_fast_calls_are_measured_long_enough(clock: Clock) -> None:
    durations = measure(clock.taking(8), seconds=2, min_count=10, clock=clock)
    assert len(durations) == pytest.approx(250, abs=1)


def test_until_counts_from_zero(clock: Clock) -> None:
    assert list(until(0, 3, clock)) == [0, 1, 2]


def test_stopwatch_gives_milliseconds(clock: Clock) -> None:
    def run() -> None:
        clock.now_s += 0.25

    assert stopwatch(run, clock)() == pytest.approx(250)


def test_warm_up_ends_when_two_batches_agree(clock: Clock) -> None:
    warmth = warm_up(clock.taking(900, 300, 200, 100), cap_s=60, clock=clock)
    # medians of batches of three: 300, 100, 100
    assert (warmth.count, warmth.settled) == (9, True)
    assert warmth.seconds == pytest.approx(2.0)


def test_a_batch_lasts_a_tenth_of_a_second(clock: Clock) -> None:
    warmth = warm_up(clock.taking(1), cap_s=60, clock=clock)
    assert warmth.settled
    assert warmth.count == pytest.approx(200, abs=2)


def test_warm_up_gives_up_at_its_cap(clock: Clock) -> None:
    ever_faster = clock.taking(*(1000 * 0.8**step for step in range(60)))
    warmth = warm_up(ever_faster, cap_s=3, clock=clock)
    assert not warmth.settled
    assert warmth.seconds == pytest.approx(3, abs=1)


def test_warm_up_makes_one_call_whatever_the_cap(clock: Clock) -> None:
    warmth = warm_up(clock.taking(5000), cap_s=0.01, clock=clock)
    assert (warmth.count, warmth.settled) == (1, False)
