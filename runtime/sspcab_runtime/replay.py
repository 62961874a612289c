"""Replaying a bundle's parity pack on an engine: the same comparison as at export, on this device.

CPUs differ (an int8 kernel that saturates, a plugin that prefers bf16), and so do versions of backends. A
pass is remembered in an attestation, so that it is paid for once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import BundleError, GateError
from sspcab_edge.manifest import Artifact, Parity
from sspcab_edge.parity import Comparison, judge, map_differences, read_pack, shortfalls
from sspcab_edge.protocols import Engine
from sspcab_runtime.attestation import read_attestation, record_attestation
from sspcab_runtime.calls import answer
from sspcab_runtime.frontends.table import open_unit

__all__ = ["Progress", "judge_replay", "prove", "replay"]

Progress = Callable[[int, int], None]
"""Called with (inputs replayed, inputs in all)."""


def replay(
    bundle: Bundle, artifact: Artifact, engine: Engine, *, progress: Progress | None = None
) -> list[Comparison]:
    """Run the parity pack through the engine, an input at a time, as it is: it holds what the graph takes.

    Raises:
        BundleError: The pack cannot be read, or is empty.
        EngineError: The engine failed.
    """
    unit = open_unit(bundle.manifest, artifact, bundle.manifest.decision.threshold)
    total = bundle.manifest.parity_pack.inputs
    compared = []
    for number, item in enumerate(read_pack(bundle)):
        request = unit.ask(item.entry)
        outputs = answer(engine, request)
        score, heat = float("nan"), None
        if np.isfinite(outputs["score"]).all():  # what overflowed fails the gate, like any other wrong score
            verdict = unit.merge(outputs, request.context)
            score, heat = float("nan") if verdict.score is None else verdict.score, verdict.map
        apart, mean = (None, None) if item.map is None else map_differences(item.map, heat)
        compared.append(Comparison(item.score, score, apart, item.label, item.kind == "blend", mean))
        if progress is not None:
            progress(number + 1, total)
    if not compared:
        raise BundleError(f"the parity pack of {bundle.path} is empty: nothing proves this bundle")
    return compared


def judge_replay(
    artifact: Artifact, compared: Sequence[Comparison], threshold: float | None, engine: str
) -> Parity:
    """The verdict on a replay, by what the artifact has to show on a device; ``engine`` names what ran it."""
    return judge(
        compared, threshold=threshold, gate=artifact.replay, scene=artifact.parity.scene, engine=engine
    )


def prove(bundle: Bundle, artifact: Artifact, engine: Engine, *, progress: Progress | None = None) -> Parity:
    """The parity of an artifact on this engine: remembered from an earlier replay, or replayed now.

    Raises:
        GateError: It does not give the source's verdicts here.
        BundleError: The pack cannot be read.
        EngineError: The engine failed.
    """
    remembered = read_attestation(bundle, artifact, engine)
    if remembered is not None:
        return remembered.parity
    compared = replay(bundle, artifact, engine, progress=progress)
    on = f"{engine.backend} {engine.version}"
    parity = judge_replay(artifact, compared, bundle.manifest.decision.threshold, on)
    if not parity.passed:
        raise GateError(
            f"{artifact.name} on {on} does not give the source's verdicts on this device: "
            f"{', '.join(shortfalls(parity))}"
        )
    record_attestation(bundle, artifact, engine, parity)
    return parity
