"""Graphs on the ONNX IR: made from torch modules, read from and written to single ONNX files."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
import torch
from google.protobuf.message import DecodeError, EncodeError
from onnx_ir.passes import common as ir_passes
from torch import nn

from sspcab_edge.errors import GraphError, OutputError

__all__ = ["MAX_FILE_BYTES", "OPSET", "graph_from_torch", "load_graph", "save_graph"]

_log = logging.getLogger(__name__)

OPSET: Final = 18
"""ONNX operator set of the graphs made here."""

MAX_IR_VERSION: Final = 10
"""Highest ONNX IR version written; older engines in the field refuse newer ones."""

MAX_FILE_BYTES: Final = 2**31 - 1
"""Largest ONNX file read or written, in bytes: protobuf's own limit."""


def graph_from_torch(
    module: nn.Module, examples: Mapping[str, torch.Tensor], outputs: Sequence[str]
) -> ir.Model:
    """The graph of a torch module: opset 18, batch size free, heights and widths fixed.

    The first dimension of every input and output is the symbolic ``N``. The graph refers to the module's
    parameters and does not copy them: do not change the module while the graph is in use.

    Args:
        module: Takes the examples by position; gives one tensor, or a tuple, as many as ``outputs`` names.
            It is put into evaluation mode.
        examples: One tensor for each input, by the name the graph is to give it, in the order of ``forward``;
            the first dimension is the batch. Only shape and dtype matter, and of the batch the first entry.
        outputs: Names for what the module returns.

    Raises:
        GraphError: torch cannot export the module, or it returns another number of tensors.
    """
    arguments = tuple(torch.cat([example[:1], example[:1]]) for example in examples.values())
    batch = torch.export.Dim("N")
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                arguments,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_shapes=tuple({0: batch} for _ in arguments),
                optimize=False,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise GraphError(f"torch cannot export this network: {_first_line(cause)}") from error
    if program is None or len(program.model.graph.outputs) != len(outputs):
        count = 0 if program is None else len(program.model.graph.outputs)
        raise GraphError(f"the network gives {count} tensors, expected {len(outputs)}: {', '.join(outputs)}")
    return program.model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's prints, warnings and advice about packages it lacks out of the user's sight."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    chatter = io.StringIO()
    with contextlib.redirect_stdout(chatter), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
            if chatter.getvalue():
                _log.debug("torch.onnx.export printed: %s", chatter.getvalue().strip())


def load_graph(path: str | os.PathLike[str], *, max_bytes: int = MAX_FILE_BYTES) -> ir.Model:
    """Read one ONNX file.

    Args:
        path: The file; everything must be inside it.
        max_bytes: Refuse larger files.

    Raises:
        GraphError: The file is missing, too large, no valid ONNX model, or refers to external data.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise GraphError(f"{path} has {size} bytes, expected at most {max_bytes}")
        proto = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise GraphError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise GraphError(f"{path} is not an ONNX model, or is truncated: {_first_line(error)}") from error
    if not proto.HasField("graph") or not proto.graph.output or not proto.opset_import:
        raise GraphError(f"{path} is not an ONNX model: it has no graph with outputs")
    try:
        model = ir.serde.deserialize_model(proto)
        _check_tensors(model, path)
        ir_passes.CheckerPass()(model)
    except (onnx.checker.ValidationError, ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise GraphError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error
    return model


def _check_tensors(model: ir.Model, path: Path) -> None:
    """Refuse external data, and tensors whose data does not fill their shape (a ``ValueError``)."""
    for graph in model.graphs():
        tensors = [value.const_value for value in graph.initializers.values()]
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensors.append(attribute.as_tensor())
        for tensor in tensors:
            if isinstance(tensor, ir.ExternalTensor):
                raise GraphError(
                    f"{path} keeps tensor {tensor.name!r} in the external file {tensor.location!r}: "
                    "save the model as one file"
                )
            if tensor is not None and tensor.dtype != ir.DataType.STRING:
                tensor.numpy()


def save_graph(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write a graph as one ONNX file, never with external data.

    IR version 10 at most; node and value names unique; exporters' metadata, which quotes source files of the
    machine, left out. The same graph gives the same bytes. The model is tidied in place and stays usable.

    Args:
        model: The graph; checked by the ONNX checker before anything is written.
        path: The file, replaced when it exists.

    Raises:
        GraphError: The checker refuses the graph, or it is larger than a protobuf can be.
        OutputError: The file cannot be written.
    """
    path = Path(path)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    model.producer_name, model.producer_version = "sspcab-edge", None
    model.graph.name = "main"
    ir.passes.Sequential(ir_passes.ClearMetadataAndDocStringPass(), ir_passes.NameFixPass())(model)
    tensors = [value.const_value for value in model.graph.initializers.values()]
    weights = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if weights > MAX_FILE_BYTES:
        raise GraphError(f"{path} would hold {weights} bytes of weights, expected at most {MAX_FILE_BYTES}")
    try:
        ir_passes.CheckerPass()(model)
        path.write_bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))
    except (onnx.checker.ValidationError, ir.serde.SerdeError, EncodeError, ValueError) as error:
        raise GraphError(f"the graph for {path} is not valid: {_first_line(error)}") from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
