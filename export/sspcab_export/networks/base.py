"""What every kind of network file gives: pictures in, named arrays out, and the same as a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.manifest import OtherRounding

__all__ = ["Expected", "Network"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a network says of the pictures it takes; None where it says nothing.

    Attributes:
        channels: C.
        height: In pixels.
        width: In pixels.
        batch: Number of pictures in a call, where only one number goes.
        label: Whether it gives anomalib's label beside the score.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    batch: int | None = None
    label: bool = False


class Network(Protocol):
    """A network as it came."""

    @property
    def where(self) -> str:
        """The file or factory it came from, for messages."""

    @property
    def expected(self) -> Expected:
        """What it takes."""

    def run(self, picture: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[np.float32]]:
        """(N, C, H, W) float32 -> what it gives, by name.

        Raises:
            HostError: It cannot be run on such pictures.
        """

    def run_otherwise(
        self, pictures: Sequence[npt.NDArray[np.float32]]
    ) -> tuple[list[Mapping[str, npt.NDArray[np.float32]]], OtherRounding]:
        """What :meth:`run` gives for each with other rounding, and how that was done.

        Raises:
            HostError: It cannot be run on such pictures.
        """

    def graph(self, size: Sequence[int], batch: int | None) -> ir.Model:
        """The network as a graph of its own, opset 13 or newer: one float input, outputs by name.

        Args:
            size: (C, H, W).
            batch: N where it is fixed; None is free.

        Raises:
            GraphError: It cannot be made.
        """
