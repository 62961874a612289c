"""Running a graph in memory on ONNX Runtime, as it is: for measuring, not for serving."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import GraphError
from sspcab_edge.ports import Entry, as_batch
from sspcab_runtime.engines.onnxruntime_engine import import_onnxruntime, map_errors, session_options

__all__ = ["GraphRunner"]


class GraphRunner:
    """A graph of the contract, loaded from memory.

    Args:
        model: Of the contract, or with more outputs.
        literal: Leave every node as it is. ONNX Runtime's optimiser computes fp16 in fp32 without rounding in
            between; where that rounding is the question, it has to be off.

    Raises:
        EngineError: ONNX Runtime refuses the graph.
        GraphError: The graph is too large for memory.
    """

    def __init__(self, model: ir.Model, *, literal: bool = False) -> None:
        ort = import_onnxruntime()
        options = session_options(ort)
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_DISABLE_ALL if literal else levels.ORT_ENABLE_ALL
        data = ir.serde.serialize_model(model).SerializeToString()
        if len(data) >= 2**31:
            raise GraphError(f"the graph has {len(data)} bytes, expected less than {2**31}")
        with map_errors("refuses a graph"):
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._names = [value.name for value in self._session.get_outputs()]

    def __call__(self, entry: Entry | npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs, by name, for one entry of the batch; a picture alone is ``frames``.

        Raises:
            EngineError: ONNX Runtime fails.
        """
        inputs = as_batch({"frames": entry} if isinstance(entry, np.ndarray) else entry)
        with map_errors("cannot run a graph"):
            values = self._session.run(None, inputs)
        return {name: np.asarray(value) for name, value in zip(self._names, values, strict=True)}
