"""Can this machine tell a slowdown? The regression gate, tried with one that was put in and with none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sspcab_bench.compare import EndToEnd, compare_paired
from sspcab_edge.bundle import Bundle
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Engine
from sspcab_runtime.tuning import Objective

__all__ = ["GateCheck", "SlowedEngine", "check_gate"]


class SlowedEngine:
    """An engine that takes longer, busy, by a share of each call. Implements the protocol of engines."""

    def __init__(self, engine: Engine, share: float) -> None:
        self._engine, self._share = engine, share
        self.backend, self.version, self.device = engine.backend, engine.version, engine.device
        self.inputs, self.outputs, self.max_batch = engine.inputs, engine.outputs, engine.max_batch

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """What the engine gives, later."""
        start = time.perf_counter()
        outputs = self._engine.infer(inputs)
        until = time.perf_counter() + self._share * (time.perf_counter() - start)
        while time.perf_counter() < until:
            pass
        return outputs

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def __enter__(self) -> SlowedEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


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
    with EndToEnd(bundle, backend, objective) as first, EndToEnd(bundle, backend, objective) as second:
        sound = second.detector.engine
        for run in range(runs):
            for share, found in ((added, slowed), (0.0, same)):
                second.detector.engine = SlowedEngine(sound, share) if share else sound
                found.append(compare_paired(first, second, pairs=pairs, seconds=seconds).slower.median)
            progress(f"{run + 1} of {runs}: {slowed[-1]:.3f} with {added:.0%} added, {same[-1]:.3f} without")
        second.detector.engine = sound
    return GateCheck(added, limit, tuple(slowed), tuple(same))
