"""Target ``tensorrt``: the graph as one typed ONNX file, checked as far as that goes without a GPU.

A plan belongs to one device and is built there: by the runtime at first start, or by
``sspcab-export BUNDLE --target tensorrt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from sspcab_edge.errors import EngineError, GraphError
from sspcab_edge.manifest import Precision
from sspcab_edge.ports import Port
from sspcab_export.graph import load_graph
from sspcab_runtime.engines.tensorrt import check_with, import_checker

__all__ = ["REFUSED_OPERATORS", "TARGET", "check_build", "check_graph", "export_files"]

TARGET = "tensorrt"

REFUSED_OPERATORS = frozenset(
    {
        "AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
        "CenterCropPad", "Col2Im", "Compress", "ConvInteger", "DFT", "Det", "DynamicQuantizeLinear",
        "ImageDecoder", "MatMulInteger", "MaxRoiPool", "Multinomial", "Optional", "QLinearConv",
        "QLinearMatMul", "RegexFullMatch", "SplitToSequence", "TfIdfVectorizer", "Unique",
    }
)  # fmt: skip
"""Standard operators that TensorRT's parser does not take (onnx-tensorrt, docs/operators.md)."""


def export_files(graph: Path, folder: Path, precision: Precision) -> tuple[str, ...]:
    """The artifact's files below the bundle ``folder``: the saved, typed ``graph`` is the artifact.

    Raises:
        GraphError: TensorRT would refuse the graph, or compute something else.
    """
    del precision
    problems = list(check_graph(load_graph(graph)))
    if problems:
        raise GraphError(f"TensorRT would not take {graph.name}: {'; '.join(problems)}")
    return (graph.relative_to(folder).as_posix(),)


def check_build(graph: Path, inputs: Sequence[Port]) -> str:
    """Have TensorRT's real parser and builder make a plan of ``graph`` to throw away, without a GPU.

    TensorRT-RTX does that on a CPU; it is used where it is installed. Gives what was done, in words.

    Raises:
        GraphError: It refuses the graph, or warns of what it would do with it.
    """
    checker = import_checker()
    if checker is None:
        return (
            f"{graph.name}: its operators and quantisers fit TensorRT; no parser was asked "
            "(pip install tensorrt-rtx-cu12 for that)"
        )
    try:
        built = check_with(checker, graph, inputs)
    except EngineError as error:
        raise GraphError(f"TensorRT-RTX {checker.__version__} refuses {graph.name}: {error}") from error
    if built.warnings:
        raise GraphError(f"TensorRT-RTX {checker.__version__} warns of {graph.name}: {built.warnings[0]}")
    return f"{graph.name}: TensorRT-RTX {checker.__version__} parses and builds it ({built.seconds:.1f} s)"


def check_graph(model: ir.Model) -> Iterator[str]:
    """What TensorRT refuses or reads otherwise than it is meant, in words.

    Its parser reads UINT8 quantisers as INT8 with nothing but a warning, so that the upper half of each range
    would saturate; it refuses zero points other than 0, int32 biases, and a first node on a uint8 input that
    is no Cast.
    """
    for value in model.graph.inputs:
        if value.dtype == ir.DataType.UINT8:
            for use in value.uses():
                if use.node.op_type != "Cast":
                    yield f"input {value.name} goes into {use.node.op_type}, expected a Cast first"
    for node in model.graph:
        if node.domain == "" and node.op_type in REFUSED_OPERATORS:
            yield f"node {node.name} is {node.op_type}, which its parser does not know"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from _check_quantiser(node)


def _check_quantiser(node: ir.Node) -> Iterator[str]:
    origin = node.inputs[2] if len(node.inputs) > 2 else None
    if origin is None:
        yield f"{node.name} has no zero point: it would be uint8"
        return
    tensor = origin.const_value
    if tensor is None or tensor.dtype != ir.DataType.INT8:
        yield f"{node.name} quantises to {None if tensor is None else tensor.dtype}, expected INT8"
    elif np.any(tensor.numpy()):
        yield f"{node.name} has a zero point other than 0"
