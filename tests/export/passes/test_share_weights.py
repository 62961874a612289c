"""Equal weights are stored once, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from sspcab_export.graph import graph_from_torch
from sspcab_export.passes import optimise
from sspcab_export.running import GraphRunner


class Memory(nn.Module):
    """Reads and writes one matrix, and has an equal one besides."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(7, 12))
        self.copy = nn.Parameter(self.slots.detach().clone())
        self.other = nn.Parameter(torch.randn(7, 12))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames.float().flatten(1)
        read = torch.softmax(nn.functional.linear(x, self.slots), 1)
        return read @ self.slots + read @ self.copy + read @ self.other


def test_a_memory_is_stored_once() -> None:
    torch.manual_seed(1)
    module = Memory()
    model = graph_from_torch(module, {"frames": torch.zeros(1, 2, 2, 3, dtype=torch.uint8)}, ["score"])
    graph, _ = optimise(model)
    large = [value for value in graph.graph.initializers.values() if _size(value) == 84]
    assert len(large) == 2
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    with torch.no_grad():
        want = module(torch.from_numpy(frame[None])).numpy()
    np.testing.assert_allclose(GraphRunner(graph)(frame)["score"], want, rtol=1e-5, atol=1e-6)


def _size(value: ir.Value) -> int:
    return 0 if value.const_value is None else int(value.const_value.size)
