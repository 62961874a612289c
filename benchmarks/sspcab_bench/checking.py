"""Checking what is being timed: a figure for wrong verdicts is worth nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import GateError
from sspcab_edge.manifest import Artifact, Parity
from sspcab_edge.parity import Comparison, map_differences, read_pack, shortfalls
from sspcab_edge.protocols import Engine, Verdict
from sspcab_runtime.calls import answer
from sspcab_runtime.frontends import open_unit
from sspcab_runtime.replay import judge_replay

__all__ = ["PackCheck"]


class PackCheck:
    """Compares verdicts on the parity pack's inputs with the source's, as the export gate does.

    Of several verdicts on one input, the one farthest from the source's score counts.

    Args:
        bundle: Holds the pack.
        artifact: Holds the gate.

    Raises:
        BundleError: The pack cannot be read.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact) -> None:
        self._bundle = bundle
        self._artifact = artifact
        self._expected: list[Comparison] = []
        self._maps: dict[int, npt.NDArray[np.float32]] = {}
        self._seen: dict[int, Comparison] = {}
        for number, item in enumerate(read_pack(bundle)):
            expected = Comparison(item.score, math.nan, None, item.label, item.kind == "blend")
            self._expected.append(expected)
            if item.map is not None:
                self._maps[number] = item.map

    @property
    def inputs(self) -> int:
        """How many inputs the pack has."""
        return len(self._expected)

    @property
    def checked(self) -> int:
        """How many of them had a verdict so far."""
        return len(self._seen)

    def replay(self, engine: Engine, order: Sequence[int], cap_s: float) -> None:
        """Run inputs through an engine in this order, one at least, as many as fit into ``cap_s`` seconds.

        Raises:
            EngineError: The engine failed, or a score is not finite.
        """
        unit = open_unit(self._bundle.manifest, self._artifact, self._bundle.manifest.decision.threshold)
        entries = {number: item.entry for number, item in enumerate(read_pack(self._bundle))}
        start = time.perf_counter()
        for number in order:
            request = unit.ask(entries[number])
            self.see(number, unit.merge(answer(engine, request)), with_map=True)
            if time.perf_counter() - start >= cap_s:
                break

    def see(self, number: int, verdict: Verdict, *, with_map: bool) -> None:
        """Compare the verdict on input ``number``; its map only where that disturbs no clock."""
        expected = self._expected[number]
        score = math.nan if verdict.score is None else verdict.score
        worst = self._seen.get(number, replace(expected, artifact=score))
        if not abs(score - expected.source) <= abs(worst.artifact - expected.source):
            worst = worst if math.isnan(worst.artifact) else replace(worst, artifact=score)
        if with_map and number in self._maps:
            apart, mean = map_differences(self._maps[number], verdict.map)
            worst = replace(
                worst, map_diff=max(worst.map_diff or 0.0, apart), map_mean=max(worst.map_mean or 0.0, mean)
            )
        self._seen[number] = worst

    def require(self, engine: str) -> Parity:
        """The comparison of all that was seen.

        Raises:
            GateError: It is outside of the artifact's gate; ``engine`` says on what.
        """
        threshold = self._bundle.manifest.decision.threshold
        parity = judge_replay(self._artifact, list(self._seen.values()), threshold, engine)
        if not parity.passed:
            raise GateError(
                f"{self._artifact.name} on {engine} does not give the source's verdicts while measured: "
                f"{', '.join(shortfalls(parity))}; its speed means nothing"
            )
        return parity
