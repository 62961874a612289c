"""Target ``tensorrt``: the graph as one typed ONNX file, checked as far as that goes without a GPU.

A plan belongs to one device and is built there: by the runtime at first start, or by
``sspcab-export BUNDLE --target tensorrt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from sspcab_edge.errors import EdgeError, EngineError, GraphError
from sspcab_edge.manifest import Precision
from sspcab_edge.ports import Port
from sspcab_export.custom_op import DOMAIN, OPERATOR, may_hold_blocks
from sspcab_export.graph import load_graph, save_graph
from sspcab_export.passes.block_bodies import holds_blocks, inlined, without_bodies
from sspcab_runtime.engines.tensorrt import can_build, check_with, import_checker
from sspcab_runtime.engines.tensorrt.importing import import_tensorrt

__all__ = [
    "REFUSED_OPERATORS",
    "TARGET",
    "block_plugin",
    "check_build",
    "check_graph",
    "export_files",
    "for_plugin",
    "judged_graph",
    "plugin_registry",
]

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


_SUFFIX = ".tensorrt.onnx"


def export_files(graph: Path, folder: Path, precision: Precision) -> tuple[str, ...]:
    """The artifact's files below the bundle ``folder``: the saved, typed ``graph`` is the artifact.

    Where ``graph`` keeps its blocks as one node each, the artifact is a file of its own next to it, named
    ``.tensorrt.onnx``: the blocks are folded again, or left to the plugin where this machine's TensorRT has
    one for them.

    Raises:
        GraphError: TensorRT would refuse the graph, or compute something else.
    """
    del precision
    model = load_graph(graph)
    if holds_blocks(model):
        plugin = block_plugin(plugin_registry())
        model = inlined(model) if plugin is None else for_plugin(model, plugin)
        graph = graph.with_name(f"{graph.stem}{_SUFFIX}")
        save_graph(model, graph)
    problems = list(check_graph(model))
    if problems:
        raise GraphError(f"TensorRT would not take {graph.name}: {'; '.join(problems)}")
    return (graph.relative_to(folder).as_posix(),)


def plugin_registry() -> Any | None:
    """TensorRT's registry of plugins, or None where TensorRT cannot be used on this machine.

    Unverified on a real TensorRT.
    """
    if can_build() is not None:
        return None
    try:
        return import_tensorrt().get_plugin_registry()
    except EdgeError:
        return None


def block_plugin(registry: Any | None) -> Any | None:
    """The creator of a plugin that computes the block: ``SSPCAB``, in our namespace or in none.

    Unverified on a real TensorRT.

    Args:
        registry: TensorRT's ``IPluginRegistry``, or anything with its ``all_creators``; None is an empty one.
    """
    found = {
        creator.plugin_namespace: creator
        for creator in (() if registry is None else registry.all_creators)
        if getattr(creator, "name", None) == OPERATOR
    }
    return found.get(DOMAIN, found.get(""))


def for_plugin(model: ir.Model, plugin: Any) -> ir.Model:
    """The graph with its blocks left to ``plugin``; its parser finds it by these attributes of the node.

    Unverified on a real TensorRT.

    Args:
        model: With blocks kept as one node each. It is not changed.
        plugin: A plugin's creator.
    """
    model = without_bodies(model)
    for node in model.graph:
        if node.domain == DOMAIN:
            node.attributes["plugin_version"] = ir.AttrString("plugin_version", plugin.plugin_version)
            node.attributes["plugin_namespace"] = ir.AttrString("plugin_namespace", plugin.plugin_namespace)
    return model


def judged_graph(graph: Path) -> Path:
    """The file that stands for a TensorRT graph on other engines: itself, unless blocks are left to a plugin.

    The file that it was made from then lies next to it, computes the same, and has bodies for the blocks.
    """
    if not _leaves_blocks(graph):
        return graph
    return graph.with_name(f"{graph.name.removesuffix(_SUFFIX)}.onnx")


def _leaves_blocks(graph: Path) -> bool:
    """True when blocks of this file have no body: they are left to a plugin."""
    if not may_hold_blocks(graph):
        return False
    model = load_graph(graph)
    return holds_blocks(model) and not model.functions


def check_build(graph: Path, inputs: Sequence[Port]) -> str:
    """Have TensorRT's real parser and builder make a plan of ``graph`` to throw away, without a GPU.

    TensorRT-RTX does that on a CPU; it is used where it is installed. Gives what was done, in words.

    Raises:
        GraphError: It refuses the graph, or warns of what it would do with it.
    """
    if _leaves_blocks(graph):
        return f"{graph.name}: its block is left to this machine's plugin {OPERATOR}; no parser was asked"
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
