"""What a device report tries, step by step, in a process that may die of it.

``python -m sspcab_runtime.engines.tensorrt.report_steps [BUNDLE]`` prints a line of JSON when a step begins
and one when it ends, so that whoever reads them knows in which step it died.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EdgeError, EngineError, MissingPackageError
from sspcab_runtime.engines.tensorrt.bundles import prepare_bundle
from sspcab_runtime.engines.tensorrt.cuda import Cuda
from sspcab_runtime.engines.tensorrt.cudart import open_cuda
from sspcab_runtime.engines.tensorrt.engine import TensorRtEngine, gpu_device
from sspcab_runtime.engines.tensorrt.importing import import_tensorrt
from sspcab_runtime.engines.tensorrt.plan_cache import PlanCache
from sspcab_runtime.engines.tensorrt.report_graphs import FRAMES, GRAPHS, INPUTS, OUTPUTS, SCORES
from sspcab_runtime.machine import gpus, jetson

__all__ = ["STEPS", "Step", "run_steps"]

_MIB = 1 << 20
_TIMED_RUNS = 200

Facts = dict[str, Any]
Status = Literal["started", "passed", "failed", "skipped"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: what came of it, why, and what was seen."""

    step: str
    status: Status
    reason: str | None = None
    facts: Facts = {}


class _SkipError(Exception):
    """A step that cannot be tried here, with the reason."""


@dataclass
class _State:
    """What earlier steps found."""

    folder: Path
    bundle: Path | None = None
    cuda: Cuda | None = None
    trt: Any = None
    given: tuple[Any, Cuda] | None = None
    engines: list[TensorRtEngine] = field(default_factory=list)

    def device(self) -> tuple[Any, Cuda]:
        if self.cuda is None:
            raise _SkipError("no CUDA device")
        if self.trt is None:
            raise _SkipError("no TensorRT")
        return self.trt, self.cuda

    def open(self, precision: str) -> TensorRtEngine:
        device = self.device()
        path = self.folder / f"{precision}.onnx"
        path.write_bytes(GRAPHS[precision])
        cache = PlanCache(self.folder / "plans")
        engine = TensorRtEngine(path, INPUTS, OUTPUTS, precision=precision, cache=cache, device=device)
        self.engines.append(engine)
        return engine


def _cuda(state: _State) -> Facts:
    """The driver, the runtime library and the GPU are there."""
    try:
        state.cuda = open_cuda() if state.given is None else state.given[1]
    except EngineError as error:
        if gpus() or jetson():
            raise
        raise _SkipError(str(error)) from error
    gpu = state.cuda.gpu()
    return {
        "device": gpu_device(gpu),
        "name": gpu.name,
        "compute_capability": gpu.capability,
        "cuda_driver": gpu.driver,
        "cuda_runtime": gpu.runtime,
        "memory_mb": gpu.memory_mb,
        "memory_free_mb": state.cuda.free_memory_mb(),
    }


def _tensorrt(state: _State) -> Facts:
    """TensorRT is installed and can be imported."""
    try:
        state.trt = import_tensorrt() if state.given is None else state.given[0]
    except MissingPackageError as error:
        raise _SkipError(str(error)) from error
    return {"version": str(state.trt.__version__), "file": str(getattr(state.trt, "__file__", ""))}


def _pinned(state: _State) -> Facts:
    """A MiB goes to the GPU and comes back."""
    if state.cuda is None:
        raise _SkipError("no CUDA device")
    cuda = state.cuda
    stream = cuda.create_stream()
    there, back, address = cuda.allocate_host(_MIB), cuda.allocate_host(_MIB), cuda.allocate(_MIB)
    there.array[:] = np.arange(_MIB, dtype=np.int64).astype(np.uint8)
    back.array[:] = 0
    cuda.copy_in(address, there, _MIB, stream)
    cuda.copy_out(back, address, _MIB, stream)
    cuda.synchronize(stream)
    same = bool(np.array_equal(there.array, back.array))
    cuda.free(address)
    cuda.free_host(there)
    cuda.free_host(back)
    cuda.destroy_stream(stream)
    if not same:
        raise EngineError("what came back from the GPU is not what went there")
    return {"bytes": _MIB}


