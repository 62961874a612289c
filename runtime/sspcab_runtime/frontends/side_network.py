"""Networks beside the host's: an object detector, an optical flow network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sspcab_edge.ports import Port
from sspcab_edge.protocols import Engine
from sspcab_runtime.engines.table import installed, load_engine

__all__ = ["open_side_network"]

_BACKENDS = ("openvino", "onnxruntime")
"""Those that read an ONNX file as it is, the faster one on CPUs first."""


def open_side_network(path: Path, inputs: Sequence[Port], output: Port) -> Engine:
    """An ONNX file of the bundle on the first of OpenVINO and ONNX Runtime that is installed.

    Raises:
        MissingPackageError: Neither is.
        EngineError: The file is refused.
    """
    backend = next((name for name in _BACKENDS if installed(name)), _BACKENDS[-1])
    return load_engine(backend, path, inputs, (output,))
