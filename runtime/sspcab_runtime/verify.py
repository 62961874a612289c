"""Verifying a bundle on this device: its parity pack on every artifact and backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import msgspec

from sspcab_edge.bundle import Bundle
from sspcab_edge.command import PATH, common_options, json_option
from sspcab_edge.errors import EngineError, GateError, MissingPackageError
from sspcab_edge.manifest import Artifact, Parity
from sspcab_edge.parity import shortfalls
from sspcab_runtime.attestation import Attestation, read_attestation, record_attestation
from sspcab_runtime.engines.table import (
    ENGINES,
    backends_for,
    choose,
    engine_class,
    installed,
    open_engine,
)
from sspcab_runtime.progress import Progress
from sspcab_runtime.replay import judge_replay, replay
from sspcab_runtime.tables import number, table

__all__ = ["Attestation", "Checked", "read_attestation", "record_attestation", "verify"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What one artifact did on one backend.

    Attributes:
        artifact: The artifact.
        backend: The backend.
        version: Of the backend's library; None where it is missing or did not load.
        device: What it ran on; None where it did not.
        status: ``passed`` or ``failed`` the gate; ``broken``: the engine refused or stopped; ``missing``:
            the backend is not installed.
        parity: The comparison, after ``passed`` or ``failed``.
        reason: One line, for everything but ``passed``.
    """

    artifact: Artifact
    backend: str
    status: Literal["passed", "failed", "broken", "missing"]
    version: str | None = None
    device: str | None = None
    parity: Parity | None = None
    reason: str | None = None


def verify(
    bundle: Bundle,
    *,
    backends: Sequence[str] = (),
    threads: int | None = None,
    progress: Callable[[Artifact, str, int, int], None] | None = None,
) -> tuple[Checked, ...]:
    """Replay the pack on every artifact, whatever was attested before; passes are attested anew.

    Without ``backends`` every backend that runs an artifact is tried, and those not installed are reported
    as ``missing``. ``progress`` is called with artifact, backend, inputs replayed and inputs in all.

    Raises:
        OptionError: A backend that was asked for is unknown or has no artifact here.
        MissingPackageError: A backend that was asked for is not installed.
        BundleError: The pack cannot be read.
    """
    for backend in backends:
        choose(bundle.manifest.artifacts, backend=backend)
    return tuple(
        _check(bundle, artifact, backend, threads, progress)
        for artifact in bundle.manifest.artifacts
        for backend in backends_for(artifact.target)
        if not backends or backend in backends
    )


def _check(
    bundle: Bundle,
    artifact: Artifact,
    backend: str,
    threads: int | None,
    progress: Callable[[Artifact, str, int, int], None] | None,
) -> Checked:
    if not installed(backend):
        missing = _missing(artifact, backend)
        return Checked(artifact, backend, "missing", reason=str(missing))
    version = device = None
    try:
        with open_engine(bundle, artifact, backend=backend, threads=threads, single=True) as engine:
            version, device = engine.version, engine.device
            report = None if progress is None else lambda done, of: progress(artifact, backend, done, of)
            compared = replay(bundle, artifact, engine, progress=report)
    except EngineError as error:
        return Checked(artifact, backend, "broken", version, device, reason=str(error))
    on = f"{backend} {version}"
    parity = judge_replay(artifact, compared, bundle.manifest.decision.threshold, on)
    if not parity.passed:
        return Checked(artifact, backend, "failed", version, device, parity, ", ".join(shortfalls(parity)))
    record_attestation(bundle, artifact, engine, parity)
    return Checked(artifact, backend, "passed", version, device, parity)


def _missing(artifact: Artifact, backend: str) -> MissingPackageError:
    engine = engine_class(backend)
    return MissingPackageError(engine.package, engine.extra, f"artifact {artifact.name}")


@click.command("verify")
@click.argument("bundle", type=PATH)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(list(ENGINES)),
    help="Only this backend; may repeat. [default: every one that is installed]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: backend's]")
@json_option
@common_options
def command(bundle: Path, backends: tuple[str, ...], threads: int | None, as_json: bool) -> None:
    """Replay the parity pack of BUNDLE on this device, for every artifact and backend.

    Exit 3 when an artifact does not give the verdicts it was exported with. What passes is remembered, and
    sspcab-run needs no replay of its own.
    """
    opened = Bundle.open(bundle)
    with Progress("replaying") as progress:
        checked = verify(
            opened,
            backends=backends,
            threads=threads,
            progress=lambda artifact, backend, done, of: progress.update(
                done, of, f"{artifact.name} on {backend}"
            ),
        )
    click.echo(_as_json(opened, checked) if as_json else _as_table(opened, checked))
    missing = [check for check in checked if check.status == "missing"]
    if len(missing) == len(checked):
        raise _missing(missing[0].artifact, missing[0].backend)
    for check in missing:
        click.echo(f"not verified: {check.artifact.name}: {check.reason}", err=True)
    bad = [check for check in checked if check.status in ("failed", "broken")]
    if bad:
        text = "; ".join(f"{check.artifact.name} on {check.backend}: {check.reason}" for check in bad)
        raise GateError(f"{len(bad)} of {len(checked)} not verified: {text}")


def _as_table(bundle: Bundle, checked: Sequence[Checked]) -> str:
    header = ("artifact", "backend", "inputs", "flips", "score diff", "map diff", "status")
    rows = []
    for check in checked:
        parity = check.parity
        engine = f"{check.backend} {check.version or ''}".strip()
        figures = ("-", "-", "-", "-")
        if parity is not None:
            figures = (
                str(parity.pictures),
                "-" if parity.flips is None else str(parity.flips),
                number(parity.max_abs_score_diff, 2),
                number(parity.max_abs_map_diff, 2),
            )
        rows.append((check.artifact.name, engine, *figures, check.status))
    devices = sorted({check.device for check in checked if check.device is not None})
    title = f"{bundle.path}  release {bundle.manifest.release}  digest {bundle.digest[:16]}"
    return "\n".join([title, *devices, table(header, rows, right=(2, 3, 4, 5))])


def _as_json(bundle: Bundle, checked: Sequence[Checked]) -> str:
    plain = {
        "schema": 1,
        "bundle": str(bundle.path),
        "digest": bundle.digest,
        "artifacts": [
            {
                "artifact": check.artifact.name,
                "target": check.artifact.target,
                "precision": check.artifact.precision,
                "backend": check.backend,
                "version": check.version,
                "device": check.device,
                "status": check.status,
                "passed": check.status == "passed",
                "reason": check.reason,
                "parity": None if check.parity is None else msgspec.to_builtins(check.parity),
            }
            for check in checked
        ],
    }
    return msgspec.json.encode(plain).decode()
