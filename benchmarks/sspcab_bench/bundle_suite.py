"""Every artifact of a bundle on every backend that runs it, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sspcab_bench.artifact import Job, Measured
from sspcab_bench.bundle_worker import Answer, Problem
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import (
    BundleError,
    EdgeError,
    EngineError,
    GateError,
    InputError,
    MissingPackageError,
    PictureError,
    SourceError,
)
from sspcab_edge.manifest import Artifact
from sspcab_runtime.engines import backends_for, choose, engine_class, installed
from sspcab_runtime.sources import open_source

__all__ = ["BundleOptions", "in_own_process", "plan", "run"]

_WORKER = "sspcab_bench.bundle_worker"

_ERRORS: dict[str, type[EdgeError]] = {
    kind.__name__: kind
    for kind in (BundleError, EngineError, GateError, InputError, PictureError, SourceError)
}
"""What a measuring process may report, by name; anything else is an EdgeError."""


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """How to measure.

    Attributes:
        backends: Names in the runtime's table of engines; none is all that are installed.
        threads: Of one inference; None leaves it to the backend, as the runtime does.
        seconds: At least so long for each of latency, stream and engine alone.
        source: URI of frames to measure on; None is the bundle's parity pack.
        streams: Engines that a stream uses at the same time.
        batch: Frames of one engine call.
    """

    backends: tuple[str, ...] = ()
    threads: int | None = None
    seconds: float = 3.0
    source: str | None = None
    streams: int = 1
    batch: int = 1


def plan(bundle: Bundle, options: BundleOptions) -> list[tuple[Artifact, str]]:
    """Which artifact to measure on which backend, in the manifest's order.

    Raises:
        OptionError: A backend that was asked for is unknown, or runs no artifact of the bundle.
        MissingPackageError: One that was asked for is not installed; or none that would do is.
    """
    artifacts = bundle.manifest.artifacts
    for backend in options.backends:
        choose(artifacts, backend=backend)
    pairs = [
        (artifact, backend)
        for artifact in artifacts
        for backend in backends_for(artifact.target)
        if (backend in options.backends if options.backends else installed(backend))
    ]
    if not pairs:
        raise _missing(artifacts[0], backends_for(artifacts[0].target)[0])
    return pairs


def _missing(artifact: Artifact, backend: str) -> MissingPackageError:
    engine = engine_class(backend)
    return MissingPackageError(engine.package, engine.extra, f"artifact {artifact.name}")


def run(
    bundle: Bundle, options: BundleOptions, progress: Callable[[str], None] = lambda text: None
) -> list[Measured]:
    """Measure what :func:`plan` says, one after the other.

    Raises:
        EdgeError: Whatever ends a measurement: see :func:`plan` and
            :func:`sspcab_bench.artifact.measure_artifact`.
        EngineError: A measuring process died.
    """
    pairs = plan(bundle, options)
    for artifact in bundle.manifest.artifacts:
        for backend in backends_for(artifact.target):
            if not options.backends and not installed(backend):
                progress(f"not measured: {_missing(artifact, backend)}")
    if options.source is not None:
        open_source(options.source).close()
    results = []
    for artifact, backend in pairs:
        progress(f"measuring {artifact.name} on {backend}")
        job = Job(
            bundle=str(bundle.path),
            artifact=artifact.name,
            backend=backend,
            threads=options.threads,
            seconds=options.seconds,
            source=options.source,
            streams=options.streams,
            batch=options.batch,
        )
        results.append(in_own_process(job))
    return results


def in_own_process(job: Job) -> Measured:
    """Do one job in a new process; it is killed when this one is interrupted.

    Raises:
        EdgeError: What the process reports, as the class that it was there.
        EngineError: It died without a word.
    """
    with subprocess.Popen(
        [sys.executable, "-m", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            output, _ = process.communicate(msgspec.json.encode(job))
        except BaseException:
            process.kill()
            raise
    try:
        answer = msgspec.json.decode(output, type=Answer)
    except msgspec.DecodeError:
        raise EngineError(
            f"the process that measured {job.artifact} on {job.backend} died {_how(process.returncode)}"
        ) from None
    if answer.measured is None:
        problem = answer.problem or Problem("EngineError", "the measuring process gave no reason")
        raise _ERRORS.get(problem.kind, EdgeError)(problem.text)
    return answer.measured


def _how(returncode: int) -> str:
    if returncode == -9:
        return "by signal 9: it was killed, most likely for want of memory"
    return f"by signal {-returncode}" if returncode < 0 else f"with status {returncode}"
