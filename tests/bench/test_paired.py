"""Turns and ratios, on a clock that only moves when told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from sspcab_bench.paired import measure_paired
from sspcab_bench.timing import Timed


class Clock(Protocol):
    """The fixture of that name."""

    now_s: float

    def __call__(self) -> float: ...

    def taking(self, *durations_ms: float) -> Callable[[], float]: ...


def test_rounds_go_forwards_and_backwards(clock: Clock) -> None:
    called: list[str] = []

    def run(name: str) -> Timed:
        def timed() -> float:
            called.append(name)
            clock.now_s += 0.05
            return 50.0

        return timed

    paired = measure_paired({name: run(name) for name in "abc"}, seconds=0, min_rounds=2, clock=clock)
    # a turn of slow calls is one that does not count and one that does
    assert "".join(called) == "aabbcc" + "ccbbaa"
    assert {name: len(calls) for name, calls in paired.calls_ms.items()} == {"a": 2, "b": 2, "c": 2}


def test_the_first_calls_of_a_turn_do_not_count(clock: Clock) -> None:
    last = [""]

    def run(name: str, steady_ms: float) -> Timed:
        def timed() -> float:
            taken_ms = steady_ms if last[0] == name else 40.0
            last[0] = name
            clock.now_s += taken_ms / 1e3
            return taken_ms

        return timed

    # turns of "cold" begin behind turns of "other", and every third behind another of its own
    paired = measure_paired(
        {"cold": run("cold", 30.0), "other": run("other", 10.0)}, seconds=0, min_rounds=8, clock=clock
    )
    assert set(paired.calls_ms["cold"]) == {30.0}
    assert set(paired.calls_ms["other"]) == {10.0}
    assert paired.ratio("cold", "other").median == pytest.approx(3.0)


def test_fast_calls_fill_a_turn(clock: Clock) -> None:
    paired = measure_paired({"a": clock.taking(1.0)}, seconds=0, min_rounds=1, clock=clock)
    assert len(paired.calls_ms["a"]) == pytest.approx(20, abs=1)
    assert len(paired.rounds_ms["a"]) == 1


def test_a_drift_favours_nobody(clock: Clock) -> None:
    """The machine gets slower all the time; one callable takes twice as long as the other throughout."""
    start_s = clock()

    def run(base_ms: float) -> Timed:
        def timed() -> float:
            taken_ms = base_ms * (1 + (clock() - start_s) / 10)
            clock.now_s += taken_ms / 1e3
            return taken_ms

        return timed

    paired = measure_paired({"twice": run(10), "once": run(5)}, seconds=20, clock=clock)
    ratio = paired.ratio("twice", "once")
    assert ratio.median == pytest.approx(2.0, rel=0.01)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low <= 2.0 <= ratio.high
    assert max(paired.calls_ms["once"]) > 2 * min(paired.calls_ms["once"])


def test_a_measurement_lasts_seconds_and_rounds(clock: Clock) -> None:
    runs = {"a": clock.taking(100), "b": clock.taking(100)}
    assert len(measure_paired(runs, seconds=0, min_rounds=7, clock=clock).rounds_ms["a"]) == 7
    # a round is four calls of 0.1 s
    assert len(measure_paired(runs, seconds=8, min_rounds=7, clock=clock).rounds_ms["a"]) == pytest.approx(
        20, abs=1
    )
