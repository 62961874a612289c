"""A network of your own: a small auto-encoder with one SSPCAB block, in plain torch.

This file stands for *your* model code. It knows nothing of sspcab-edge, and sspcab-edge knows nothing of it
but where :func:`make` is. The block is a plain definition of the one of Ristea et al. (CVPR 2022,
arXiv:2111.09099); the toolkit finds it in the graph, whatever its parts are called here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

__all__ = ["AutoEncoder", "PredictiveBlock", "make"]


class PredictiveBlock(nn.Module):
    """Predict every position from the four corners around it, and weigh the channels.

    The field is 2k + 2d + 1 wide, with k = d = 1 here; its middle is hidden. The sum of the corners goes
    through ReLU and squeeze-and-excitation. Zeros around the map keep its size.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.top_left = nn.Conv2d(channels, channels, 1)
        self.bottom_left = nn.Conv2d(channels, channels, 1)
        self.top_right = nn.Conv2d(channels, channels, 1)
        self.bottom_right = nn.Conv2d(channels, channels, 1)
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        wide = functional.pad(x, (2, 2, 2, 2))
        predicted = functional.relu(
            self.top_left(wide[:, :, :-4, :-4])
            + self.bottom_left(wide[:, :, 4:, :-4])
            + self.top_right(wide[:, :, :-4, 4:])
            + self.bottom_right(wide[:, :, 4:, 4:])
        )
        hidden = functional.relu(self.squeeze(predicted.mean(dim=(2, 3))))
        return predicted * torch.sigmoid(self.excite(hidden))[:, :, None, None]


def narrower(inputs: int, outputs: int) -> nn.Sequential:
    """Half the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)
    )


def wider(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2.0, mode="nearest"),
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1),
    )


class AutoEncoder(nn.Module):
    """Repaints a picture through a narrow middle, so that what it never saw is lost.

    Args:
        width: Channels after the first convolution.
        code: Channels of the middle, at a sixteenth of the picture's size.
    """

    def __init__(self, width: int = 16, code: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            narrower(3, width),
            narrower(width, 2 * width),
            narrower(2 * width, 4 * width),
            narrower(4 * width, 4 * width),
            nn.Conv2d(4 * width, code, 1),
        )
        self.open = wider(code, 4 * width)
        self.block = PredictiveBlock(4 * width)
        self.paint = nn.Sequential(
            wider(4 * width, 2 * width),
            wider(2 * width, width),
            wider(width, width // 2),
            nn.Conv2d(width // 2, 3, 3, padding=1),
        )

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> ``made``, the picture repainted, and ``error``, (N, H, W), how far it is off."""
        made, _ = self.with_loss(picture)
        return {"made": made, "error": (made - picture).square().mean(dim=1)}

    def with_loss(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> the picture repainted, and the block's own loss, a scalar."""
        before = self.open(self.encoder(picture))
        after = self.block(before)
        return self.paint(after), functional.mse_loss(after, before)


def make() -> nn.Module:
    """The network without weights, as ``--factory network:make`` wants it."""
    return AutoEncoder()
