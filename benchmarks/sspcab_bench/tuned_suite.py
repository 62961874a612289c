"""Tuning put to the test: is what it chooses as fast as the best setting, measured with patience?

A bundle is tuned as ``sspcab-edge tune`` does it. Then every setting that tuning measured is measured again,
longer and twice, in opposite orders, which tells the best single setting; and the choice and that one are
timed in pairs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sspcab_bench.summary import Interval, median_interval
from sspcab_edge.bundle import Bundle
from sspcab_runtime.setting import Setting
from sspcab_runtime.tune import Tuned, tune
from sspcab_runtime.tuning import Objective
from sspcab_runtime.turns import Inputs, Running, in_turns, pack_inputs

__all__ = ["LIMIT", "TunedComparison", "TunedOptions", "run"]

LIMIT = 1.03
"""Times as long as the best single setting that a tuned one may take."""

_TURNS = 10
"""Turns of a long measurement; what it took is their median."""


@dataclass(frozen=True, slots=True)
class TunedOptions:
    """How to measure.

    Attributes:
        objective: What tuning is to be best at.
        backends: Only these; none is all that are installed.
        pairs: Pairs of turns of the choice and the best single setting.
        seconds: At least so long for each turn of a pair, and for each long measurement.
        look_s: At least so long for each of tuning's own looks at a setting.
    """

    objective: Objective = "latency"
    backends: tuple[str, ...] = ()
    pairs: int = 10
    seconds: float = 2.0
    look_s: float = 0.5


@dataclass(frozen=True, slots=True)
class TunedComparison:
    """What was found.

    Attributes:
        tuned: What tuning found.
        costs_ms: Every setting that was measured, and what the long measurement says: the median duration of
            an inference, or milliseconds per frame, as the objective is.
        best: The setting with the least of them.
        pairs: Per pair, how many times as long the choice took as the best single setting.
        mean: Their mean.
        median: Their median, with its interval.
    """

    tuned: Tuned
    costs_ms: Mapping[Setting, float]
    best: Setting
    pairs: tuple[float, ...]
    mean: float
    median: Interval

    @property
    def holds(self) -> bool:
        """Whether the choice is slower by no more than 3 %."""
        return self.median.median <= LIMIT


def run(
    bundle: Bundle, options: TunedOptions, progress: Callable[[str], None] = lambda text: None
) -> TunedComparison:
    """Tune, measure everything with patience, and compare. Nothing is written to the user's cache of tunings.

    Raises:
        EdgeError: As :func:`sspcab_runtime.tune.tune`.
    """
    progress(f"tuning for {options.objective}")
    tuned = tune(bundle, objective=options.objective, seconds=options.look_s, backends=options.backends)
    inputs = pack_inputs(bundle)
    settings = [row.setting for row in tuned.rows if row.ms is not None]
    passes: dict[Setting, list[float]] = {setting: [] for setting in settings}
    for setting in (*settings, *reversed(settings)):
        progress(f"measuring {setting}")
        passes[setting] += _costs(bundle, setting, inputs, options)
    costs = {setting: statistics.median(values) for setting, values in passes.items()}
    best = min(settings, key=lambda setting: costs[setting])
    progress(f"comparing {tuned.chosen} with {best}")
    with Running(bundle, tuned.chosen, inputs) as choice, Running(bundle, best, inputs) as other:
        above, below = in_turns([choice, other], seconds=options.seconds, rounds=options.pairs)
    pairs = tuple(
        own.cost_ms(options.objective) / against.cost_ms(options.objective)
        for own, against in zip(above, below, strict=True)
    )
    return TunedComparison(tuned, costs, best, pairs, statistics.fmean(pairs), median_interval(pairs))


def _costs(bundle: Bundle, setting: Setting, inputs: Inputs, options: TunedOptions) -> list[float]:
    with Running(bundle, setting, inputs) as running:
        (turns,) = in_turns([running], seconds=options.seconds / _TURNS, rounds=_TURNS)
    return [turn.cost_ms(options.objective) for turn in turns]
