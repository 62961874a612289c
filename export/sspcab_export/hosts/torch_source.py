"""A torch detector with or without a map as the source of truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import nn

from sspcab_edge.manifest import OtherRounding
from sspcab_edge.ports import Array, Port
from sspcab_export.graph import graph_from_torch
from sspcab_export.hosts.base import Scored
from sspcab_export.networks.exactly import run_otherwise

__all__ = ["DetectorSource"]


class DetectorSource:
    """A module that gives scores, or scores and maps, of a contract graph's inputs.

    Args:
        module: The inputs in the order of ``inputs`` -> score (N,) float32, or a pair of it and a map
            (N, h, w) float32.
        inputs: Ports of the graph.
        has_map: Which of the two it gives.
        batch: Most entries at a time; activations of whole frames are large.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Port], *, has_map: bool, batch: int = 1) -> None:
        self.module = module.eval()
        self.ports = tuple(inputs)
        self.has_map = has_map
        self.batch = batch

    def infer(
        self, inputs: Mapping[str, Array]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Run the unfolded network, some entries after the others."""
        with torch.inference_mode():
            scores, maps = self._infer(inputs)
        return np.asarray(scores, np.float32), None if maps is None else np.asarray(maps, np.float32)

    def infer_otherwise(self, inputs: Mapping[str, Array]) -> tuple[Scored, OtherRounding]:
        """The same in float64."""
        return run_otherwise(lambda: self._infer(inputs))

    def _infer(self, inputs: Mapping[str, Array]) -> Scored:
        scores, maps = [], []
        arrays = [inputs[port.name] for port in self.ports]
        for start in range(0, len(arrays[0]), self.batch):
            given = self.module(*(torch.from_numpy(a[start : start + self.batch].copy()) for a in arrays))
            score, anomaly = given if self.has_map else (given, None)
            scores.append(score.numpy())
            if anomaly is not None:
                maps.append(anomaly.numpy())
        return np.concatenate(scores), np.concatenate(maps) if self.has_map else None

    def graph(self) -> ir.Model:
        """Trace the unfolded network with torch's exporter."""
        examples = {
            port.name: torch.zeros(
                [1 if isinstance(size, str) else size for size in port.shape],
                dtype=getattr(torch, port.dtype),
            )
            for port in self.ports
        }
        outputs = ("score", "map") if self.has_map else ("score",)
        return graph_from_torch(self.module, examples, outputs)
