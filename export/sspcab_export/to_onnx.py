"""Target ``onnx``: the graph as one ONNX file."""

from __future__ import annotations

from pathlib import Path

from sspcab_edge.manifest import Precision

__all__ = ["TARGET", "export_files"]

TARGET = "onnx"


def export_files(graph: Path, folder: Path, precision: Precision) -> tuple[str, ...]:
    """The artifact's files below the bundle ``folder``: the saved ``graph`` is the artifact.

    Args:
        graph: ONNX file of this precision, already inside ``folder``.
        folder: The bundle in the making.
        precision: Told by the graph itself.
    """
    del precision
    return (graph.relative_to(folder).as_posix(),)
