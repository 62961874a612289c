"""Parity samples, replayed in turn while a worker serves: the engine still gives the verdicts it proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sspcab_edge.bundle import Bundle
from sspcab_edge.manifest import Artifact, Parity
from sspcab_edge.parity import PackItem, read_pack
from sspcab_edge.protocols import Engine
from sspcab_runtime.calls import answer
from sspcab_runtime.frontends.table import open_unit

__all__ = ["Samples", "Tolerance", "tolerance"]

_MOST = 16
"""Inputs that are kept: they cost memory, and any of them shows a broken engine."""
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Tolerance:
    """How far a replayed sample may be from the source.

    Attributes:
        score: Absolute, on the source's scale.
        relative: Share of the source's score besides.
        map: Absolute; None compares no maps.
    """

    score: float
    relative: float
    map: float | None


def tolerance(artifact: Artifact, proved: Parity) -> Tolerance:
    """What a sample may show: the gate's limits or, where it has none, what the whole pack showed here.

    A gate of a lower precision may count flips and means, which say nothing of one sample. So its largest
    difference on this device, and a tenth of that, is the limit.
    """
    gate = artifact.replay
    score = max(gate.score_tolerance or 0.0, 1.1 * proved.max_abs_score_diff)
    heat = proved.max_abs_map_diff
    limit = None if heat is None else max(gate.map_tolerance or 0.0, 1.1 * heat) + _ROUNDING
    return Tolerance(score + _ROUNDING, gate.score_relative, limit)


class Samples:
    """Some inputs of a bundle's parity pack, spread over it.

    Args:
        bundle: Whose pack.
        artifact: What runs.
        engine: The engine that serves.
        limits: See :func:`tolerance`.

    Raises:
        BundleError: The pack cannot be read.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, engine: Engine, limits: Tolerance) -> None:
        self._unit = open_unit(bundle.manifest, artifact, bundle.manifest.decision.threshold)
        self._engine, self._limits = engine, limits
        total = bundle.manifest.parity_pack.inputs
        chosen = {int(i) for i in np.linspace(0, total - 1, min(total, _MOST)).round()}
        self._items = [item for number, item in enumerate(read_pack(bundle)) if number in chosen]
        self._next = 0

    @property
    def inputs(self) -> Sequence[PackItem]:
        """Those that are replayed."""
        return self._items

    def replay(self, count: int) -> str | None:
        """Replay the next few, in turn; None where all are right, else what is wrong.

        Raises:
            EngineError: The engine failed.
        """
        for _ in range(count):
            item = self._items[self._next % len(self._items)]
            self._next += 1
            wrong = self._one(item)
            if wrong is not None:
                return wrong
        return None

    def _one(self, item: PackItem) -> str | None:
        request = self._unit.ask(item.entry)
        outputs = answer(self._engine, request)
        if not np.isfinite(outputs["score"]).all():
            return f"the score of {item.name} is no number"
        verdict = self._unit.merge(outputs, request.context)
        limits = self._limits
        allowed = limits.score + limits.relative * abs(item.score)
        if verdict.score is None or not abs(verdict.score - item.score) <= allowed:
            return f"{item.name} scores {verdict.score}, proved {item.score:.6g} within {allowed:.3g}"
        if item.map is None or limits.map is None:
            return None
        if verdict.map is None or verdict.map.shape != item.map.shape:
            return f"the map of {item.name} is missing or of another shape"
        worst = float(np.abs(verdict.map - item.map).max(initial=0.0))
        return None if worst <= limits.map else f"the map of {item.name} is off by {worst:.3g}"
