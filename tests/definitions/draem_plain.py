"""A second, plain definition of DRAEM with SSPCAB, as a user's training code has it.

It shares nothing with the exporter: layers are written out, widths are arguments, the block is computed
corner by corner. ``Reconstructive`` and ``Discriminative`` give state dicts under the authors' names;
anomalib's differ by a prefix, the block's names and what is done around the networks.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))
        return x * gate[..., None, None]


class OfficialBlock(nn.Module):
    """Zero padding, one ReLU after the sum; 1 top-left, 2 bottom-left, 3 top-right, 4 bottom-right."""

    def __init__(self, channels: int, k: int = 1, d: int = 1, r: int = 8) -> None:
        super().__init__()
        self.pad, self.cut = k + d, k + 2 * d + 1
        self.conv1 = nn.Conv2d(channels, channels, k)
        self.conv2 = nn.Conv2d(channels, channels, k)
        self.conv3 = nn.Conv2d(channels, channels, k)
        self.conv4 = nn.Conv2d(channels, channels, k)
        self.se = Attention(channels, r)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, c = functional.pad(x, [self.pad] * 4), self.cut
        y = self.conv1(x[:, :, :-c, :-c]) + self.conv2(x[:, :, c:, :-c])
        y = y + self.conv3(x[:, :, :-c, c:]) + self.conv4(x[:, :, c:, c:])
        out: torch.Tensor = self.se(torch.relu(y))
        return out


class AnomalibBlock(nn.Module):
    """Zero padding, no ReLU on the sum; 2 and 3 exchanged against the official order."""

    def __init__(self, channels: int, k: int = 1, d: int = 1, r: int = 8) -> None:
        super().__init__()
        self.pad, self.cut = k + d, k + 2 * d + 1
        self.masked_conv1 = nn.Conv2d(channels, channels, k)
        self.masked_conv2 = nn.Conv2d(channels, channels, k)
        self.masked_conv3 = nn.Conv2d(channels, channels, k)
        self.masked_conv4 = nn.Conv2d(channels, channels, k)
        self.attention_module = Attention(channels, r)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded, c = functional.pad(x, [self.pad] * 4), self.cut
        total = torch.zeros_like(x)
        total = total + self.masked_conv1(padded[..., :-c, :-c])
        total = total + self.masked_conv2(padded[..., :-c, c:])
        total = total + self.masked_conv3(padded[..., c:, :-c])
        total = total + self.masked_conv4(padded[..., c:, c:])
        out: torch.Tensor = self.attention_module(total)
        return out


def double(inside: int, middle: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, middle, 3, padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def up(inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        nn.Conv2d(inside, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


class Reconstructive(nn.Module):
    def __init__(self, w: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict(
            {
                "block1": double(3, w, w),
                "block2": double(w, 2 * w, 2 * w),
                "block3": double(2 * w, 4 * w, 4 * w),
                "block4": double(4 * w, 8 * w, 8 * w),
                "block5": double(8 * w, 8 * w, 8 * w),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "up1": up(8 * w, 8 * w),
                "db1": double(8 * w, 8 * w, 4 * w),
                "up2": up(4 * w, 4 * w),
                "db2": double(4 * w, 4 * w, 2 * w),
                "up3": up(2 * w, 2 * w),
                "db3": double(2 * w, 2 * w, w),
                "up4": up(w, w),
                "db4": double(w, w, w),
                "fin_out": nn.Sequential(nn.Conv2d(w, 3, 3, padding=1)),
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder["block1"](x)
        for name in ("block2", "block3", "block4", "block5"):
            x = self.encoder[name](functional.max_pool2d(x, 2))
        for name in ("up1", "db1", "up2", "db2", "up3", "db3", "up4", "db4", "fin_out"):
            x = self.decoder[name](x)
        return x


class Discriminative(nn.Module):
    def __init__(self, w: int) -> None:
        super().__init__()
        self.encoder_segment = nn.ModuleDict(
            {
                "block1": double(6, w, w),
                "block2": double(w, 2 * w, 2 * w),
                "block3": double(2 * w, 4 * w, 4 * w),
                "block4": double(4 * w, 8 * w, 8 * w),
                "block5": double(8 * w, 8 * w, 8 * w),
                "block6": double(8 * w, 8 * w, 8 * w),
            }
        )
        self.decoder_segment = nn.ModuleDict(
            {
                "up_b": up(8 * w, 8 * w),
                "db_b": double(16 * w, 8 * w, 8 * w),
                "up1": up(8 * w, 4 * w),
                "db1": double(12 * w, 4 * w, 4 * w),
                "up2": up(4 * w, 2 * w),
                "db2": double(6 * w, 2 * w, 2 * w),
                "up3": up(2 * w, w),
                "db3": double(3 * w, w, w),
                "up4": up(w, w),
                "db4": double(2 * w, w, w),
                "fin_out": nn.Sequential(nn.Conv2d(w, 2, 3, padding=1)),
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e, d = self.encoder_segment, self.decoder_segment
        b1 = e["block1"](x)
        b2 = e["block2"](functional.max_pool2d(b1, 2))
        b3 = e["block3"](functional.max_pool2d(b2, 2))
        b4 = e["block4"](functional.max_pool2d(b3, 2))
        b5 = e["block5"](functional.max_pool2d(b4, 2))
        b6 = e["block6"](functional.max_pool2d(b5, 2))
        x = d["db_b"](torch.cat((d["up_b"](b6), b5), 1))
        x = d["db1"](torch.cat((d["up1"](x), b4), 1))
        x = d["db2"](torch.cat((d["up2"](x), b3), 1))
        x = d["db3"](torch.cat((d["up3"](x), b2), 1))
        x = d["db4"](torch.cat((d["up4"](x), b1), 1))
        out: torch.Tensor = d["fin_out"](x)
        return out


class AnomalibModel(nn.Module):
    """anomalib's two sub-networks; gives (score, map) of [0, 1] RGB pictures (N, 3, H, W)."""

    def __init__(self, reconstructive: nn.Module, discriminative: nn.Module) -> None:
        super().__init__()
        self.reconstructive_subnetwork = reconstructive
        self.discriminative_subnetwork = discriminative

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        reconstruction = self.reconstructive_subnetwork(x)
        logits = self.discriminative_subnetwork(torch.cat((x, reconstruction), 1))
        anomaly = torch.softmax(logits, 1)[:, 1]
        return anomaly.amax((1, 2)), anomaly


