"""Networks that answer otherwise each time they are asked, and some that only seem to."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from definitions.sspcab_torch import SumThenRelu


class Repaints(nn.Module):
    """A reconstruction with a block in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv2d(3, 8, 3, padding=1)
        self.block = SumThenRelu(8, reduction=2)
        self.outside = nn.Conv2d(8, 3, 3, padding=1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.inside(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.outside(self.block(self.features(x))))


class FunctionalDropout(Repaints):
    """The flag was forgotten."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(self.inside(x), 0.3)


class Noise(Repaints):
    def features(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inside(x)
        return torch.as_tensor(y + 0.3 * torch.randn_like(y))


class NumpyNoise(Repaints):
    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.inside(x) * float(np.random.uniform(0.5, 1.5)))


class RandomCrop(Repaints):
    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(torch.roll(self.inside(x), random.choice(range(1, 12)), 3))


class TrainingNorm(Repaints):
    """Statistics of the batch move the running ones, which another layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inside(x)
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        functional.batch_norm(y, mean, variance, training=True, momentum=0.1)
        return torch.as_tensor(self.norm(y))


class Counts(Repaints):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return torch.as_tensor(self.inside(x) * (1 + 0.1 * self.asked))


class RoundsOtherwise(Repaints):
    """Channels in another order each time: the same but for rounding, which a cancellation makes large."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inside(x)
        order = torch.randperm(8)
        mixed = y[:, order].sum(dim=1, keepdim=True)
        return torch.as_tensor(y + 1e5 * ((mixed + 3.0) - (y.sum(dim=1, keepdim=True) + 3.0)))


class Draws(Repaints):
    """Random numbers that do not reach the answer."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        torch.rand(3)
        return torch.as_tensor(self.inside(x))


UNREPEATABLE = {
    "dropout": (FunctionalDropout, "torch's random numbers"),
    "noise": (Noise, "torch's random numbers"),
    "numpy": (NumpyNoise, "NumPy's random numbers"),
    "crop": (RandomCrop, "Python's random numbers"),
    "norm": (TrainingNorm, "changes while it runs"),
    "counter": (Counts, "changes while it runs"),
}
REPEATABLE = {"plain": Repaints, "rounding": RoundsOtherwise, "draws": Draws}


def seeded(network: nn.Module, gain: float = 1.0) -> nn.Module:
    """Weights of a seed; answers of the size of the image at gain 1."""
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        scale = 0.5 * gain / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return network.eval()
