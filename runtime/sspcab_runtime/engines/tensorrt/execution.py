"""Running a plan: one stream, fixed buffers, and a CUDA graph of the whole round trip.

A run is three things in one stream: inputs from pinned memory to the device, the plan, outputs back. The
first run of a batch size is enqueued step by step; the second is captured in a CUDA graph, and from then on
one launch does it all. Another batch size lets go of the graph, since TensorRT's context follows the shapes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sspcab_edge.errors import EngineError
from sspcab_edge.ports import Array, Port
from sspcab_runtime.engines.tensorrt.buffers import Buffers
from sspcab_runtime.engines.tensorrt.cuda import Cuda, CudaError
from sspcab_runtime.engines.tensorrt.messages import Messages, map_errors

__all__ = ["Execution"]

_LOG = logging.getLogger(__name__)


class Execution:
    """A deserialised plan with its context, stream and memory, ready to run.

    Args:
        cuda: The GPU.
        cuda_engine: TensorRT's engine.
        record: Where TensorRT's messages are.
        inputs: Ports, which the engine was found to have.
        outputs: Ports, likewise.
        max_batch: Largest N.
        name: What error texts call it.
        graphs: Whether CUDA graphs are tried.

    Raises:
        EngineError: There is not enough memory, or TensorRT gives no context.
    """

    def __init__(
        self,
        cuda: Cuda,
        cuda_engine: Any,
        record: Messages,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        max_batch: int,
        name: str,
        graphs: bool = True,
    ) -> None:
        self._cuda = cuda
        self._record = record
        self._name = name
        self._graphs_allowed = graphs
        self._graph: int | None = None
        self._batch = 0
        self._ran = False
        self._stream: int | None = None
        self._context: Any = None
        self._inputs: Buffers | None = None
        self._outputs: Buffers | None = None
        record.clear()
        try:
            self._inputs = Buffers(cuda, inputs, max_batch)
            self._outputs = Buffers(cuda, outputs, max_batch)
            self._stream = cuda.create_stream()
            with map_errors(f"has no memory to run {name}"):
                context = cuda_engine.create_execution_context()
            if context is None:
                raise EngineError(f"tensorrt has no memory to run {name}: {record.last_errors()}")
            self._context = context
            for buffers in (self._inputs, self._outputs):
                for port_name, buffer in buffers.all.items():
                    if not context.set_tensor_address(port_name, buffer.address):
                        raise EngineError(
                            f"tensorrt refuses the memory of {port_name}: {record.last_errors()}"
                        )
        except BaseException:
            self.release()
            raise

    @property
    def captured(self) -> bool:
        """Whether the next run of this batch size is one launch of a CUDA graph."""
        return self._graph is not None

    def copy_in(self, inputs: Mapping[str, Array]) -> None:
        """Put arrays into pinned memory; they all have the same N, within the profile."""
        assert self._inputs is not None
        batch = next((array.shape[0] for array in inputs.values() if array.ndim), 1)
        if batch != self._batch:
            self._reshape(batch)
        for name, array in inputs.items():
            np.copyto(self._inputs.all[name].array(batch), array)

    def run(self) -> None:
        """Copy to the device, run, copy back, and wait.

        Raises:
            EngineError: TensorRT refuses to run, or the GPU fails.
        """
        assert self._stream is not None
        if self._ran and self._graph is None and self._graphs_allowed:
            self._graph = self._capture()
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.synchronize(self._stream)
        self._ran = True

    def copy_out(self) -> Mapping[str, Array]:
        """The outputs of the latest run, in memory of their own."""
        assert self._outputs is not None
        return {name: np.array(buffer.array(self._batch)) for name, buffer in self._outputs.all.items()}

    def release(self) -> None:
        """Give everything back, in order; a GPU that is beyond that is logged, nothing is raised."""
        self._drop_graph()
        self._context = None
        for buffers in (self._inputs, self._outputs):
            if buffers is not None:
                buffers.release()
        self._inputs = self._outputs = None
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                self._cuda.destroy_stream(stream)
            except EngineError as error:
                _LOG.debug("the stream of %s is not destroyed: %s", self._name, error)

    def _reshape(self, batch: int) -> None:
        """Tell the context another N, and check that it agrees on what comes out."""
        assert self._inputs is not None
        assert self._outputs is not None
        self._drop_graph()
        self._ran = False
        self._batch = 0
        self._record.clear()
        context = self._context
        with map_errors(f"refuses N = {batch} for {self._name}"):
            for name, buffer in self._inputs.all.items():
                if not context.set_input_shape(name, buffer.shape(batch)):
                    raise EngineError(
                        f"tensorrt refuses N = {batch} for {self._name}: {self._record.last_errors()}"
                    )
            missing = context.infer_shapes()
            shapes = {name: tuple(context.get_tensor_shape(name)) for name in self._outputs.all}
        if missing:
            raise EngineError(f"tensorrt still wants shapes of {list(missing)} for {self._name}")
        for name, buffer in self._outputs.all.items():
            if shapes[name] != buffer.shape(batch):
                raise EngineError(
                    f"output {name} of {self._name} has shape {shapes[name]}, expected {buffer.shape(batch)}"
                )
        self._batch = batch

    def _enqueue(self) -> None:
        assert self._inputs is not None
        assert self._outputs is not None
        assert self._stream is not None
        context, stream = self._context, self._stream
        for buffer in self._inputs.all.values():
            self._cuda.copy_in(buffer.address, buffer.block, buffer.size(self._batch), stream)
        self._record.clear()
        with map_errors(f"failed on {self._name}"):
            started = context.execute_async_v3(stream)
        self._record.pass_on_interrupt()
        if not started:
            raise EngineError(f"tensorrt failed on {self._name}: {self._record.last_errors()}")
        for buffer in self._outputs.all.values():
            self._cuda.copy_out(buffer.block, buffer.address, buffer.size(self._batch), stream)

    def _capture(self) -> int | None:
        """A CUDA graph of one run, or None (and no second try) where the plan cannot be captured."""
        assert self._stream is not None
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue()
            except EngineError:
                self._cuda.abandon_capture(self._stream)
                raise
            return self._cuda.end_capture(self._stream)
        except EngineError as error:
            if isinstance(error, CudaError) and error.sticky:
                raise
            _LOG.info("%s runs without a CUDA graph: %s", self._name, error)
            self._graphs_allowed = False
            return None

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            try:
                self._cuda.destroy_graph(graph)
            except EngineError as error:
                _LOG.debug("the CUDA graph of %s is not destroyed: %s", self._name, error)
