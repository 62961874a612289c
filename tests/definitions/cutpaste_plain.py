"""A second, plain definition of CutPaste with SSPCAB, as a user's training code has it.

It shares nothing with the exporter. The block stands where public code has it, under that code's names; the
score is computed by scikit-learn from embeddings in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KernelDensity
from torch import nn
from torch.nn import functional

from definitions.draem_plain import OfficialBlock

Frame = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


class Basic(nn.Module):
    """torchvision's basic block, with biases where asked for."""

    def __init__(self, inside: int, out: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.conv1: nn.Module = nn.Conv2d(inside, out, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2: nn.Module = nn.Conv2d(out, out, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride > 1 or inside != out:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=bias), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x
        if self.downsample is not None:
            identity = self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return torch.relu(x + identity)


def stage(inside: int, out: int, stride: int, bias: bool, blocks: int = 2) -> nn.Sequential:
    first = Basic(inside, out, stride, bias)
    return nn.Sequential(first, *(Basic(out, out, 1, bias) for _ in range(blocks - 1)))


class ResNet18(nn.Module):
    """Its children stand in torchvision's order, the classifier replaced by nothing."""

    def __init__(self, w: int, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, w, 7, 2, 3, bias=bias)
        self.bn1 = nn.BatchNorm2d(w)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = stage(w, w, 1, bias)
        self.layer2 = stage(w, 2 * w, 2, bias)
        self.layer3 = stage(2 * w, 4 * w, 2, bias)
        self.layer4: nn.Module = stage(4 * w, 8 * w, 2, bias)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Identity()

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> last feature map."""
        out: torch.Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return out


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, channels), nn.BatchNorm1d(channels), nn.ReLU(),
        nn.Linear(channels, 16), nn.BatchNorm1d(16), nn.ReLU(),
    )  # fmt: skip


class Projection(nn.Module):
    """A ResNet-18 called ``resnet18`` with a head and a classifier; gives its last feature map."""

    def __init__(self, w: int, bias: bool = False) -> None:
        super().__init__()
        self.resnet18 = ResNet18(w, bias)
        self.head = head(8 * w)
        self.out = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.resnet18(x)
        return out


class AddedBlock(Projection):
    """The block between the third and the fourth stage, and all children a second time in ``net``."""

    def __init__(self, w: int, k: int = 1, d: int = 1) -> None:
        super().__init__(w)
        self.SSPCAB = OfficialBlock(4 * w, k, d)
        self.net = nn.Sequential(*self.resnet18.children())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.SSPCAB(self.net[:7](x))
        out: torch.Tensor = self.net[7](x)
        return out


class ReplacedConvolution(Projection):
    """The block at a path below ``resnet18`` instead of what stands there."""

    def __init__(self, w: int, path: str, channels: int, k: int = 1, d: int = 1, bias: bool = False) -> None:
        super().__init__(w, bias)
        parent, _, name = f"resnet18.{path}".rpartition(".")
        setattr(self.get_submodule(parent), name, OfficialBlock(channels, k, d))


class TakenApart(nn.Module):
    """The last stage beside the network, its convolutions with bias, one of them replaced but still there."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.resnet18 = ResNet18(w)
        self.resnet18.layer4 = nn.Identity()
        self.BasicBlock0 = Basic(4 * w, 8 * w, 2, False)
        self.BasicBlock0.downsample = nn.Sequential(
            nn.Conv2d(4 * w, 8 * w, 1, 2, bias=True), nn.BatchNorm2d(8 * w)
        )
        self.BasicBlock1_conv1 = nn.Conv2d(8 * w, 8 * w, 3, padding=1)
        self.BasicBlock1_bn1 = nn.BatchNorm2d(8 * w)
        self.sspcab = OfficialBlock(8 * w)
        self.BasicBlock1_conv2 = nn.Conv2d(8 * w, 8 * w, 3, padding=1)
        self.BasicBlock1_bn2 = nn.BatchNorm2d(8 * w)
        self.head = head(8 * w)
        self.out = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.BasicBlock0(self.resnet18(x))
        y = torch.relu(self.BasicBlock1_bn1(self.sspcab(x)))
        y = self.BasicBlock1_bn2(self.BasicBlock1_conv2(y))
        return torch.relu(y + x)


def like_paddle(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict as Paddle has it: other names for statistics, linear weights transposed."""
    renamed = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        linear = value.ndim == 2
        name = key.replace("running_mean", "_mean").replace("running_var", "_variance")
        renamed[name] = value.T.contiguous() if linear else value
    return renamed


def features(network: nn.Module, frame: Frame, *, imagenet: bool = True) -> torch.Tensor:
    """Last feature map (C, h, w) of a frame (H, W, 3) RGB, as public code prepares it."""
    x = torch.from_numpy(frame.transpose(2, 0, 1).copy()).float() / 255
    if imagenet:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        out: torch.Tensor = network(x[None])[0]
    return out


def embeddings(network: nn.Module, frames: Iterable[Frame], *, imagenet: bool = True) -> Floats:
    """(N, D): pooled, divided by their lengths."""
    maps = [features(network, frame, imagenet=imagenet) for frame in frames]
    pooled = torch.stack([functional.adaptive_avg_pool2d(m, 1).flatten() for m in maps])
    return functional.normalize(pooled.double(), dim=1).numpy()


def patches(network: nn.Module, frames: Iterable[Frame]) -> Floats:
    """(N, h, w, C): every position of the last feature map, divided by its length."""
    maps = torch.stack([features(network, frame) for frame in frames])
    return functional.normalize(maps.double().permute(0, 2, 3, 1), dim=-1).numpy()


def mahalanobis(normal: Floats, asked: Floats) -> Floats:
    """(N,) distances of the asked ones from the normal ones, by scikit-learn."""
    fitted = LedoitWolf().fit(normal)
    return np.asarray(np.sqrt(fitted.mahalanobis(asked)), dtype=np.float64)


def kernel_score(normal: Floats, asked: Floats, bandwidth: float = 1.0) -> Floats:
    """(N,) minus log densities of the asked ones, by scikit-learn, without the constant of the dimensions.

    All in one leaf: with narrow kernels in many dimensions the bounds of its trees lose all digits.
    """
    fitted = KernelDensity(kernel="gaussian", bandwidth=bandwidth, leaf_size=len(normal) + 1).fit(normal)
    constant = 0.5 * normal.shape[1] * np.log(2 * np.pi * bandwidth**2)
    return np.asarray(-fitted.score_samples(asked) - constant, dtype=np.float64)


def spread_of(scores: Sequence[float] | Floats) -> float:
    """Interquartile range."""
    low, high = np.quantile(scores, [0.25, 0.75])
    return float(high - low)
