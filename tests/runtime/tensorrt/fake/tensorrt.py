"""A pretend TensorRT with pretend CUDA, in NumPy: what is done to buffers, streams and graphs is real.

It knows two graphs, told apart by size: the tiny network of the tests (24 x 32 frames -> score, map) and the
probe's (2 x 2 frames -> score); tests add others. Its "plans" are JSON. Nothing here says that TensorRT
takes a graph; the tests with ``tensorrt_rtx`` say that. Knobs are in :data:`FAULTS`.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from sspcab_runtime.engines.tensorrt.cuda import CudaError, Gpu, HostBlock

__version__ = "10.3.0"

FAULTS: dict[str, Any] = {}
"""Faults by name: ``parse``, ``build``, ``deserialize``, ``context``, ``execute``, ``address``, ``shape``,
``profile``, ``warning``, ``build_warning``, ``runtime_error``; each with what it needs."""
CALLS: list[str] = []
"""What was called, in order."""
KINDS: dict[bytes, str] = {}
"""What a model's bytes hold -> its network's name; others are told apart by their size."""
NETWORKS: dict[str, Callable[[Any], dict[str, Any]]] = {}
"""Network name -> what it computes from ``frames``."""

if os.environ.get("FAKE_TENSORRT_ABORTS"):

    class Builder:
        """What the real one does where there is no CUDA."""

        def __init__(self, logger: object) -> None:
            os.abort()

    class Runtime:
        """Likewise."""

        def __init__(self, logger: object) -> None:
            os.abort()


class DataType(enum.Enum):
    """TensorRT's types."""

    FLOAT = 0
    UINT8 = 1
    INT8 = 2


class TensorIOMode(enum.Enum):
    """Which way a tensor goes."""

    INPUT = 1
    OUTPUT = 2


class NetworkDefinitionCreationFlag(enum.IntEnum):
    """As in TensorRT 10; 11 has another number."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    """Only those that exist in both majors."""

    TF32 = 7


class MemoryPoolType(enum.Enum):
    """Pools."""

    WORKSPACE = 0


class ErrorCode(enum.Enum):
    """The parser's codes."""

    UNSUPPORTED_NODE = 8
    INVALID_NODE = 6


class ILogger:
    """Base of loggers."""

    class Severity(enum.Enum):
        """How bad it is."""

        ERROR = 1
        WARNING = 2

    def __init__(self) -> None:
        pass

    def error(self, text: str) -> None:
        """Say something bad."""
        self.log(ILogger.Severity.ERROR, text)  # type: ignore[attr-defined]

    def warning(self, text: str) -> None:
        """Say something that may be bad."""
        self.log(ILogger.Severity.WARNING, text)  # type: ignore[attr-defined]


class IProgressMonitor:
    """Base of monitors."""

    def __init__(self) -> None:
        pass


class Tensor:
    """An input or output of a network."""

    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


TENSORS: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
"""Network name -> its inputs and outputs."""


class _Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.kind = ""

    num_inputs = property(lambda self: len(TENSORS[self.kind][0]))
    num_outputs = property(lambda self: len(TENSORS[self.kind][1]))

    def get_input(self, index: int) -> Tensor:
        return TENSORS[self.kind][0][index]

    def get_output(self, index: int) -> Tensor:
        return TENSORS[self.kind][1][index]


class _ParserError:
    def __init__(self, node: str, operator: str, code: ErrorCode, desc: str) -> None:
        self._all = node, operator, code, desc

    def node_name(self) -> str:
        return self._all[0]

    def node_operator(self) -> str:
        return self._all[1]

    def code(self) -> ErrorCode:
        return self._all[2]

    def desc(self) -> str:
        return self._all[3]


