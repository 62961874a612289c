"""Can this machine tell a slowdown? The regression gate, tried with one that was put in and with none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sspcab_bench.compare import EndToEnd, compare_paired
from sspcab_bench.pretend import SlowedEngine
from sspcab_edge.bundle import Bundle
from sspcab_runtime.tuning import Objective

__all__ = ["GateCheck", "check_gate"]


@dataclass(frozen=True, slots=True)
class GateCheck:
    """How the gate did.

    Attributes:
        added: Share that was added to the engine.
        limit: Share that the gate allows.
        slowed: Median ratio of each comparison with it. Also ``same``: without.
    """

    added: float
    limit: float
    slowed: tuple[float, ...]
    same: tuple[float, ...]

    @property
    def caught(self) -> int:
        """Comparisons with the slowdown that the gate refused."""
        return sum(ratio > 1 + self.limit for ratio in self.slowed)

    @property
    def passed(self) -> int:
        """Comparisons of equals that the gate let pass."""
        return sum(ratio <= 1 + self.limit for ratio in self.same)


def check_gate(
    bundle: Bundle,
    *,
    backend: str | None,
    source: str | None = None,
    objective: Objective,
    runs: int,
    pairs: int,
    seconds: float,
    added: float,
    limit: float,
    progress: Callable[[str], None] = lambda text: None,
) -> GateCheck:
    """Compare ``bundle`` with itself ``runs`` times, and with itself slowed as often, in turns.

    Raises:
        EdgeError: It cannot be opened, or an engine failed.
    """
    slowed: list[float] = []
    same: list[float] = []
    with (
        EndToEnd.chosen(bundle, backend, objective, source) as first,
        EndToEnd.chosen(bundle, backend, objective, source) as second,
    ):
        sound = second.detector.engine
        for run in range(runs):
            for share, found in ((added, slowed), (0.0, same)):
                second.run_on(SlowedEngine(sound, share) if share else sound)
                found.append(compare_paired(first, second, pairs=pairs, seconds=seconds).slower.median)
            progress(f"{run + 1} of {runs}: {slowed[-1]:.3f} with {added:.0%} added, {same[-1]:.3f} without")
        second.run_on(sound)
    return GateCheck(added, limit, tuple(slowed), tuple(same))