def _plan(precision: str) -> Callable[[_State], Facts]:
    def run(state: _State) -> Facts:
        engine = state.open(precision)
        expected, tolerance = SCORES[precision]
        worst = 0.0
        for batch in (1, 3, 1, 1, 4):
            got = np.asarray(engine.infer({"frames": FRAMES[:batch]})["score"], np.float64)
            wanted = np.array(expected[:batch])
            worst = max(worst, float((np.abs(got - wanted) / np.abs(wanted)).max()))
        if not worst <= tolerance:
            raise EngineError(f"scores differ by {worst:.2e} of their value, allowed {tolerance:.0e}")
        prepared = engine.prepared
        return {
            "built": prepared.built,
            "build_s": round(prepared.seconds, 3),
            "plan_bytes": prepared.size_bytes,
            "worst_relative_difference": worst,
            "warnings": list(prepared.warnings),
        }

    run.__doc__ = f"The {precision} graph is built to a plan and gives the right scores, for changing N."
    return run


def _reuse(state: _State) -> Facts:
    """The second start takes the plan from the cache."""
    engine = state.open("fp32")
    if engine.prepared.built:
        raise EngineError("the plan was built again, expected it from the cache")
    return {"load_s": round(engine.prepared.seconds, 3)}


def _graph(state: _State) -> Facts:
    """Runs of one size are captured in a CUDA graph; how long one takes."""
    engine = state.open("fp32")
    captured = engine.captured
    times = []
    for _ in range(_TIMED_RUNS):
        engine.infer({"frames": FRAMES[:1]})
        times.append(sum(engine.stages_ms.values()))
    if not captured:
        raise EngineError(
            "no CUDA graph was captured: runs are enqueued one by one, which works and is slower"
        )
    return {"captured": captured, "median_ms": round(statistics.median(times), 4), "runs": _TIMED_RUNS}


def _damaged(state: _State) -> Facts:
    """A damaged plan in the cache is noticed and replaced."""
    plan = state.open("fp32").prepared.plan
    if plan is None:
        raise EngineError("no plan was cached")
    plan.write_bytes(plan.read_bytes()[:-100])
    if not state.open("fp32").prepared.built:
        raise EngineError("a damaged plan was used")
    return {}


def _close(state: _State) -> Facts:
    """Everything is given back."""
    _, cuda = state.device()
    before = cuda.free_memory_mb()
    for engine in state.engines:
        engine.close()
    return {"memory_free_before_mb": before, "memory_free_after_mb": cuda.free_memory_mb()}


def _bundle(state: _State) -> Facts:
    """The bundle's TensorRT artifacts get plans and pass the parity pack."""
    if state.bundle is None:
        raise _SkipError("no bundle was given")
    device = state.device()
    found = prepare_bundle(Bundle.open(state.bundle), device=device)
    return {
        one.artifact.name: {
            "built": one.built,
            "seconds": round(one.seconds, 3),
            "plan_bytes": one.size_bytes,
            "warnings": list(one.warnings),
            "parity": msgspec.to_builtins(one.parity),
        }
        for one in found
    }


STEPS: dict[str, Callable[[_State], Facts]] = {
    "cuda": _cuda,
    "tensorrt": _tensorrt,
    "pinned-memory": _pinned,
    "plan-fp32": _plan("fp32"),
    "plan-fp16": _plan("fp16"),
    "plan-int8": _plan("int8"),
    "plan-reuse": _reuse,
    "cuda-graph": _graph,
    "damaged-plan": _damaged,
    "close": _close,
    "bundle": _bundle,
}
"""Name -> what is tried, in this order."""


def run_steps(bundle: Path | None = None, *, device: tuple[Any, Cuda] | None = None) -> Iterator[Step]:
    """Try everything; each step is given twice, when it begins (``started``) and when it ended."""
    with tempfile.TemporaryDirectory() as folder:
        state = _State(Path(folder), bundle, given=device)
        for name, step in STEPS.items():
            yield Step(step=name, status="started")
            try:
                yield Step(step=name, status="passed", facts=step(state))
            except _SkipError as why:
                yield Step(step=name, status="skipped", reason=str(why))
            except EdgeError as error:
                yield Step(step=name, status="failed", reason=" ".join(str(error).split()))


def _main(arguments: list[str]) -> None:
    for step in run_steps(Path(arguments[0]) if arguments else None):
        sys.stdout.write(msgspec.json.encode(step).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
