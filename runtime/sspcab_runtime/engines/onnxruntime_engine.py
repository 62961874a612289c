"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from sspcab_edge.errors import EngineError, MissingPackageError
from sspcab_edge.ports import Array
from sspcab_runtime.engines.base import GraphEngine, GraphPort

__all__ = ["OnnxRuntimeEngine", "import_onnxruntime", "map_errors", "session_options"]

_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3
_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}


def import_onnxruntime() -> Any:
    """The ``onnxruntime`` module, with its telemetry off.

    Since 1.29 its Linux builds gather telemetry unless ``ORT_DISABLE_TELEMETRY`` is set before the import;
    ``disable_telemetry_events()`` after it comes too late.

    Raises:
        MissingPackageError: It is not installed.
        EngineError: It is installed and cannot be imported.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        return importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise EngineError(f"onnxruntime cannot be imported: {error}") from error
        raise MissingPackageError("onnxruntime", "onnxruntime", "the onnxruntime backend") from error
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported: {error}") from error


def session_options(ort: Any) -> Any:
    """What every session needs: errors alone on stderr, and integer products that do not saturate.

    On x86 CPUs with AVX2 and without VNNI, ONNX Runtime's fastest kernels add two products of bytes in
    16 bits and clip what does not fit; with ``session.x64quantprecision`` it takes others, as fast (48 ms
    both, for three convolutions of 128 channels). It changes nothing on other CPUs.

    Args:
        ort: The ``onnxruntime`` module.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@lru_cache(maxsize=1)
def vendor_errors() -> tuple[type[Exception], ...]:
    """Every exception class of ONNX Runtime; they have no base of their own."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)


@contextmanager
def map_errors(what: str) -> Iterator[None]:
    """Turn whatever ONNX Runtime raises into an EngineError that says ``what`` failed."""
    try:
        yield
    except vendor_errors() as error:
        raise EngineError(f"onnxruntime {what}: {error}") from error


class OnnxRuntimeEngine(GraphEngine):
    """ONNX Runtime, CPU execution provider: one inference at a time, ``threads`` inside it."""

    backend = "onnxruntime"
    targets = ("onnx",)
    package = "onnxruntime"
    extra = "onnxruntime"

    def _load(self, precision: str, threads: int | None, hint: str | None) -> None:
        del precision, hint  # ONNX Runtime computes in the precision that the graph spells out
        ort = import_onnxruntime()
        self.version = str(ort.__version__)
        options = session_options(ort)
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = threads or 0
        with map_errors(f"cannot load {self.path}"):
            session = ort.InferenceSession(str(self.path), sess_options=options, providers=[_PROVIDER])
            providers = session.get_providers()
        if providers != [_PROVIDER]:
            raise EngineError(f"onnxruntime runs {self.path} on {providers}, expected {_PROVIDER} alone")
        self._session: Any = session
        self._names = [port.name for port in self.outputs]
        self._feeds: Mapping[str, Array] = {}
        self._results: list[Any] = []

    def _graph_inputs(self) -> Sequence[GraphPort]:
        return [_graph_port(value) for value in self._session.get_inputs()]

    def _graph_outputs(self) -> Sequence[GraphPort]:
        return [_graph_port(value) for value in self._session.get_outputs()]

    def _copy_in(self, inputs: Mapping[str, Array]) -> None:
        self._feeds = inputs

    def _run(self) -> None:
        with map_errors(f"failed on {self.path}"):
            self._results = self._session.run(self._names, self._feeds)

    def _copy_out(self) -> Mapping[str, Array]:
        results, self._results, self._feeds = self._results, [], {}
        return {name: np.asarray(result) for name, result in zip(self._names, results, strict=True)}

    def _release(self) -> None:
        self._session = None


def _graph_port(value: Any) -> GraphPort:
    """ONNX Runtime's description of a port; sizes it knows by name only are free."""
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return GraphPort(frozenset({str(value.name)}), _DTYPES.get(value.type, str(value.type)), shape)
