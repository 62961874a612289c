"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sspcab_edge.errors import EngineError, MissingPackageError
from sspcab_edge.ports import Array
from sspcab_runtime.engines.base import GraphEngine, GraphPort

__all__ = ["OpenVinoEngine", "import_openvino", "map_errors"]

_DEVICE = "CPU"
_PRECISION_HINTS = {"fp32": "f32", "fp16": "f32", "int8": "f32"}
"""What is computed in where the graph itself names no lower precision. The plugin's own default is bf16 on
CPUs that have it: on these networks slower, and with other scores than the gate judged."""


def import_openvino() -> Any:
    """The ``openvino`` module, with its telemetry off.

    ``import openvino`` imports its converter too, which sends a usage event through the package
    ``openvino_telemetry`` that is installed along. Where that package is missing OpenVINO uses a stub of
    its own; it is made to be missing for this process.

    Raises:
        MissingPackageError: It is not installed.
        EngineError: It is installed and cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise EngineError(f"openvino cannot be imported: {error}") from error
        raise MissingPackageError("openvino", "openvino", "the openvino backend") from error
    except ImportError as error:
        raise EngineError(f"openvino cannot be imported: {error}") from error


@contextmanager
def map_errors(what: str) -> Iterator[None]:
    """Turn whatever OpenVINO raises into an EngineError that says ``what`` failed."""
    vendor = importlib.import_module("openvino.exceptions").OVError
    try:
        yield
    except (vendor, RuntimeError, TypeError, ValueError, MemoryError) as error:
        last_line = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise EngineError(f"openvino {what}: {last_line[0]}") from error


class OpenVinoEngine(GraphEngine):
    """OpenVINO's CPU plugin, tuned for the latency of one inference, in the precision that was judged.

    Where only single entries are asked for, it compiles the graph for them: a thirtieth faster on the demo
    detector than with a batch that is free, as ``benchmark_app`` has it.
    """

    backend = "openvino"
    targets = ("openvino",)
    package = "openvino"
    extra = "openvino"
    hints = ("f32", "f16", "bf16")

    def _load(self, precision: str, threads: int | None, hint: str | None) -> None:
        if precision not in _PRECISION_HINTS:
            known = ", ".join(_PRECISION_HINTS)
            raise EngineError(f"openvino has no precision hint for {precision!r}, expected one of {known}")
        hint = hint or _PRECISION_HINTS[precision]
        self.settings = hint
        ov = import_openvino()
        self.version = str(ov.get_version())
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        if threads is not None:
            # the plugin would pin the threads of every engine, and of every process, to the same first cores
            config |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        with map_errors(f"cannot load {self.path}"):
            core = ov.Core()
            if "EXECUTION_MODE_HINT" in core.get_property(_DEVICE, "SUPPORTED_PROPERTIES"):
                config["EXECUTION_MODE_HINT"] = "ACCURACY"
            model = core.read_model(str(self.path))
            self._ports = tuple(map(_graph_port, model.inputs)), tuple(map(_graph_port, model.outputs))
            if self._single and self._known_but_for_batch():
                self._most = 1
                model.reshape({port.any_name: [1, *port.partial_shape[1:]] for port in model.inputs})
            self._compiled: Any = core.compile_model(model, _DEVICE, config)
            self._request: Any = self._compiled.create_infer_request()
            chosen = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if chosen != hint:
            raise EngineError(f"openvino computes {self.path} in {chosen}, expected {hint}")
        self._ov = ov
        self._held: Mapping[str, Any] = {}

    def _graph_inputs(self) -> Sequence[GraphPort]:
        return self._ports[0]

    def _graph_outputs(self) -> Sequence[GraphPort]:
        return self._ports[1]

    def _known_but_for_batch(self) -> bool:
        """Whether the first size of every input is free and no other: with it the whole graph is known."""
        shapes = [port.shape for port in self._ports[0]]
        return all(shape and shape[0] is None and None not in shape[1:] for shape in shapes)

    def _copy_in(self, inputs: Mapping[str, Array]) -> None:
        with map_errors(f"refuses the inputs of {self.path}"):
            # OpenVINO shares the memory of writable arrays only, though it never writes into inputs
            writable = {name: np.require(array, requirements=["C", "W"]) for name, array in inputs.items()}
            self._held = {name: self._ov.Tensor(a, shared_memory=True) for name, a in writable.items()}
            for name, tensor in self._held.items():
                self._request.set_tensor(name, tensor)

    def _run(self) -> None:
        with map_errors(f"failed on {self.path}"):
            self._request.infer()

    def _copy_out(self) -> Mapping[str, Array]:
        with map_errors(f"gives no results of {self.path}"):
            return {port.name: np.array(self._request.get_tensor(port.name).data) for port in self.outputs}

    def _release(self) -> None:
        self._held = {}
        self._request = None
        self._compiled = None


def _graph_port(port: Any) -> GraphPort:
    """OpenVINO's description of a port."""
    shape = tuple(None if size.is_dynamic else int(size.get_length()) for size in port.partial_shape)
    return GraphPort(frozenset(port.names), np.dtype(port.element_type.to_dtype()).name, shape)
