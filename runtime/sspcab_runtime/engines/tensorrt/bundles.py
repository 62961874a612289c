"""Making a bundle's TensorRT artifacts ready on this device: plans built, verdicts proved, attested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import GateError, OptionError
from sspcab_edge.manifest import Artifact, Parity
from sspcab_edge.parity import shortfalls
from sspcab_runtime.attestation import record_attestation
from sspcab_runtime.engines.tensorrt.cuda import Cuda
from sspcab_runtime.engines.tensorrt.engine import TensorRtEngine
from sspcab_runtime.engines.tensorrt.importing import can_build, open_device
from sspcab_runtime.engines.tensorrt.options import PlanOptions
from sspcab_runtime.replay import judge_replay, replay

__all__ = ["BundleProgress", "PreparedArtifact", "prepare_bundle"]

BundleProgress = Callable[[Artifact, str, int, int], None]
"""Called with (artifact, what is being done, steps done, steps in all), while building from other threads."""


@dataclass(frozen=True, slots=True)
class PreparedArtifact:
    """One artifact on this device.

    Attributes:
        artifact: The artifact.
        plan: Its plan's file; None where none could be built here or the cache cannot be written.
        built: Whether the plan was built now.
        seconds: What finding or building took.
        size_bytes: Of the plan.
        version: Of TensorRT; None where it did not run.
        device: What it ran on; None where it did not.
        parity: The replayed pack, which passed; None where nothing ran.
        warnings: What TensorRT warned of while building.
        reason: Why there is no plan, in one line; None where there is one.
    """

    artifact: Artifact
    plan: Path | None = None
    built: bool = False
    seconds: float = 0.0
    size_bytes: int = 0
    version: str | None = None
    device: str | None = None
    parity: Parity | None = None
    warnings: tuple[str, ...] = ()
    reason: str | None = None


def prepare_bundle(
    bundle: Bundle,
    *,
    precisions: Sequence[str] = (),
    require_plan: bool = False,
    progress: BundleProgress | None = None,
    options: PlanOptions | None = None,
    device: tuple[Any, Cuda] | None = None,
) -> list[PreparedArtifact]:
    """Build or find the plan of every TensorRT artifact, replay the parity pack on it, attest what passes.

    Args:
        bundle: An opened bundle.
        precisions: Only these; none is all.
        require_plan: Fail where no plan can be built here, instead of saying so in the result.
        progress: Told how far it is.
        options: Of the plans.
        device: TensorRT's module and the GPU; None imports and opens them.

    Raises:
        OptionError: The bundle has no such artifact.
        MissingPackageError: ``require_plan``, and TensorRT is not installed.
        EngineError: ``require_plan``, and there is no CUDA device; or TensorRT refuses an artifact.
        GateError: An artifact does not give the source's verdicts here.
        BundleError: The parity pack cannot be read.
    """
    wanted = [
        artifact
        for artifact in bundle.manifest.artifacts
        if artifact.target in TensorRtEngine.targets and (not precisions or artifact.precision in precisions)
    ]
    if not wanted:
        has = ", ".join(artifact.name for artifact in bundle.manifest.artifacts)
        asked = " or ".join(f"tensorrt-{precision}" for precision in precisions) or "tensorrt"
        raise OptionError(f"{bundle.path} has no artifact for {asked}: it has {has}")
    if device is None:
        if require_plan:
            device = open_device()
        else:
            reason = can_build()
            if reason is not None:
                return [
                    PreparedArtifact(artifact, reason=_on_the_device(bundle, reason)) for artifact in wanted
                ]
            device = open_device()
    return [_prepare(bundle, artifact, device, options, progress) for artifact in wanted]


def _on_the_device(bundle: Bundle, reason: str) -> str:
    return (
        f"no plan was built here ({reason}): it is built on the device, at first start or with "
        f"sspcab-export {bundle.path} --target tensorrt"
    )


def _prepare(
    bundle: Bundle,
    artifact: Artifact,
    device: tuple[Any, Cuda],
    options: PlanOptions | None,
    progress: BundleProgress | None,
) -> PreparedArtifact:
    tell = progress or _silent
    engine = TensorRtEngine(
        bundle.file(artifact.files[0]),
        bundle.manifest.inputs,
        bundle.manifest.outputs,
        precision=artifact.precision,
        options=options,
        progress=None if progress is None else lambda phase, done, of: tell(artifact, phase, done, of),
        device=device,
    )
    with engine:
        compared = replay(
            bundle, artifact, engine, progress=lambda done, of: tell(artifact, "replaying", done, of)
        )
        on = f"{engine.backend} {engine.version}"
        parity = judge_replay(artifact, compared, bundle.manifest.decision.threshold, on)
        if not parity.passed:
            raise GateError(
                f"{artifact.name} on {on} does not give the source's verdicts on this device: "
                f"{', '.join(shortfalls(parity))}; choose another precision or backend"
            )
        record_attestation(bundle, artifact, engine, parity)
        return PreparedArtifact(
            artifact,
            plan=engine.prepared.plan,
            built=engine.prepared.built,
            seconds=engine.prepared.seconds,
            size_bytes=engine.prepared.size_bytes,
            version=engine.version,
            device=engine.device,
            parity=parity,
            warnings=engine.prepared.warnings,
        )


def _silent(artifact: Artifact, what: str, done: int, of: int) -> None:
    del artifact, what, done, of
