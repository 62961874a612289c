"""Importing TensorRT, and finding out first whether it may be used at all."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from sspcab_edge.errors import EdgeError, EngineError, MissingPackageError
from sspcab_runtime.engines.tensorrt.cuda import Cuda
from sspcab_runtime.engines.tensorrt.cudart import open_cuda

__all__ = ["CHECKER", "can_build", "import_checker", "import_tensorrt", "open_device"]

PACKAGE = "tensorrt"
CHECKER = "tensorrt_rtx"
"""NVIDIA's parser and builder for desktop GPUs: builds without a GPU, and is used to check graphs with."""


def import_tensorrt() -> Any:
    """The ``tensorrt`` module. Nothing of it may be called before :func:`open_device`.

    Raises:
        MissingPackageError: It is not installed.
        EngineError: It is installed and cannot be imported, for want of its libraries, say.
    """
    try:
        return importlib.import_module(PACKAGE)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise EngineError(f"tensorrt cannot be imported: {error}") from error
        raise MissingPackageError(PACKAGE, PACKAGE, "the tensorrt backend") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"tensorrt cannot be imported: {error}") from error


def open_device() -> tuple[Any, Cuda]:
    """TensorRT and the GPU. CUDA is tried first: without it TensorRT kills the process.

    Raises:
        MissingPackageError: TensorRT is not installed.
        EngineError: TensorRT cannot be imported, or there is no CUDA device.
    """
    trt = import_tensorrt()
    return trt, open_cuda()


def can_build() -> str | None:
    """None where a plan can be built on this machine, else the reason, in one line."""
    try:
        open_device()
    except EdgeError as error:
        return str(error)
    return None


def import_checker() -> Any | None:
    """The ``tensorrt_rtx`` module, or None where it is not installed or does not load."""
    if importlib.util.find_spec(CHECKER) is None:
        return None
    try:
        return importlib.import_module(CHECKER)
    except (ImportError, OSError, RuntimeError):
        return None
