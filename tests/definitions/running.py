"""What tests call an engine: a function from a serialised graph and its inputs to its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

__all__ = ["Array", "Arrays", "RunGraph"]

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
RunGraph = Callable[[bytes, Arrays], list[Array]]
"""A serialised ONNX model and its inputs by name -> its outputs in order."""
