"""The table of backends, and opening an artifact on one of them.

A new backend is one file with a :class:`~sspcab_runtime.engines.base.GraphEngine`, one line in
:data:`ENGINES` and one extra in ``pyproject.toml``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import MissingPackageError, OptionError
from sspcab_edge.front_end_spec import ENTRY_A_FRAME
from sspcab_edge.manifest import Artifact
from sspcab_edge.ports import Port
from sspcab_runtime.engines.base import GraphEngine

__all__ = [
    "ENGINES",
    "backends_for",
    "candidates",
    "choose",
    "engine_class",
    "fitting",
    "installed",
    "installed_backends",
    "load_engine",
    "open_engine",
]

ENGINES: dict[str, str] = {
    "onnxruntime": "sspcab_runtime.engines.onnxruntime_engine:OnnxRuntimeEngine",
    "openvino": "sspcab_runtime.engines.openvino_engine:OpenVinoEngine",
    "tensorrt": "sspcab_runtime.engines.tensorrt.engine:TensorRtEngine",
}
"""Backend -> "module:Class", the preferred one first. TensorRT is last until it has been seen on a GPU."""


def engine_class(backend: str) -> type[GraphEngine]:
    """The class of a backend; its package is not imported yet.

    Raises:
        OptionError: No backend has this name.
    """
    if backend not in ENGINES:
        raise OptionError(f"unknown backend {backend!r}: expected one of {', '.join(ENGINES)}")
    module, name = ENGINES[backend].split(":")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, GraphEngine)):
        raise TypeError(f"{ENGINES[backend]} is not a GraphEngine")
    return found


def backends_for(target: str) -> tuple[str, ...]:
    """Backends that run artifacts of ``target``, the preferred one first."""
    return tuple(backend for backend in ENGINES if target in engine_class(backend).targets)


def installed(backend: str) -> bool:
    """Whether the package of a backend is installed (it is not imported)."""
    return importlib.util.find_spec(engine_class(backend).package) is not None


def installed_backends() -> tuple[str, ...]:
    """Backends whose package is installed, the preferred one first."""
    return tuple(backend for backend in ENGINES if installed(backend))


def fitting(
    artifacts: Iterable[Artifact],
    *,
    backend: str | None = None,
    precision: str | None = None,
    target: str | None = None,
    hint: str | None = None,
) -> tuple[tuple[Artifact, str], ...]:
    """Every artifact that is what was asked for, with every backend that runs it, installed or not.

    They come in the order of :data:`ENGINES`, and for each backend in that of the manifest. What is given
    narrows the choice and is never widened; a ``hint`` leaves the backends that have it.

    Raises:
        OptionError: No artifact is what was asked for; the text lists what there is.
    """
    offered = tuple(artifacts)
    wanted_backends = tuple(ENGINES) if backend is None else (backend,)
    found = tuple(
        (artifact, name)
        for name in wanted_backends
        for artifact in offered
        if artifact.target in engine_class(name).targets
        and precision in (None, artifact.precision)
        and target in (None, artifact.target)
        and (hint is None or hint in engine_class(name).hints)
    )
    if not found:
        asked = {"backend": backend, "precision": precision, "target": target, "hint": hint}
        wish = ", ".join(f"{what} {value}" for what, value in asked.items() if value is not None)
        has = "; ".join(f"{a.name} (backend {' or '.join(backends_for(a.target))})" for a in offered)
        raise OptionError(f"the bundle has no artifact for {wish or 'any known backend'}: it has {has}")
    return found


def candidates(
    artifacts: Iterable[Artifact],
    *,
    backend: str | None = None,
    precision: str | None = None,
    target: str | None = None,
    hint: str | None = None,
) -> tuple[tuple[Artifact, str], ...]:
    """Those of :func:`fitting` whose backend is installed, the preferred one first.

    Raises:
        OptionError: No artifact is what was asked for; the text lists what there is.
        MissingPackageError: There is one, and no backend for it is installed.
    """
    found = fitting(artifacts, backend=backend, precision=precision, target=target, hint=hint)
    usable = tuple((artifact, name) for artifact, name in found if installed(name))
    if not usable:
        artifact, name = found[0]
        first = engine_class(name)
        raise MissingPackageError(first.package, first.extra, f"artifact {artifact.name}")
    return usable


def choose(
    artifacts: Iterable[Artifact],
    *,
    backend: str | None = None,
    precision: str | None = None,
    target: str | None = None,
) -> tuple[Artifact, str]:
    """The artifact to run, and the backend to run it on: the first of :func:`candidates`.

    Raises:
        OptionError: No artifact is what was asked for; the text lists what there is.
        MissingPackageError: There is one, and no backend for it is installed.
    """
    return candidates(artifacts, backend=backend, precision=precision, target=target)[0]


def open_engine(
    bundle: Bundle,
    artifact: Artifact,
    *,
    backend: str | None = None,
    threads: int | None = None,
    hint: str | None = None,
    single: bool = False,
) -> GraphEngine:
    """Load an artifact of a bundle; ``backend`` None takes the first installed one that runs it.

    ``single`` says that no caller gathers several frames into one call; it is left aside where a frame alone
    has several entries, as tiles and objects.

    Raises:
        OptionError: The backend is unknown, does not run the artifact's target or has no such hint; or
            ``threads`` < 1.
        MissingPackageError: The backend is not installed.
        EngineError: The backend refuses the artifact, or its ports are not the manifest's.
    """
    _, chosen = choose((artifact,), backend=backend)
    manifest = bundle.manifest
    path = bundle.file(artifact.files[0])
    return load_engine(
        chosen,
        path,
        manifest.inputs,
        manifest.outputs,
        precision=artifact.precision,
        threads=threads,
        hint=hint,
        single=single and manifest.front_end.kind in ENTRY_A_FRAME,
    )


def load_engine(
    backend: str,
    path: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    precision: str = "fp32",
    threads: int | None = None,
    hint: str | None = None,
    single: bool = False,
) -> GraphEngine:
    """Load a graph file that belongs to no bundle (yet).

    Raises:
        OptionError: The backend is unknown, ``threads`` < 1, or it has no such hint.
        MissingPackageError: The backend is not installed.
        EngineError: The backend refuses the file, or its ports are not those given.
    """
    found = engine_class(backend)
    return found(path, inputs, outputs, precision=precision, threads=threads, hint=hint, single=single)
