"""Building a plan: network, profile, config, build. One path for TensorRT 10.3 to 11 and RTX."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sspcab_edge.errors import EngineError
from sspcab_edge.ports import Port
from sspcab_runtime.engines.tensorrt.cudart import load_libcuda
from sspcab_runtime.engines.tensorrt.importing import CHECKER
from sspcab_runtime.engines.tensorrt.messages import REFUSED, Messages, map_errors, messages_of
from sspcab_runtime.engines.tensorrt.network import make_network
from sspcab_runtime.engines.tensorrt.options import PlanOptions

__all__ = ["BuildProgress", "BuiltPlan", "build_plan", "check_with", "profile_shapes"]

_LOG = logging.getLogger(__name__)
_BUILDING = threading.Lock()

BuildProgress = Callable[[str, int, int], None]
"""Called with (phase, steps done, steps in all), from the builder's threads; phases are nested."""


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan, fresh from the builder.

    Attributes:
        plan: The serialised engine; a program for this GPU and this version of TensorRT alone.
        timing_cache: What the next build of the like can use; None where none was asked for.
        seconds: How long it took.
        warnings: One-line messages that are not known to be harmless.
    """

    plan: bytes
    timing_cache: bytes | None
    seconds: float
    warnings: tuple[str, ...]


def build_plan(
    trt: Any,
    onnx: bytes | Path,
    options: PlanOptions,
    inputs: Sequence[Port],
    timing_cache: bytes | None = None,
    progress: BuildProgress | None = None,
    *,
    outputs: Sequence[Port] = (),
    name: str = "the graph",
) -> BuiltPlan:
    """Build a plan from typed ONNX with a module that was imported and may be called.

    ``timing_cache`` is what an earlier build gave, empty bytes for a new one, or None for none.
    ``outputs`` are checked where they are given; ``name`` stands for bytes in error texts. One build runs at
    a time in a process.

    Raises:
        EngineError: The graph is refused, its ports are others, or the build fails.
        KeyboardInterrupt: Ctrl-C, seen between two steps of the builder.
    """
    what = f"cannot load {onnx if isinstance(onnx, Path) else name}"
    data = _read(onnx, what) if isinstance(onnx, Path) else onnx
    if not data:
        raise EngineError(f"tensorrt {what}: it is empty")
    logger, record = messages_of(trt)
    start = time.perf_counter()
    with _BUILDING:
        record.clear()
        with map_errors(what):
            builder = trt.Builder(logger)
        network, parser = make_network(trt, builder, logger, record, data, inputs, outputs, what)
        _refuse(record, what)
        with map_errors(what):
            config = _config(trt, builder, options, timing_cache)
            _add_profile(builder, config, options, inputs, what)
            monitor = None if progress is None else _monitor(trt, progress)
            if monitor is not None:
                config.progress_monitor = monitor
            serialized = builder.build_serialized_network(network, config)
        del parser
        _stop_if_asked(record, monitor)
        if serialized is None:
            raise EngineError(f"tensorrt {what}: the build failed: {record.last_errors()}")
        _refuse(record, what)
        with map_errors(what):
            tactics = None if timing_cache is None else config.get_timing_cache()
            kept = None if tactics is None else bytes(tactics.serialize())
            plan = bytes(serialized)
        warnings = record.worth_telling()
    return BuiltPlan(plan, kept, time.perf_counter() - start, warnings)


def check_with(
    trt: Any,
    onnx: bytes | Path,
    inputs: Sequence[Port],
    *,
    outputs: Sequence[Port] = (),
    options: PlanOptions | None = None,
) -> BuiltPlan:
    """Parse and build a graph to see whether TensorRT takes it; the plan is not for keeping.

    With the module ``tensorrt_rtx`` this needs no GPU. It is the same parser as TensorRT 11's; operators that
    only TensorRT's plugins have are refused here and would run there.

    Raises:
        EngineError: As :func:`build_plan`; or the module needs a GPU and there is none.
    """
    if trt.__name__ != CHECKER:
        load_libcuda()
    return build_plan(trt, onnx, options or PlanOptions(), inputs, outputs=outputs)


def profile_shapes(port: Port, options: PlanOptions) -> tuple[tuple[int, ...], ...] | None:
    """Smallest, best and largest shape of an input, or None where nothing of it is free.

    Raises:
        EngineError: Something else than the batch is free.
    """
    free = [axis for axis, size in enumerate(port.shape) if isinstance(size, str)]
    if not free:
        return None
    if free != [0]:
        raise EngineError(f"input {port.name} has shape {port.shape}: only its first size, N, may be free")
    rest = tuple(size for size in port.shape[1:] if isinstance(size, int))
    return tuple((n, *rest) for n in (options.min_batch, options.opt_batch, options.max_batch))


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EngineError(f"tensorrt {what}: {error.strerror}") from error


def _config(trt: Any, builder: Any, options: PlanOptions, timing_cache: bytes | None) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    config.builder_optimization_level = options.optimization_level
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; it rounds fp32 to 10 bits and moves scores
    if timing_cache is not None:
        tactics = config.create_timing_cache(timing_cache)
        if tactics is None or not config.set_timing_cache(tactics, False):
            _LOG.info("the timing cache is another version's or another GPU's: tactics are timed anew")
            config.set_timing_cache(config.create_timing_cache(b""), False)
    return config


def _add_profile(builder: Any, config: Any, options: PlanOptions, inputs: Sequence[Port], what: str) -> None:
    """One profile for the free batch. Wrong names are accepted silently, wrong sizes give -1."""
    shapes = {port.name: profile_shapes(port, options) for port in inputs}
    profile = builder.create_optimization_profile()
    for name, wanted in shapes.items():
        if wanted is None:
            continue
        profile.set_shape(name, *wanted)
        got = [tuple(size) for size in profile.get_shape(name)]
        if got != list(wanted):
            raise EngineError(f"tensorrt {what}: the profile of {name} is {got}, expected {list(wanted)}")
    if any(wanted is not None for wanted in shapes.values()) and config.add_optimization_profile(profile) < 0:
        raise EngineError(f"tensorrt {what}: it refuses the profile {shapes}")


class _Stop:
    """Whether the builder was asked to stop, and why."""

    error: BaseException | None = None


def _monitor(trt: Any, progress: BuildProgress) -> Any | None:
    """What TensorRT tells its progress to; None where it cannot."""
    if getattr(trt, "IProgressMonitor", None) is None:
        return None

    class _Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stop = _Stop()
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self._totals[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.stop.error is None

        def phase_finish(self, phase_name: str) -> None:
            self._totals.pop(phase_name, None)

        def _tell(self, phase: str, done: int) -> None:
            try:
                progress(phase, done, self._totals.get(phase, done))
            except (KeyboardInterrupt, OSError, RuntimeError, ValueError) as error:
                self.stop.error = error  # an exception must not pass through C++

    return _Monitor()


def _stop_if_asked(record: Messages, monitor: Any | None) -> None:
    record.pass_on_interrupt()
    if monitor is not None and monitor.stop.error is not None:
        raise monitor.stop.error


def _refuse(record: Messages, what: str) -> None:
    """Raise EngineError for a warning that hides a wrong result."""
    for pattern, meaning in REFUSED:
        if any(re.search(pattern, warning) for warning in record.warnings):
            raise EngineError(f"tensorrt {what}: {meaning}")