class OnnxParser:
    """Tells the two graphs apart by their size."""

    def __init__(self, network: _Network, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[_ParserError] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def parse(self, model: bytes) -> bool:
        CALLS.append("parse")
        assert self._network.flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self._errors = [_ParserError(*row) for row in FAULTS.get("parse", ())]
        if b"frames" not in model:
            self._errors = [_ParserError("", "", ErrorCode.INVALID_NODE, "Failed to parse the ONNX model.")]
        usual = "probe" if len(model) < 300 else "tiny"
        self._network.kind = next((kind for mark, kind in KINDS.items() if mark in model), usual)
        if "warning" in FAULTS:
            self._logger.warning(FAULTS["warning"])
        return not self._errors


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self.shapes[name] = [tuple(low), tuple(best), tuple(high)]

    def get_shape(self, name: str) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = FAULTS.get("shape", self.shapes.get(name, []))
        return found


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"t"


class _Config:
    def __init__(self) -> None:
        self.profiles: list[_Profile] = []
        self.builder_optimization_level = 3
        self.progress_monitor: Any = None
        self.tf32 = True
        self.workspace = 0
        self._tactics: _TimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE
        self.workspace = size

    def clear_flag(self, flag: BuilderFlag) -> None:
        assert flag is BuilderFlag.TF32
        self.tf32 = False

    def create_timing_cache(self, data: bytes) -> _TimingCache | None:
        return None if data.startswith(b"bad") else _TimingCache(data)

    def set_timing_cache(self, tactics: _TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self._tactics = tactics
        return not tactics.data.startswith(b"other")

    def get_timing_cache(self) -> _TimingCache | None:
        return self._tactics

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile)
        return int(FAULTS.get("profile", len(self.profiles) - 1))


if "Builder" not in globals():

    class Builder:  # type: ignore[no-redef]
        """Builds JSON."""

        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def create_network(self, flags: int) -> _Network:
            return _Network(flags)

        def create_builder_config(self) -> _Config:
            return _Config()

        def create_optimization_profile(self) -> _Profile:
            return _Profile()

        def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
            CALLS.append("build")
            assert not config.tf32
            assert config.workspace > 0
            monitor = config.progress_monitor
            if monitor is not None:
                monitor.phase_start("Building", None, 2)
                going = [monitor.step_complete("Building", step) for step in range(2)]
                monitor.phase_finish("Building")
                if not all(going):
                    return None
            if "build_warning" in FAULTS:
                self._logger.warning(FAULTS["build_warning"])
            if "build" in FAULTS:
                self._logger.error(FAULTS["build"])
                return None
            shapes = config.profiles[0].shapes if config.profiles else {}
            return json.dumps({"kind": network.kind, "profile": shapes}).encode()

    class Runtime:  # type: ignore[no-redef]
        """Reads JSON."""

        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            CALLS.append("deserialize")
            if FAULTS.get("deserialize", 0) > 0:
                FAULTS["deserialize"] -= 1
                self._logger.error("Serialization assertion failed: wrong magic tag")
                return None
            return _Engine(json.loads(plan), self._logger)


class _Engine:
    def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
        self._kind, self._profile, self._logger = plan["kind"], plan["profile"], logger
        self._all = [*TENSORS[self._kind][0], *TENSORS[self._kind][1]]

    num_io_tensors = property(lambda self: len(self._all))

    def _named(self, name: str) -> Tensor:
        return next(tensor for tensor in self._all if tensor.name == name)

    def get_tensor_name(self, index: int) -> str:
        return self._all[index].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        given = self._named(name) in TENSORS[self._kind][0]
        return TensorIOMode.INPUT if given else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._named(name).dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._named(name).shape

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert profile == 0
        return list(self._profile[name])

    def create_execution_context(self) -> _Context | None:
        if "context" in FAULTS:
            self._logger.error(FAULTS["context"])
            return None
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._kind = engine._kind
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return "address" not in FAULTS

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._profile.get(name, [shape] * 3)
        self._shapes[name] = shape
        return bool(low[0] <= shape[0] <= high[0])

    def infer_shapes(self) -> list[str]:
        return [tensor.name for tensor in TENSORS[self._kind][0] if tensor.name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self._shapes.values()))[0]
        return tuple(batch if size < 0 else size for size in self._engine.get_tensor_shape(name))

    def execute_async_v3(self, stream: int) -> bool:
        CALLS.append("execute")
        if "runtime_error" in FAULTS:
            raise RuntimeError(FAULTS["runtime_error"])
        if "execute" in FAULTS:
            self._engine._logger.error(FAULTS["execute"])
            return False
        assert CUDA is not None
        CUDA.enqueue(stream, lambda: self._compute(dict(self._shapes)))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]]) -> None:
        assert CUDA is not None
        shape = shapes["frames"]
        memory = CUDA.device[self._addresses["frames"]]
        frames = memory[: int(np.prod(shape))].reshape(shape)
        for name, result in NETWORKS[self._kind](frames).items():
            data = np.ascontiguousarray(result, np.float32).view(np.uint8).reshape(-1)
            CUDA.device[self._addresses[name]][: data.size] = data


