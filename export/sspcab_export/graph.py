"""Graphs on the ONNX IR: made from torch modules, read from and written to single ONNX files."""

from __future__ import annotations

import contextlib
import hashlib
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
from sspcab_edge.manifest import FileEntry
from sspcab_export.external_data import put_data_inside

__all__ = [
    "MAX_FILE_BYTES",
    "OPSET",
    "graph_from_program",
    "graph_from_script",
    "graph_from_torch",
    "load_graph",
    "read_graph",
    "save_graph",
]

_log = logging.getLogger(__name__)

OPSET: Final = 18
"""ONNX operator set of the graphs made here."""

_SCRIPT_OPSET: Final = 17
"""The same for TorchScript: the newest that torch's older exporter writes without conversion."""

MAX_IR_VERSION: Final = 10
"""Highest ONNX IR version written; older engines in the field refuse newer ones."""

MAX_FILE_BYTES: Final = 2**31 - 1
"""Largest ONNX file read or written, in bytes: protobuf's own limit."""


def graph_from_torch(
    module: nn.Module,
    examples: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    *,
    batch: int | None = None,
) -> ir.Model:
    """The graph of a torch module: opset 18, heights and widths fixed, batch size free or fixed too.

    The first dimension of every input and output is the symbolic ``N``, where it is free. The graph
    refers to the module's parameters and does not copy them: do not change the module while it is in use.

    Args:
        module: Takes the examples by position; gives one tensor, or a tuple, as many as ``outputs`` names.
            It is put into evaluation mode.
        examples: One tensor for each input, by the name the graph is to give it, in the order of ``forward``;
            the first dimension is the batch. Only shape and dtype matter, and of the batch the first entry.
        outputs: Names for what the module returns.
        batch: The one batch size that the module takes; None leaves it free.

    Raises:
        GraphError: torch cannot export the module, or it returns another number of tensors.
    """
    count = 2 if batch is None else batch
    arguments = tuple(torch.cat([example[:1]] * count) for example in examples.values())
    free = torch.export.Dim("N")
    with _exporting():
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=None if batch is not None else tuple({0: free} for _ in arguments),
            optimize=False,
            verbose=False,
        )
    return _model_of(program, outputs)


def graph_from_program(program: torch.export.ExportedProgram, name: str, outputs: Sequence[str]) -> ir.Model:
    """The graph of an exported program with one input, which is called ``name``; free sizes stay free.

    Raises:
        GraphError: torch cannot export the program, or it returns another number of tensors.
    """
    with _exporting():
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=[name],
            output_names=list(outputs),
            optimize=False,
            verbose=False,
        )
    return _model_of(exported, outputs)


def graph_from_script(
    module: nn.Module, example: torch.Tensor, name: str, outputs: Sequence[str], *, batch: int | None = None
) -> ir.Model:
    """The graph of a module that holds TorchScript, which only torch's older exporter takes.

    Raises:
        GraphError: torch cannot export the module, or it returns another number of tensors.
    """
    buffer = io.BytesIO()
    axes = None if batch is not None else {value: {0: "N"} for value in (name, *outputs)}
    with _exporting():
        torch.onnx.export(
            torch.jit.trace(module.eval(), (example,)),  # type: ignore[no-untyped-call]
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_SCRIPT_OPSET,
            input_names=[name],
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    model = ir.serde.deserialize_model(onnx.load_model_from_string(buffer.getvalue()))
    if len(model.graph.outputs) != len(outputs):
        raise GraphError(f"the network gives {len(model.graph.outputs)} tensors, expected {len(outputs)}")
    return model


def _model_of(program: torch.onnx.ONNXProgram | None, outputs: Sequence[str]) -> ir.Model:
    if program is None or len(program.model.graph.outputs) != len(outputs):
        count = 0 if program is None else len(program.model.graph.outputs)
        raise GraphError(f"the network gives {count} tensors, expected {len(outputs)}: {', '.join(outputs)}")
    return program.model


@contextlib.contextmanager
def _exporting() -> Iterator[None]:
    """Torch's exporter without its chatter, its errors as one of ours."""
    try:
        with _quiet(), torch.no_grad():
            yield
    except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise GraphError(f"torch cannot export this network: {_first_line(cause)}") from error


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
    """Read one ONNX file; see :func:`read_graph`."""
    return read_graph(path, max_bytes=max_bytes)[0]


def read_graph(
    path: str | os.PathLike[str], *, max_bytes: int = MAX_FILE_BYTES
) -> tuple[ir.Model, tuple[FileEntry, ...]]:
    """Read one ONNX file, with the files beside it that hold its weights, where it has any.

    Args:
        path: The file.
        max_bytes: Refuse more, of all files together.

    Returns:
        The graph, which has everything inside, and the files that were read: the ONNX file, then others.

    Raises:
        GraphError: The file is missing, too large, or no valid ONNX model; or it refers to external data that
            is not in plain files beside it, as declared.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise GraphError(f"{path} has {size} bytes, expected at most {max_bytes}")
        data = path.read_bytes()
        proto = onnx.load_model_from_string(data)
    except OSError as error:
        raise GraphError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise GraphError(f"{path} is not an ONNX model, or is truncated: {_first_line(error)}") from error
    if not proto.HasField("graph") or not proto.graph.output or not proto.opset_import:
        raise GraphError(f"{path} is not an ONNX model: it has no graph with outputs")
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise GraphError(f"{path} keeps {name!r} as a sparse tensor, which is not read: export it dense")
    own = FileEntry(path=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    others = put_data_inside(proto, path, max_bytes - len(data))
    try:
        model = ir.serde.deserialize_model(proto)
        _check_tensors(model)
        ir_passes.CheckerPass()(model)
    except (onnx.checker.ValidationError, ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise GraphError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error
    return model, (own, *others)


def _check_tensors(model: ir.Model) -> None:
    """Refuse tensors whose data does not fill their shape (a ``ValueError``)."""
    for graph in model.graphs():
        tensors = [value.const_value for value in graph.initializers.values()]
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensors.append(attribute.as_tensor())
        for tensor in tensors:
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
