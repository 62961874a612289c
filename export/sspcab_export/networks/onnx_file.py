"""A network from an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter
import onnx_ir as ir

from sspcab_edge.errors import GraphError, HostError
from sspcab_edge.manifest import OtherRounding
from sspcab_export.networks.base import Expected
from sspcab_export.networks.onnx_ports import give_floats, input_of, is_turned, take_floats, to_float32
from sspcab_export.networks.reordered import reordered
from sspcab_runtime.engines.onnxruntime_engine import import_onnxruntime, session_options

__all__ = ["OnnxNetwork", "check_operators", "first_line", "fixed_batch", "open_session", "picture_input"]

_DOMAINS = ("", "ai.onnx")
_LEAST_OPSET = 13


class OnnxNetwork:
    """An ONNX graph as it came, run by ONNX Runtime without any of our passes.

    Args:
        model: One input, a float picture.
        where: Its file.

    Raises:
        GraphError: ONNX Runtime refuses it.
        HostError: It takes no float picture.
    """

    def __init__(self, model: ir.Model, where: str) -> None:
        self.where = where
        self._model = model
        picture = picture_input(model, where)
        self._taken = input_of(picture, where)
        labelled = any(output.name == "pred_label" for output in model.graph.outputs)
        self.expected = Expected(*self._taken.sizes, fixed_batch(where, picture), labelled)
        self._turned: frozenset[str] = frozenset()
        self._session = open_session(model)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, picture: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[np.float32]]:
        """(N, C, H, W) float32 -> what it gives that is float, by name, as float32 and (N, C, H, W).

        Raises:
            HostError: It cannot be run on such pictures.
        """
        return self._run(self._session, picture)

    def run_otherwise(
        self, pictures: Sequence[npt.NDArray[np.float32]]
    ) -> tuple[list[Mapping[str, npt.NDArray[np.float32]]], OtherRounding]:
        """What :meth:`run` gives for each in another order of summation; ONNX Runtime has no float64."""
        session = open_session(reordered(self._model))
        return [self._run(session, picture) for picture in pictures], "other-order"

    def _run(self, session: Any, picture: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[np.float32]]:
        try:
            values = session.run(None, {self._taken.name: self._taken.fed(picture)})
        except Exception as error:  # onnxruntime's errors share no base class
            raise HostError(
                f"{self.where} fails on a picture {tuple(picture.shape)}: {first_line(error)}"
            ) from error
        named = dict(zip(self._outputs, values, strict=True))
        last = self._taken.channels_last
        self._turned = frozenset(name for name, value in named.items() if is_turned(np.shape(value), last))
        floats = {name: to_float32(value, name in self._turned) for name, value in named.items()}
        return {name: value for name, value in floats.items() if value is not None}

    def graph(self, size: Sequence[int], batch: int | None) -> ir.Model:
        """A copy of the graph with its picture's size filled in, of opset 13 or newer.

        It takes and gives float32 with channels first. Which outputs have them last is known once it ran.

        Raises:
            GraphError: Its older opset cannot be converted.
        """
        model = self._model.clone()
        if model.opset_imports.get("", _LEAST_OPSET) < _LEAST_OPSET:
            model = _converted(model, self.where)
        shape = ir.Shape(["N" if batch is None else batch, *size])
        take_floats(model.graph, picture_input(model, self.where), self._taken, shape)
        give_floats(model.graph, self._turned)
        return model


def _converted(model: ir.Model, where: str) -> ir.Model:
    try:
        return ir.serde.deserialize_model(
            onnx.version_converter.convert_version(ir.serde.serialize_model(model), _LEAST_OPSET)
        )
    except (RuntimeError, ValueError, ir.serde.SerdeError) as error:
        raise GraphError(
            f"{where} has opset {model.opset_imports.get('')}, which cannot be converted to {_LEAST_OPSET}: "
            f"{first_line(error)}; export it again with opset 17"
        ) from error


def open_session(model: ir.Model) -> Any:
    """ONNX Runtime's session of a graph, optimised as little as it can be.

    Raises:
        GraphError: It refuses the graph.
    """
    ort = import_onnxruntime()
    options = session_options(ort)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    data = ir.serde.serialize_model(model).SerializeToString()
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise GraphError(f"onnxruntime refuses the graph: {first_line(error)}") from error


def picture_input(model: ir.Model, where: str) -> ir.Value:
    """The one input that a user feeds.

    Raises:
        HostError: There are none, or several.
    """
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    if len(inputs) != 1:
        names = ", ".join(str(value.name) for value in inputs)
        raise HostError(f"{where} has {len(inputs)} inputs ({names}), expected one picture")
    return inputs[0]


def fixed_batch(where: str, picture: ir.Value) -> int | None:
    """The batch size that the graph insists on, which has to be 1; None where it is free.

    Raises:
        HostError: It insists on more.
    """
    first = None if picture.shape is None or not len(picture.shape) else picture.shape[0]
    if not isinstance(first, int):
        return None
    if first != 1:
        raise HostError(f"{where} takes {first} pictures at once, expected 1 or a free batch size")
    return first


def check_operators(model: ir.Model, where: str) -> None:
    """Refuse operators that no engine has, and convolutions in three dimensions.

    Raises:
        HostError: Which one, and what to do.
    """
    own = {(function.domain, function.name) for function in model.functions.values()}
    for node in model.graph.all_nodes():
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise HostError(
                f"{where} holds the operator {node.domain}::{node.op_type}, which is not of ONNX itself: "
                "export it again without custom operators, and not from an optimised session"
            )
        if node.op_type in ("Conv", "ConvTranspose") and len(node.inputs) > 1:
            weight = node.inputs[1]
            if weight is not None and weight.shape is not None and len(weight.shape) == 5:
                raise HostError(THREE_DIMENSIONS.format(where=where))


THREE_DIMENSIONS = (
    "{where} holds three-dimensional convolutions: it wants clips or volumes, and a graph of one picture has "
    "no time axis to give it; only two-dimensional networks can be exported"
)


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().partition("\n")[0]
