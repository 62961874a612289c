# mypy: disable-error-code="no-untyped-call,no-any-return,union-attr,index,operator,arg-type"
# mypy: disable-error-code="attr-defined,call-overload,assignment"
"""The blocks in plain torch and NumPy, by their definition, for networks in the tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as f

from definitions.sspcab_numpy import channel_gate


class PlainBlock(nn.Module):
    """Weights of an SSPCAB (``kind`` official or tensorflow) or SSMCTB, k' = 1, under the published names."""

    def __init__(self, channels: int, kind: str = "official", reduction: int = 8) -> None:
        super().__init__()
        self.kind = kind
        stem = "corner" if kind == "tensorflow" else "conv"
        for number in range(1, 5):
            self.add_module(f"{stem}{number}", nn.Conv2d(channels, channels, 1))
        if kind == "ssmctb":
            mha = nn.Module()
            mha.to_qkv = nn.Linear(64, 960, bias=False)
            mha.to_out = nn.Sequential(nn.Linear(320, 64))
            self.transformer = nn.Module()
            self.transformer.projection = nn.Linear(1, 64)
            self.transformer.pos_embedding = nn.Parameter(torch.randn(1, channels, 64))
            self.transformer.mha = mha
        else:
            self.se = nn.Module()
            self.se.fc1 = nn.Linear(channels, channels // reduction)
            self.se.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return block_forward(self, x)


def block_forward(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W): each pixel from the four at a distance of two rows and columns, then reweighted."""
    kind = str(block.kind)
    padded = f.pad(x, [2] * 4, mode="reflect" if kind == "tensorflow" else "constant")
    height, width = x.shape[2:]
    total = torch.zeros_like(x)
    stem = "corner" if kind == "tensorflow" else "conv"
    for number, (top, left) in enumerate(((0, 0), (4, 0), (0, 4), (4, 4)), 1):
        window = padded[:, :, top : top + height, left : left + width]
        branch = block.get_submodule(f"{stem}{number}")(window)
        total = total + (f.relu(branch) if kind == "tensorflow" else branch)
    total = total if kind == "tensorflow" else f.relu(total)
    means = total.mean(dim=(2, 3))
    if kind == "ssmctb":
        arrays = {name: value.detach().double().numpy() for name, value in block.state_dict().items()}
        gate = torch.from_numpy(
            np.stack([channel_gate(arrays, m) for m in means.detach().double().numpy()])
        ).float()
    else:
        hidden = f.relu(block.get_submodule("se.fc1")(means))
        gate = torch.sigmoid(block.get_submodule("se.fc2")(hidden))
    return total * gate[:, :, None, None]
