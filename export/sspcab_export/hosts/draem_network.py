"""DRAEM's two networks and its scores, rebuilt from keys and shapes.

Structure after Zavrtanik et al., ICCV 2021, and the public implementation (VitjanZ/DRAEM, MIT), own code: a
reconstructive auto-encoder without skip connections, and a discriminative U-Net that sees the picture beside
its reconstruction. Either may hold blocks wherever a layer or a whole stage can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from sspcab_edge.errors import HostError, OptionError
from sspcab_export.hosts.base import Normalisation
from sspcab_export.hosts.stages import StageBuilder

__all__ = [
    "DEFAULT_SIZE",
    "DISCRIMINATIVE_ANCHOR",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "RECONSTRUCTIVE_ANCHOR",
    "DraemDetector",
    "DraemSemantics",
    "build_networks",
    "check_size",
]

DEFAULT_SIZE = (256, 256)
"""(height, width) of DRAEM's input in pixels."""

RECONSTRUCTIVE_ANCHOR = "encoder.block1.0.weight"
DISCRIMINATIVE_ANCHOR = "encoder_segment.block1.0.weight"

MEAN_FILTER = 21
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class DraemSemantics:
    """What a family of DRAEM implementations does around the same two networks.

    Attributes:
        colour: Channel order that the networks were trained on.
        first: Which of the two comes first in the discriminative network's input.
        mean_filter: K where the score is the largest mean of the map over K x K pixels (stride 1, zeros
            around it, counted); 1 where it is the largest value itself.
        normalisation: Applied to RGB pixels in [0, 1].
    """

    colour: Literal["RGB", "BGR"]
    first: Literal["reconstruction", "image"]
    mean_filter: int
    normalisation: Normalisation


class _Reconstructive(nn.Module):
    """(N, 3, H, W) -> (N, 3, H, W): five encoder stages with pooling between, four decoder stages."""

    def __init__(self, builder: StageBuilder, prefix: str) -> None:
        super().__init__()
        channels = 3
        encoder, decoder = [], []
        for number in range(1, 6):
            stage, channels = builder.stage(f"{prefix}encoder.block{number}", channels)
            encoder.append(stage)
        for number in range(1, 5):
            up, channels = builder.stage(f"{prefix}decoder.up{number}", channels, upsample=True)
            stage, channels = builder.stage(f"{prefix}decoder.db{number}", channels)
            decoder += [up, stage]
        last, channels = builder.stage(f"{prefix}decoder.fin_out", channels)
        if channels != 3:
            raise HostError(f"{prefix}decoder.fin_out gives {channels} channels, expected 3")
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.Sequential(*decoder, last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, stage in enumerate(self.encoder):
            x = stage(x if number == 0 else functional.max_pool2d(x, 2))
        result: torch.Tensor = self.decoder(x)
        return result


class _Discriminative(nn.Module):
    """(N, 6, H, W) -> (N, 2, H, W): a U-Net of six encoder and five decoder stages."""

    def __init__(self, builder: StageBuilder, prefix: str) -> None:
        super().__init__()
        channels, skips = 6, []
        encoder, ups, stages = [], [], []
        for number in range(1, 7):
            stage, channels = builder.stage(f"{prefix}encoder_segment.block{number}", channels)
            encoder.append(stage)
            skips.append(channels)
        for name, skip in zip(("_b", "1", "2", "3", "4"), skips[-2::-1], strict=True):
            up, channels = builder.stage(f"{prefix}decoder_segment.up{name}", channels, upsample=True)
            stage, channels = builder.stage(f"{prefix}decoder_segment.db{name}", channels + skip)
            ups.append(up)
            stages.append(stage)
        last, channels = builder.stage(f"{prefix}decoder_segment.fin_out", channels)
        if channels != 2:
            raise HostError(f"{prefix}decoder_segment.fin_out gives {channels} channels, expected 2")
        self.encoder = nn.ModuleList(encoder)
        self.ups = nn.ModuleList(ups)
        self.stages = nn.ModuleList(stages)
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for number, stage in enumerate(self.encoder):
            x = stage(x if number == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for up, stage, skip in zip(self.ups, self.stages, skips[-2::-1], strict=True):
            x = stage(torch.cat((up(x), skip), dim=1))
        result: torch.Tensor = self.last(x)
        return result


class DraemDetector(nn.Module):
    """The contract around DRAEM: raw frames in, score and map out."""

    def __init__(
        self, reconstructive: nn.Module, discriminative: nn.Module, semantics: DraemSemantics
    ) -> None:
        super().__init__()
        self.reconstructive = reconstructive
        self.discriminative = discriminative
        self.semantics = semantics
        mean = torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1)
        std = torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.register_buffer("reversed", torch.tensor([2, 1, 0]), persistent=False)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, H, W, 3) uint8 RGB -> score (N,) float32, map (N, H, W) float32 in [0, 1]."""
        image = frames.to(torch.float32).permute(0, 3, 1, 2) / 255.0
        if self.semantics.normalisation == "imagenet":
            image = (image - self.get_buffer("mean")) / self.get_buffer("std")
        if self.semantics.colour == "BGR":
            image = image.index_select(1, self.get_buffer("reversed"))
        reconstruction = self.reconstructive(image)
        pair = (
            (reconstruction, image) if self.semantics.first == "reconstruction" else (image, reconstruction)
        )
        logits = self.discriminative(torch.cat(pair, dim=1))
        anomaly = torch.softmax(logits, dim=1)[:, 1:2]
        ranked = anomaly
        side = self.semantics.mean_filter
        if side > 1:
            ranked = functional.avg_pool2d(anomaly, side, stride=1, padding=side // 2)
        return ranked.amax(dim=(1, 2, 3)), anomaly[:, 0]


def check_size(size: tuple[int, int]) -> None:
    """Refuse input sizes that five poolings do not divide.

    Raises:
        OptionError: A side is no positive multiple of 32.
    """
    if any(side <= 0 or side % 32 for side in size):
        raise OptionError(f"input size is {size[0]}x{size[1]}, expected multiples of 32")


def build_networks(
    builder: StageBuilder, reconstructive_prefix: str, discriminative_prefix: str
) -> tuple[nn.Module, nn.Module]:
    """Both networks, with every tensor under their prefixes accounted for.

    Raises:
        HostError: Tensors are missing, or some are left that no layer has a place for.
    """
    reconstructive = _Reconstructive(builder, reconstructive_prefix)
    discriminative = _Discriminative(builder, discriminative_prefix)
    roots = tuple(
        [f"{reconstructive_prefix}{part}." for part in ("encoder", "decoder")]
        + [f"{discriminative_prefix}{part}." for part in ("encoder_segment", "decoder_segment")]
    )
    left = sorted(key for key in builder.tensors if key.startswith(roots) and key not in builder.used)
    built = {spec.path for spec in builder.specs}
    for path in builder.blocks_found:
        if path not in built:
            raise HostError(
                f"the checkpoint holds a block at {path}, where DRAEM has no layer: its turn is unknown"
            )
    if left:
        raise HostError(
            f"the checkpoint holds {len(left)} weights that DRAEM has no place for, first {left[0]}: "
            "the network was changed in a way that is not known"
        )
    return reconstructive, discriminative
