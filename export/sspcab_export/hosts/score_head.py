"""From a network's last feature map to a score, and to a map of its positions, inside the graph.

What a head holds it holds as buffers of its own, so that in a detector whose head is called ``score_head``
the graph's constants are called ``score_head.*``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sspcab_export.density import Gaussian, Kernels

__all__ = ["KernelHead", "MahalanobisHead", "ScoreHead", "unit_vectors"]

_EPSILON = 1e-12
"""Least length divided by, as in ``torch.nn.functional.normalize``."""


def unit_vectors(x: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """(..., D) -> (..., D), vectors divided by their Euclidean lengths, or by epsilon where that is more."""
    length = (x * x).sum(dim=-1, keepdim=True).sqrt()
    return x / torch.maximum(length, epsilon)


class MahalanobisHead(nn.Module):
    """The Mahalanobis distance to a Gaussian, as the norm of (x - m) W with the precision W W^T."""

    def __init__(self, density: Gaussian) -> None:
        super().__init__()
        self.register_buffer("mean", _single(density.mean))
        self.register_buffer("factor", _single(density.factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (...), never negative."""
        white = torch.matmul(x - self.get_buffer("mean"), self.get_buffer("factor"))
        return (white * white).sum(dim=-1).sqrt()


class KernelHead(nn.Module):
    """Minus the log of a Gaussian kernel density but for its constant: the mean over N centres e of

    exp(-|x - e|^2 / (2 h^2)).

    The constant, log (2 pi h^2)^(D/2), is 470 for 512 dimensions: added, it would leave a float32 score no
    digits for what differs between pictures.

    Distances are taken between vectors from which the centres' mean is subtracted: |x|^2 + |e|^2 - 2 x e is
    then a sum of small numbers and keeps its digits.
    """

    def __init__(self, density: Kernels) -> None:
        super().__init__()
        count = len(density.embeddings)
        mean = density.embeddings.mean(axis=0)
        centres = density.embeddings - mean
        self.register_buffer("mean", _single(mean))
        self.register_buffer("twice_centres", _single(np.ascontiguousarray(2 * centres.T)))
        self.register_buffer("squares", _single((centres * centres).sum(axis=1)))
        self.register_buffer("scale", _single(-0.5 / density.bandwidth**2))
        self.register_buffer("offset", _single(math.log(count)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (N,)."""
        x = x - self.get_buffer("mean")
        products = torch.matmul(x, self.get_buffer("twice_centres"))
        squares = (x * x).sum(dim=1, keepdim=True) + self.get_buffer("squares")
        exponents = torch.relu(squares - products) * self.get_buffer("scale")
        largest = exponents.amax(dim=1, keepdim=True)
        total = (exponents - largest).exp().sum(dim=1, keepdim=True).log() + largest
        return self.get_buffer("offset") - total.squeeze(dim=1)


class ScoreHead(nn.Module):
    """Score of the pooled embedding and, where there is a Gaussian for it, a map of the positions.

    Args:
        density: What the pooled embedding is compared with.
        patches: What each position's vector is compared with, or None for no map.
    """

    def __init__(self, density: Gaussian | Kernels, patches: Gaussian | None) -> None:
        super().__init__()
        self.density = MahalanobisHead(density) if isinstance(density, Gaussian) else KernelHead(density)
        self.patches = None if patches is None else MahalanobisHead(patches)
        self.register_buffer("epsilon", _single(_EPSILON))

    def forward(self, features: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """(N, C, h, w) -> score (N,), or score (N,) and map (N, h, w)."""
        epsilon = self.get_buffer("epsilon")
        score: torch.Tensor = self.density(unit_vectors(features.mean(dim=(2, 3)), epsilon))
        if self.patches is None:
            return score
        return score, self.patches(unit_vectors(features.permute(0, 2, 3, 1), epsilon))


def _single(values: npt.NDArray[np.float64] | float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
