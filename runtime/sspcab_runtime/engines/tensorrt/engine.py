"""TensorRT on the GPU: the bundle's typed ONNX, as a plan that was built on this device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sspcab_edge.errors import EngineError, InputError
from sspcab_edge.ports import Array, Port
from sspcab_runtime.engines.base import GraphEngine, GraphPort
from sspcab_runtime.engines.tensorrt.cuda import Cuda, CudaError, Gpu
from sspcab_runtime.engines.tensorrt.execution import Execution
from sspcab_runtime.engines.tensorrt.importing import open_device
from sspcab_runtime.engines.tensorrt.messages import map_errors, messages_of
from sspcab_runtime.engines.tensorrt.network import dtype_name
from sspcab_runtime.engines.tensorrt.obtain import Prepared, load_plan
from sspcab_runtime.engines.tensorrt.options import PlanOptions
from sspcab_runtime.engines.tensorrt.plan import BuildProgress
from sspcab_runtime.engines.tensorrt.plan_cache import PlanCache
from sspcab_runtime.machine import PROC

__all__ = ["TensorRtEngine", "gpu_device"]

_DRIVER_FILE = Path("driver/nvidia/version")


class TensorRtEngine(GraphEngine):
    """TensorRT, one inference at a time on the first GPU.

    The file to load is the typed ONNX. Where the cache has no plan for exactly this file, GPU, driver and
    TensorRT it is built first, which takes minutes. ``threads`` means nothing here.

    The clocks: ``copy_in`` and ``copy_out`` are copies within the host, from and to pinned memory; transfers
    to and from the GPU are part of ``infer``.

    Attributes:
        prepared: Where the plan is, and whether it was built just now.
        settings: Which plan this is: what one plan proved says nothing of another build.

    Args:
        path: The typed ONNX file.
        inputs: Ports the graph must have.
        outputs: Ports the graph must have.
        precision: Of the artifact; what is computed in is in the graph.
        threads: Ignored.
        hint: There is none.
        single: Ignored: a plan's profile says how many.
        proc: Root of ``/proc``.
        options: Of the plan.
        progress: Told of every step of a build.
        cache: Where plans are kept.
        device: TensorRT's module and the GPU; None imports and opens them.

    Raises:
        MissingPackageError: TensorRT is not installed.
        EngineError: No CUDA device, the graph is refused, or there is not enough memory.
    """

    backend = "tensorrt"
    targets = ("tensorrt",)
    package = "tensorrt"
    extra = "tensorrt"

    def __init__(
        self,
        path: Path,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        precision: str,
        threads: int | None = None,
        hint: str | None = None,
        single: bool = False,
        proc: Path = PROC,
        options: PlanOptions | None = None,
        progress: BuildProgress | None = None,
        cache: PlanCache | None = None,
        device: tuple[Any, Cuda] | None = None,
    ) -> None:
        self._options = options or PlanOptions()
        self._progress = progress
        self._cache = cache or PlanCache()
        self._given = device
        self._proc = proc
        self._execution: Execution | None = None
        self._cuda_engine: Any = None
        self._runtime: Any = None
        self._broken: str | None = None
        super().__init__(
            path, inputs, outputs, precision=precision, threads=threads, hint=hint, single=single, proc=proc
        )

    @property
    def max_batch(self) -> int | None:
        """Largest N of the profile, or what the ports fix it to."""
        return self._limits[1]

    @property
    def captured(self) -> bool:
        """Whether runs of the present batch size are one launch of a CUDA graph."""
        return self._execution is not None and self._execution.captured

    def _load(self, precision: str, threads: int | None, hint: str | None) -> None:
        del precision, threads, hint  # the graph spells out its precision; the GPU has no threads to count
        trt, cuda = open_device() if self._given is None else self._given
        self.version = str(trt.__version__)
        gpu = cuda.gpu()
        self.device = gpu_device(gpu, self._proc)
        loaded = load_plan(
            trt,
            gpu,
            self.path,
            self.inputs,
            self.outputs,
            options=self._options,
            cache=self._cache,
            progress=self._progress,
        )
        self.prepared: Prepared = loaded.prepared
        self.settings = f"plan {loaded.prepared.sha256}"
        with map_errors(f"cannot load {self.path}"):
            self._found = _io_tensors(loaded.cuda_engine)
            self._check_ports("input", self.inputs, self._graph_inputs())
            self._check_ports("output", self.outputs, self._graph_outputs())
            self._limits = _batch_limits(loaded.cuda_engine, self.inputs)
        self._execution = Execution(
            cuda,
            loaded.cuda_engine,
            messages_of(trt)[1],
            self.inputs,
            self.outputs,
            max_batch=self._limits[1],
            name=str(self.path),
        )
        self._runtime = loaded.runtime
        self._cuda_engine = loaded.cuda_engine

    def _graph_inputs(self) -> Sequence[GraphPort]:
        return self._found["INPUT"]

    def _graph_outputs(self) -> Sequence[GraphPort]:
        return self._found["OUTPUT"]

    def _warm_up(self) -> None:
        """Twice: the first run sets TensorRT up, the second is captured."""
        super()._warm_up()
        super()._warm_up()

    def _copy_in(self, inputs: Mapping[str, Array]) -> None:
        assert self._execution is not None
        if self._broken is not None:
            raise EngineError(f"the tensorrt engine of {self.path} is broken: {self._broken}")
        smallest, largest = self._limits
        for port in self.inputs:
            batch = inputs[port.name].shape[0] if port.shape and isinstance(port.shape[0], str) else smallest
            if not smallest <= batch <= largest:
                raise InputError(
                    f"input {port.name} has N = {batch}, expected {smallest} to {largest}: the plan of "
                    f"{self.path} holds for no more; infer in smaller parts"
                )
        with self._remembering():
            self._execution.copy_in(inputs)

    def _run(self) -> None:
        assert self._execution is not None
        with self._remembering():
            self._execution.run()

    def _copy_out(self) -> Mapping[str, Array]:
        assert self._execution is not None
        return self._execution.copy_out()

    def _release(self) -> None:
        if self._execution is not None:
            self._execution.release()
        self._execution = None
        self._cuda_engine = None
        self._runtime = None

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Note an error after which nothing runs on this GPU any more."""
        try:
            yield
        except CudaError as error:
            if error.sticky:
                self._broken = str(error)
            raise