def randomise(module: nn.Module, seed: int, logit_scale: float = 6.0) -> nn.Module:
    """Random weights whose scores depend on the picture; batch norms keep the signal alive."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = normal(layer.weight) * (2 / layer.weight[0].numel()) ** 0.5
            if layer.bias is not None:
                layer.bias.data = normal(layer.bias) * 0.1
        elif isinstance(layer, nn.BatchNorm2d):
            layer.weight.data = 1 + 0.2 * normal(layer.weight)
            layer.bias.data = 0.1 * normal(layer.bias)
            layer.running_mean = 0.1 * normal(layer.weight)
            layer.running_var = 1 + torch.rand(layer.weight.shape, generator=generator)
    if isinstance(module, Discriminative):
        last = module.decoder_segment["fin_out"]
        assert isinstance(last, nn.Sequential)
        assert isinstance(last[0], nn.Conv2d)
        last[0].weight.data *= logit_scale
    return module.eval()


def fit_norms(reconstructive: nn.Module, discriminative: nn.Module, x: torch.Tensor, seed: int) -> None:
    """Weights after He and running statistics of images (N, 3, H, W): every layer is alive, and maps use all
    of their range, so that what is wrong anywhere shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in (reconstructive, discriminative):
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                scale = (2 / layer.weight[0].numel()) ** 0.5
                layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * scale
                assert layer.bias is not None
                layer.bias.data = torch.randn(layer.bias.shape, generator=generator) * 0.1
        module.train()
    with torch.no_grad():
        for _ in range(30):
            discriminative(torch.cat((reconstructive(x), x), 1))
    reconstructive.eval()
    discriminative.eval()


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    bgr = cv2.imread(str(path))
    assert bgr is not None
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def authors_verdict(
    reconstructive: nn.Module, discriminative: nn.Module, path: Path, size: int = 256
) -> tuple[float, npt.NDArray[np.float32]]:
    """Score and map of a picture file as the authors' test script computes them: BGR, 21x21 mean filter."""
    bgr = np.ascontiguousarray(read_rgb(path)[..., ::-1])
    image = cv2.resize(bgr, (size, size)) / 255.0
    x = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
    with torch.no_grad():
        logits = discriminative(torch.cat((reconstructive(x), x), 1))
        anomaly = torch.softmax(logits, 1)[:, 1:]
        mean = functional.avg_pool2d(anomaly, 21, stride=1, padding=10)
    return float(mean.max()), anomaly[0, 0].numpy()


def anomalib_resized(path: Path, size: int = 256) -> npt.NDArray[np.float64]:
    """A picture file resized as anomalib does, antialiased, in double precision and before any rounding."""
    x = torch.from_numpy(read_rgb(path).transpose(2, 0, 1).copy())[None].double()
    x = functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
    return np.ascontiguousarray(x[0].numpy().transpose(1, 2, 0))


def anomalib_verdict(model: nn.Module, frame: npt.NDArray[np.uint8]) -> tuple[float, npt.NDArray[np.float32]]:
    """Score and map of a frame (H, W, 3) RGB as anomalib 2.1 and later computes them."""
    with torch.no_grad():
        score, anomaly = model(torch.from_numpy(frame.transpose(2, 0, 1).copy())[None] / 255)
    return float(score), anomaly[0].numpy()
