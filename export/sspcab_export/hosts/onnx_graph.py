"""An ONNX file as host: a graph of the contract as it is, or any network with the contract put around it.

Exporters call what they give ``score`` and ``map``, or as anomalib ``pred_score`` and ``anomaly_map``: such
outputs are taken without being told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import GraphError, HostError, OptionError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.manifest import OtherRounding
from sspcab_edge.ports import Array
from sspcab_export.graph import read_graph
from sspcab_export.hosts.base import HostOptions, LoadedHost, Scored, refuse_unused
from sspcab_export.hosts.network import load_network
from sspcab_export.networks.onnx_file import (
    OnnxNetwork,
    check_operators,
    first_line,
    fixed_batch,
    open_session,
    picture_input,
)
from sspcab_export.networks.reordered import reordered

__all__ = ["ContractSource", "load_onnx"]

_CONTRACT_OPTIONS = frozenset({"allow_no_block", "input_size", "resize"})


class ContractSource:
    """A contract graph as the source of truth, run by ONNX Runtime without any of our passes."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._session = open_session(model)

    def infer(
        self, inputs: Mapping[str, Array]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Run the graph, one entry after the other.

        Raises:
            GraphError: ONNX Runtime cannot.
        """
        return self._infer(self._session, inputs)

    def infer_otherwise(self, inputs: Mapping[str, Array]) -> tuple[Scored, OtherRounding]:
        """The same in another order of summation.

        Raises:
            GraphError: ONNX Runtime cannot.
        """
        return self._infer(open_session(reordered(self._model)), inputs), "other-order"

    @staticmethod
    def _infer(
        session: Any, inputs: Mapping[str, Array]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        scores, maps = [], []
        for frame in inputs["frames"]:
            try:
                outputs = session.run(None, {"frames": frame[None]})
            except Exception as error:  # onnxruntime's errors share no base class
                raise GraphError(f"onnxruntime cannot run the graph: {first_line(error)}") from error
            scores.append(np.asarray(outputs[0], dtype=np.float32).reshape(1))
            if len(outputs) > 1:
                maps.append(np.asarray(outputs[1], dtype=np.float32))
        return np.concatenate(scores), np.concatenate(maps) if maps else None

    def graph(self) -> ir.Model:
        """A copy of the graph as it came."""
        return self._model.clone()


def load_onnx(path: Path, options: HostOptions) -> LoadedHost:
    """Read an ONNX file; what is no contract graph yet gets the contract around it.

    Raises:
        GraphError: No valid ONNX model, or one that onnxruntime refuses.
        HostError: Inputs, outputs or operators are none that can be exported.
        OptionError: An option that the graph itself decides, or one that is missing.
    """
    for name, value in (("dialect", options.dialect), ("factory", options.factory), ("trust", options.trust)):
        if value is not None:
            raise OptionError(f"--{name} cannot be given for {path}: the graph itself tells it")
    model, files = read_graph(path)
    check_operators(model, str(path))
    picture = picture_input(model, str(path))
    shape = [] if picture.shape is None else list(picture.shape)
    if picture.dtype == ir.DataType.UINT8 and len(shape) == 4 and shape[3] == 3:
        return replace(_contract(path, model, picture, shape, options), files=files)
    return replace(load_network(OnnxNetwork(model, str(path)), options, name="onnx"), files=files)


def _contract(
    path: Path, model: ir.Model, frames: ir.Value, shape: Sequence[int | ir.SymbolicDim], options: HostOptions
) -> LoadedHost:
    """A graph of the contract: nothing is put around it."""
    refuse_unused(options, _CONTRACT_OPTIONS, f"the contract graph {path}, which has all of it inside")
    height, width = shape[1], shape[2]
    if not (isinstance(height, int) and isinstance(width, int)):
        if options.input_size is None:
            raise OptionError(f"{path} takes frames of any size: say --input-size HxW")
        height, width = options.input_size
        frames.shape = ir.Shape([shape[0], height, width, 3])
    elif options.input_size not in (None, (height, width)):
        raise OptionError(f"--input-size differs from {height}x{width}, which {path} is fixed to")
    batch = fixed_batch(str(path), frames)
    names = [output.name for output in model.graph.outputs]
    if names not in (["score"], ["score", "map"]) or frames.name != "frames":
        raise HostError(
            f"{path} takes {frames.name} and gives {', '.join(map(str, names))}, "
            "expected a contract graph's frames, score and map"
        )
    source = ContractSource(model)
    _, maps = source.infer({"frames": np.zeros((1, height, width, 3), dtype=np.uint8)})
    if maps is not None and maps.ndim != 3:
        raise HostError(f"{path} gives a map of {maps.ndim} dimensions, expected (N, h, w)")
    resize = options.resize or "opencv-linear"
    assumptions = [] if batch is None else ["the graph is fixed to one frame a call"]
    if options.resize is None:
        assumptions.append(f"frames are resized with {resize}: the graph does not tell")
    return LoadedHost(
        name="onnx",
        source=source,
        blocks=(),
        preprocess=Preprocess(width=width, height=height, resize=resize),
        map_size=None if maps is None else (maps.shape[1], maps.shape[2]),
        threshold=None,
        overrides={} if options.input_size is None else {"input-size": f"{height}x{width}"},
        assumptions=tuple(assumptions),
        batch=batch,
    )
