"""A torch detector with or without a map as the source of truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import nn

from sspcab_export.graph import graph_from_torch

__all__ = ["DetectorSource"]


class DetectorSource:
    """A module that gives scores, or scores and maps, of frames at graph size.

    Args:
        module: (N, H, W, 3) uint8 RGB -> score (N,) float32, or a pair of it and a map (N, h, w) float32.
        size: (H, W) of its frames in pixels.
        has_map: Which of the two it gives.
    """

    def __init__(self, module: nn.Module, size: tuple[int, int], *, has_map: bool) -> None:
        self.module = module.eval()
        self.size = size
        self.has_map = has_map

    def infer(
        self, frames: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Run the unfolded network, one frame after the other."""
        scores, maps = [], []
        with torch.inference_mode():
            for frame in frames:
                given = self.module(torch.from_numpy(frame[None].copy()))
                score, anomaly = given if self.has_map else (given, None)
                scores.append(score.numpy())
                if anomaly is not None:
                    maps.append(anomaly.numpy())
        return np.concatenate(scores), np.concatenate(maps) if self.has_map else None

    def graph(self) -> ir.Model:
        """Trace the unfolded network with torch's exporter."""
        example = torch.zeros((1, *self.size, 3), dtype=torch.uint8)
        outputs = ("score", "map") if self.has_map else ("score",)
        return graph_from_torch(self.module, {"frames": example}, outputs)