def gpu_device(gpu: Gpu, proc: Path = PROC) -> str:
    """The GPU in words that tell devices apart: name, compute capability, CUDA and driver versions."""
    try:
        text = (proc / _DRIVER_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", text)
    driver = f", driver {found.group(1)}" if found else ""
    chip = f"sm_{gpu.capability.replace('.', '')}"
    return f"{gpu.name} ({chip}, CUDA {gpu.driver}, runtime {gpu.runtime}{driver})"


def _io_tensors(cuda_engine: Any) -> dict[str, list[GraphPort]]:
    """The ends of a plan by mode, ``INPUT`` and ``OUTPUT``."""
    found: dict[str, list[GraphPort]] = {"INPUT": [], "OUTPUT": []}
    for index in range(cuda_engine.num_io_tensors):
        name = str(cuda_engine.get_tensor_name(index))
        shape = tuple(None if size < 0 else int(size) for size in cuda_engine.get_tensor_shape(name))
        mode = cuda_engine.get_tensor_mode(name).name
        dtype = dtype_name(cuda_engine.get_tensor_dtype(name))
        found.setdefault(mode, []).append(GraphPort(frozenset({name}), dtype, shape))
    return found


def _batch_limits(cuda_engine: Any, inputs: Sequence[Port]) -> tuple[int, int]:
    """Smallest and largest N of all inputs."""
    lows, highs = [], []
    for port in inputs:
        if port.shape and isinstance(port.shape[0], str):
            low, _, high = cuda_engine.get_tensor_profile_shape(port.name, 0)
            lows.append(int(low[0]))
            highs.append(int(high[0]))
        elif port.shape and isinstance(port.shape[0], int):
            lows.append(port.shape[0])
            highs.append(port.shape[0])
    return max(lows, default=1), min(highs, default=1)