class FakeCuda:
    """CUDA in NumPy: device memory is arrays, a stream is a list of what is still to do.

    ``faults`` maps a method's name to (code, error name), raised once or, with ``times``, more often.
    ``limit`` is the device memory in bytes.
    """

    def __init__(self, gpu: Gpu | None = None, limit: int = 1 << 24) -> None:
        self._gpu = gpu or Gpu("Pretend Orin", "8.7", "12.6", "12.6", 7620)
        self.limit = limit
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.captures: dict[int, list[Callable[[], None]]] = {}
        self.faults: dict[str, tuple[int, str]] = {}
        self.calls: list[str] = []
        self._next = 0x1000

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.faults:
            code, text = self.faults[name]
            raise CudaError(f"{name} failed", code, text, "pretended")

    def _new(self) -> int:
        self._next += 0x1000
        return self._next

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        """Append work to a stream, or to what it is capturing."""
        self.captures.get(stream, self.streams[stream]).append(work)

    def gpu(self) -> Gpu:
        """The GPU."""
        return self._gpu

    def free_memory_mb(self) -> int:
        """What the limit leaves."""
        return (self.limit - sum(int(memory.size) for memory in self.device.values())) >> 20

    def allocate(self, size: int) -> int:
        """An array of rubbish, since fresh device memory is not zero."""
        self._called("allocate")
        if size + sum(memory.size for memory in self.device.values()) > self.limit:
            raise CudaError(f"cannot allocate {size} bytes", 2, "cudaErrorMemoryAllocation", "out of memory")
        address = self._new()
        self.device[address] = np.full(size, 0xAB, np.uint8)
        return address

    def free(self, address: int) -> None:
        """Forget an array; freeing twice is a KeyError."""
        self._called("free")
        del self.device[address]

    def allocate_host(self, size: int) -> HostBlock:
        """A real array at its real address."""
        self._called("allocate_host")
        array = np.full(size, 0xCD, np.uint8)
        address = int(array.ctypes.data)
        self.pinned[address] = array
        return HostBlock(address, array)

    def free_host(self, block: HostBlock) -> None:
        """Forget it, and spoil its contents."""
        self._called("free_host")
        del self.pinned[block.address]
        ctypes.memset(block.address, 0xEE, block.array.size)

    def copy_in(self, address: int, block: HostBlock, size: int, stream: int) -> None:
        """Later, from host to device."""
        self._called("copy_in")

        def work() -> None:
            self.device[address][:size] = block.array[:size]

        self.enqueue(stream, work)

    def copy_out(self, block: HostBlock, address: int, size: int, stream: int) -> None:
        """Later, from device to host."""
        self._called("copy_out")

        def work() -> None:
            block.array[:size] = self.device[address][:size]

        self.enqueue(stream, work)

    def create_stream(self) -> int:
        """An empty list."""
        self._called("create_stream")
        stream = self._new()
        self.streams[stream] = []
        return stream

    def destroy_stream(self, stream: int) -> None:
        """Forget it."""
        self._called("destroy_stream")
        del self.streams[stream]

    def synchronize(self, stream: int) -> None:
        """Do what is to do; not while capturing."""
        self._called("synchronize")
        assert stream not in self.captures
        todo, self.streams[stream] = self.streams[stream], []
        for work in todo:
            work()

    def begin_capture(self, stream: int) -> None:
        """From here on, work is recorded."""
        self._called("begin_capture")
        self.captures[stream] = []

    def end_capture(self, stream: int) -> int:
        """What was recorded."""
        recorded = self.captures.pop(stream)
        self._called("end_capture")
        graph = self._new()
        self.graphs[graph] = recorded
        return graph

    def abandon_capture(self, stream: int) -> None:
        """Forget what was recorded."""
        self.calls.append("abandon_capture")
        self.captures.pop(stream, None)

    def launch(self, graph: int, stream: int) -> None:
        """All of it, once."""
        self._called("launch")
        self.streams[stream].extend(self.graphs[graph])

    def destroy_graph(self, graph: int) -> None:
        """Forget it."""
        self._called("destroy_graph")
        del self.graphs[graph]

    def holds_nothing(self) -> bool:
        """Whether all was given back."""
        return not (self.device or self.pinned or self.streams or self.graphs or self.captures)


CUDA: FakeCuda | None = None
"""The GPU that contexts compute on."""


def _probe(frames: Any) -> dict[str, Any]:
    return {"score": frames.max(axis=(1, 2, 3))}


NETWORKS["probe"] = _probe
TENSORS["probe"] = (
    [Tensor("frames", DataType.UINT8, (-1, 2, 2, 3))],
    [Tensor("score", DataType.FLOAT, (-1,))],
)
