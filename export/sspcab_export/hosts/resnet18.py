"""ResNet-18 without its classifier, rebuilt from keys and shapes under torchvision's names.

Structure after He et al., CVPR 2016 (arXiv 1512.03385), own code: a 7x7 convolution and a pooling, then four
stages of basic blocks, of which all but the first stage halve the map in their first block. Widths and the
number of basic blocks come from the weights. An SSPCAB block may replace a convolution of a basic block, a
whole basic block or the last stage, where the map is not halved, or stand after a stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from sspcab_edge.errors import HostError
from sspcab_export.block import SSPCAB, FoundBlock
from sspcab_export.hosts.stages import StageBuilder

__all__ = ["STAGES", "ResNet18", "ResNetBuilder"]

STAGES: Final = ("layer1", "layer2", "layer3", "layer4")
"""Names of the stages, in order."""

_STEM: Final = "the first pooling"


class _BasicBlock(nn.Module):
    """(N, C, H, W) -> (N, C', H / stride, W / stride): two convolutions and a way around them."""

    def __init__(
        self, conv1: nn.Module, bn1: nn.Module, conv2: nn.Module, bn2: nn.Module, downsample: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv1, bn1
        self.conv2, self.bn2 = conv2, bn2
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        around = x if self.downsample is None else self.downsample(x)
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + around)


class ResNet18(nn.Module):
    """The network from picture to last feature map.

    Args:
        conv1: First convolution.
        bn1: Its batch norm.
        stages: One module for each of :data:`STAGES`.
        added: Blocks by the stage that they stand after.
        channels: Of the last feature map.
    """

    def __init__(
        self,
        conv1: nn.Module,
        bn1: nn.Module,
        stages: Mapping[str, nn.Module],
        added: Mapping[str, SSPCAB],
        channels: int,
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv1, bn1
        for name in STAGES:
            self.add_module(name, stages[name])
        self.after = nn.ModuleDict(dict(added))
        self.channels = channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, channels, h, w)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for name in STAGES:
            x = self.get_submodule(name)(x)
            if name in self.after:
                x = self.after[name](x)
        return x


@dataclass
class ResNetBuilder(StageBuilder):
    """Builds the network and says where its blocks stand.

    Attributes:
        strides: Pixels of the input that a pixel of the map stands for, by path of the block on that map.
        places: Blocks that were added, and the stage that each stands after, both by path.
        stride: Pixels of the input that a pixel of the last feature map stands for.
    """

    strides: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    stride: int = 1

    def resnet18(self, prefix: str) -> ResNet18:
        """The network whose keys start with ``prefix``.

        Raises:
            HostError: Tensors are missing, not finite, of another architecture, or their shapes do not
                follow; or a block stands where nothing tells when it runs.
        """
        self.stride = 2
        conv1, channels = self._conv(f"{prefix}conv1", 3, kernel=7, stride=2)
        bn1 = self._batch_norm(f"{prefix}bn1", channels)
        self.stride = 4
        widths, stages, strides = {_STEM: channels}, {}, {_STEM: self.stride}
        for name in STAGES:
            stages[name], channels = self._stage(f"{prefix}{name}", channels, last=name == STAGES[-1])
            widths[name], strides[name] = channels, self.stride
        added: dict[str, SSPCAB] = {}
        roots = tuple(f"{prefix}{name}" for name in STAGES)
        for path, found in self._blocks.items():
            if path in roots or path.startswith(tuple(f"{root}." for root in roots)):
                continue
            place = _place(found, widths)
            if place in added:
                raise HostError(
                    f"two blocks have the channels of {place}: nothing tells where that at {path} stands"
                )
            self.places[path], self.strides[path] = f"{prefix}{place}", strides[place]
            added[place] = self._block(path, widths[place])
        return ResNet18(conv1, bn1, stages, added, channels)

    def _stage(self, path: str, channels: int, *, last: bool) -> tuple[nn.Module, int]:
        if path in self._blocks:
            if not last:
                raise HostError(f"a block replaces the stage {path}, expected that of {STAGES[-1]} only")
            return self._block_at(path, channels, 1), channels
        below = {key[len(path) + 1 :].split(".")[0] for key in self.tensors if key.startswith(path + ".")}
        numbers = sorted(int(part) for part in below if part.isdigit())
        if numbers != list(range(len(numbers))) or not numbers:
            raise HostError(
                f"the checkpoint has no weights at {path}.{_first_gap(numbers)}: it is incomplete "
                "or another network than ResNet-18"
            )
        blocks = []
        for number in numbers:
            stride = 2 if number == 0 and not path.endswith(STAGES[0]) else 1
            self.stride *= stride
            basic, channels = self._basic_block(f"{path}.{number}", channels, stride)
            blocks.append(basic)
        return nn.Sequential(*blocks), channels

    def _basic_block(self, path: str, channels: int, stride: int) -> tuple[nn.Module, int]:
        if path in self._blocks:
            return self._block_at(path, channels, stride), channels
        if f"{path}.conv3.weight" in self.tensors:
            raise HostError(
                f"{path} is a bottleneck of three convolutions, as ResNet-50 has them, expected the two of "
                "ResNet-18: this network is not supported"
            )
        conv1, between = self._conv_or_block(f"{path}.conv1", channels, stride)
        bn1 = self._batch_norm(f"{path}.bn1", between)
        conv2, out = self._conv_or_block(f"{path}.conv2", between, 1)
        bn2 = self._batch_norm(f"{path}.bn2", out)
        downsample = None
        if stride != 1 or out != channels or f"{path}.downsample.0.weight" in self.tensors:
            shrink, around = self._conv(f"{path}.downsample.0", channels, kernel=1, stride=stride)
            if around != out:
                raise HostError(f"{path}.downsample.0.weight gives {around} channels, expected {out}")
            downsample = nn.Sequential(shrink, self._batch_norm(f"{path}.downsample.1", around))
        return _BasicBlock(conv1, bn1, conv2, bn2, downsample), out

    def _conv_or_block(self, path: str, channels: int, stride: int) -> tuple[nn.Module, int]:
        if path in self._blocks:
            return self._block_at(path, channels, stride), channels
        return self._conv(path, channels, kernel=3, stride=stride)

    def _block_at(self, path: str, channels: int, stride: int) -> SSPCAB:
        if stride != 1:
            raise HostError(f"the block at {path} stands where the map is halved, which a block cannot do")
        self.strides[path] = self.stride
        return self._block(path, channels)

    def _conv(self, path: str, channels: int, *, kernel: int, stride: int) -> tuple[nn.Module, int]:
        weight = self._take(f"{path}.weight")
        if weight.ndim != 4 or tuple(weight.shape[2:]) != (kernel, kernel):
            raise HostError(
                f"{path}.weight has shape {tuple(weight.shape)}, expected a {kernel}x{kernel} convolution"
            )
        if f"{path}.bias" in self.tensors:
            self._take(f"{path}.bias", weight.shape[0])
        layer, out = self._convolution(path, weight, channels)
        assert isinstance(layer, nn.Conv2d)
        layer.stride = (stride, stride)
        return layer, out

    def _batch_norm(self, path: str, channels: int) -> nn.Module:
        weight = self._take(f"{path}.weight")
        if weight.ndim != 1:
            raise HostError(f"{path}.weight has shape {tuple(weight.shape)}, expected ({channels},)")
        return self._norm(path, weight, channels)


def _place(found: FoundBlock, widths: Mapping[str, int]) -> str:
    """The stage whose channels an added block has; the only one, or nothing tells when the block runs."""
    fitting = [name for name, width in widths.items() if width == found.channels]
    if not fitting:
        given = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise HostError(
            f"the block at {found.path} has {found.channels} channels, expected those of a stage: {given}"
        )
    if len(fitting) > 1 or fitting == [_STEM]:
        raise HostError(
            f"the block at {found.path} has {found.channels} channels, as there are after "
            f"{' and '.join(fitting)}: nothing tells when it runs"
        )
    return fitting[0]


def _first_gap(numbers: list[int]) -> int:
    return next(number for number in range(len(numbers) + 1) if number not in numbers)
