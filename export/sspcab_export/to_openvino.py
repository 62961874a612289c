"""Target ``openvino``: the graph as OpenVINO IR, weights as they are."""

from __future__ import annotations

from pathlib import Path

from sspcab_edge.errors import GraphError
from sspcab_edge.manifest import Precision
from sspcab_runtime.engines.openvino_engine import import_openvino

__all__ = ["TARGET", "export_files"]

TARGET = "openvino"


def export_files(graph: Path, folder: Path, precision: Precision) -> tuple[str, ...]:
    """Convert ``graph`` to ``openvino/model.<precision>.xml`` and ``.bin`` below ``folder``.

    Weights keep their type: the precision is in the graph, so the converter's default of halving them is
    switched off.

    Raises:
        GraphError: OpenVINO cannot convert the graph.
        MissingPackageError: openvino is not installed.
    """
    openvino = import_openvino()
    (folder / "openvino").mkdir(exist_ok=True)
    xml = folder / "openvino" / f"model.{precision}.xml"
    try:
        model = openvino.Core().read_model(graph)
        openvino.save_model(model, xml, compress_to_fp16=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise GraphError(f"OpenVINO cannot convert {graph.name}: {reason}") from error
    return tuple(path.relative_to(folder).as_posix() for path in (xml, xml.with_suffix(".bin")))
