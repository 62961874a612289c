"""Target ``openvino``: the graph as OpenVINO IR, weights as they are."""

from __future__ import annotations

from pathlib import Path

from sspcab_edge.errors import GraphError, MissingPackageError
from sspcab_edge.manifest import Precision
from sspcab_export.custom_op import may_hold_blocks
from sspcab_runtime.engines.openvino_engine import import_openvino

__all__ = ["TARGET", "export_files"]

TARGET = "openvino"

_FOLDED_INPUTS, _FOLDED_OUTPUTS = 24, 16
"""Channels from which on folding an upsampling into a convolution is faster: see ``fold_upsample``."""


def export_files(graph: Path, folder: Path, precision: Precision) -> tuple[str, ...]:
    """Convert ``graph`` to ``openvino/model.<precision>.xml`` and ``.bin`` below ``folder``.

    Weights keep their type: the precision is in the graph, so the converter's default of halving them is
    switched off. Blocks kept as one node are folded again: OpenVINO does not load local functions.

    Raises:
        GraphError: OpenVINO cannot convert the graph.
        MissingPackageError: openvino is not installed; or what reads ONNX is not, and the graph keeps blocks.
    """
    openvino = import_openvino()
    (folder / "openvino").mkdir(exist_ok=True)
    xml = folder / "openvino" / f"model.{precision}.xml"
    try:
        taken = _without_functions(graph) if may_hold_blocks(graph) else _with_folded_upsampling(graph)
        model = openvino.Core().read_model(taken)
        openvino.save_model(model, xml, compress_to_fp16=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise GraphError(f"OpenVINO cannot convert {graph.name}: {reason}") from error
    return tuple(path.relative_to(folder).as_posix() for path in (xml, xml.with_suffix(".bin")))


def _with_folded_upsampling(graph: Path) -> Path | bytes:
    """The ONNX file with upsampling folded into convolutions, where it has any that can be.

    Only OpenVINO gains from that, where channels are many; without the packages that read ONNX the file goes
    as it is.
    """
    if b"nearest" not in graph.read_bytes():
        return graph
    try:
        import onnx_ir as ir

        from sspcab_export.graph import load_graph
        from sspcab_export.passes.fold_upsample import fold_upsample
    except ModuleNotFoundError:
        return graph
    model = load_graph(graph)
    if not fold_upsample(model, inputs=_FOLDED_INPUTS, outputs=_FOLDED_OUTPUTS).changes:
        return graph
    data: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return data


def _without_functions(graph: Path) -> bytes:
    """The ONNX file with its local functions put in place; only this needs packages beside OpenVINO."""
    try:
        import onnx_ir as ir

        from sspcab_export.graph import load_graph
        from sspcab_export.passes.block_bodies import inlined
    except ModuleNotFoundError as error:
        raise MissingPackageError(str(error.name), "export", f"converting {graph.name}") from error
    data: bytes = ir.serde.serialize_model(inlined(load_graph(graph))).SerializeToString(deterministic=True)
    return data
