"""A plan for a graph on this GPU: from the cache, or built and then cached."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sspcab_edge.errors import EngineError
from sspcab_edge.ports import Port
from sspcab_runtime.engines.tensorrt.cuda import Gpu
from sspcab_runtime.engines.tensorrt.importing import open_device
from sspcab_runtime.engines.tensorrt.messages import map_errors, messages_of
from sspcab_runtime.engines.tensorrt.options import PlanOptions
from sspcab_runtime.engines.tensorrt.plan import BuildProgress, BuiltPlan, build_plan
from sspcab_runtime.engines.tensorrt.plan_cache import PlanCache, PlanKey

__all__ = ["Loaded", "Prepared", "load_plan", "prepare"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where the plan of a graph is and what it took.

    Attributes:
        plan: Its file; None where the cache cannot be written.
        built: Whether it was built now, and not found in the cache.
        seconds: What finding or building took.
        size_bytes: Of the plan.
        sha256: Of the plan. Two builds may choose other kernels, and round otherwise.
        warnings: What TensorRT warned of while building.
    """

    plan: Path | None
    built: bool
    seconds: float
    size_bytes: int
    sha256: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A deserialised plan; the runtime lives as long as the engine made of it."""

    cuda_engine: Any = field(repr=False)
    runtime: Any = field(repr=False)
    prepared: Prepared


def load_plan(
    trt: Any,
    gpu: Gpu,
    path: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    options: PlanOptions,
    cache: PlanCache,
    progress: BuildProgress | None = None,
) -> Loaded:
    """The engine of a graph: its plan from the cache, or built now, deserialised.

    A plan that does not deserialise is deleted and built once more.

    Raises:
        EngineError: The graph cannot be read or is refused, or a fresh plan does not deserialise.
    """
    try:
        onnx = path.read_bytes()
    except OSError as error:
        raise EngineError(f"tensorrt cannot load {path}: {error.strerror}") from error
    key = PlanKey.of(onnx, str(trt.__version__), gpu, options)
    start = time.perf_counter()
    plan = cache.read(key)
    if plan is not None:
        loaded = _deserialize(trt, plan)
        if loaded is not None:
            prepared = Prepared(cache.path(key), False, time.perf_counter() - start, len(plan), _sha256(plan))
            return Loaded(*loaded, prepared)
        _LOG.warning("the cached plan of %s does not load, and is built again: %s", path, _why(trt))
        cache.drop(key)
    with cache.building(key):
        found = cache.read(key, warn=False)  # of another process, that built while this one waited
        fresh = None
        if found is None or found == plan:
            fresh = _build(trt, key, onnx, path, inputs, outputs, options, cache, progress)
        place = cache.path(key) if fresh is None else cache.write(key, fresh.plan)
    plan = found if fresh is None else fresh.plan
    loaded = None if plan is None else _deserialize(trt, plan)
    if plan is None or loaded is None:
        cache.drop(key)
        raise EngineError(f"tensorrt cannot load {path}: it refuses the plan it has built: {_why(trt)}")
    warnings = () if fresh is None else fresh.warnings
    seconds = time.perf_counter() - start
    return Loaded(*loaded, Prepared(place, fresh is not None, seconds, len(plan), _sha256(plan), warnings))


def prepare(
    path: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port] = (),
    *,
    options: PlanOptions | None = None,
    progress: BuildProgress | None = None,
    cache: PlanCache | None = None,
) -> Prepared:
    """Find or build the plan of a typed ONNX file for this machine's GPU, and see that it loads.

    Raises:
        MissingPackageError: TensorRT is not installed.
        EngineError: No CUDA device, or TensorRT refuses the graph.
    """
    trt, cuda = open_device()
    return load_plan(
        trt,
        cuda.gpu(),
        path,
        inputs,
        outputs,
        options=options or PlanOptions(),
        cache=cache or PlanCache(),
        progress=progress,
    ).prepared


def _build(
    trt: Any,
    key: PlanKey,
    onnx: bytes,
    path: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    options: PlanOptions,
    cache: PlanCache,
    progress: BuildProgress | None,
) -> BuiltPlan:
    _LOG.warning("building the TensorRT plan of %s for %s: this takes minutes, once", path, key.gpu)
    timings = cache.read(key.timings()) or b""
    built = build_plan(trt, onnx, options, inputs, timings, progress, outputs=outputs, name=str(path))
    for warning in built.warnings:
        _LOG.warning("tensorrt: %s", warning)
    _LOG.info("the plan of %s took %.1f s, %.1f MB", path, built.seconds, len(built.plan) / 1e6)
    if built.timing_cache:
        cache.write(key.timings(), built.timing_cache)
    return built


def _deserialize(trt: Any, plan: bytes) -> tuple[Any, Any] | None:
    """(engine, runtime), or None where TensorRT gives none."""
    logger, record = messages_of(trt)
    record.clear()
    with map_errors("cannot make a runtime"):
        runtime = trt.Runtime(logger)
        cuda_engine = runtime.deserialize_cuda_engine(plan)
    record.pass_on_interrupt()
    return None if cuda_engine is None else (cuda_engine, runtime)


def _sha256(plan: bytes) -> str:
    return hashlib.sha256(plan).hexdigest()


def _why(trt: Any) -> str:
    _, record = messages_of(trt)
    return record.last_errors()
