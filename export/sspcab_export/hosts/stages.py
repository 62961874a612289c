"""Sequential stages of a convolutional network, rebuilt from a state dict alone.

A stage is an ``nn.Sequential`` whose indices are known from the keys: convolutions, batch norms and blocks
have tensors, ReLU and upsampling have none and leave gaps. Widths come from shapes, and the flow of channels
is checked, so that files of different networks cannot be mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import HostError
from sspcab_export.block import SSPCAB, FoundBlock, find_blocks, read_block_spec, rename_block

__all__ = ["StageBuilder"]


@dataclass
class StageBuilder:
    """Builds stages from the tensors of one network and keeps account of what was used.

    Attributes:
        tensors: The checkpoint's tensors by key.
        dialect: Overrides the dialect that keys tell.
        dilation: d of every block.
        specs: Blocks that were built, in order.
        used: Keys that were consumed.
    """

    tensors: Mapping[str, torch.Tensor]
    dialect: str | None
    dilation: int
    specs: list[BlockSpec] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        shapes = {key: tuple(tensor.shape) for key, tensor in self.tensors.items()}
        self._blocks: dict[str, FoundBlock] = {found.path: found for found in find_blocks(shapes)}

    @property
    def blocks_found(self) -> tuple[str, ...]:
        """Paths of all blocks in the checkpoint, built or not."""
        return tuple(self._blocks)

    def stage(self, path: str, channels: int, *, upsample: bool = False) -> tuple[nn.Module, int]:
        """The stage at ``path`` for input of ``channels`` channels, and the channels it gives.

        Raises:
            HostError: Tensors are missing, not finite, of unknown kind, or their channels do not follow.
        """
        if path in self._blocks:
            block = self._block(path, channels)
            return (nn.Sequential(_upsampling(), block) if upsample else block), channels
        below = {key[len(path) + 1 :] for key in self.tensors if key.startswith(path + ".")}
        indices = sorted({int(head) for key in below if (head := key.split(".")[0]).isdigit()})
        if not indices:
            raise HostError(f"the checkpoint has no weights at {path}: it is incomplete or another network")
        layers: list[nn.Module] = []
        after_norm = False
        for index in range(indices[-1] + 1):
            at = f"{path}.{index}"
            if index in indices:
                layer, channels = self._layer(at, channels)
                after_norm = isinstance(layer, nn.BatchNorm2d)
                layers.append(layer)
            elif index == 0 and upsample:
                layers.append(_upsampling())
            elif after_norm:
                layers.append(nn.ReLU())
            else:
                raise HostError(f"the checkpoint has no weights at {at}, expected a convolution or a block")
        if after_norm:
            layers.append(nn.ReLU())
        if upsample and 0 in indices:
            raise HostError(f"{path}.0 has weights, expected upsampling, which has none")
        return nn.Sequential(*layers), channels

    def _layer(self, path: str, channels: int) -> tuple[nn.Module, int]:
        if path in self._blocks:
            return self._block(path, channels), channels
        weight = self._take(f"{path}.weight")
        if weight.ndim == 4:
            return self._convolution(path, weight, channels)
        if weight.ndim == 1:
            return self._norm(path, weight, channels), channels
        raise HostError(
            f"{path}.weight has shape {tuple(weight.shape)}, expected a convolution or batch norm"
        )

    def _convolution(self, path: str, weight: torch.Tensor, channels: int) -> tuple[nn.Module, int]:
        out, into, height, width = weight.shape
        if into != channels:
            raise HostError(
                f"{path}.weight takes {into} channels, expected {channels}: "
                "the files belong to different networks, or a layer is missing"
            )
        if height % 2 == 0 or width % 2 == 0:
            raise HostError(f"{path}.weight has a {height}x{width} kernel, expected odd sides")
        bias = self._take(f"{path}.bias") if f"{path}.bias" in self.tensors else None
        with torch.device("meta"):
            layer = nn.Conv2d(
                into, out, (height, width), padding=(height // 2, width // 2), bias=bias is not None
            )
        layer.weight = _parameter(weight)
        if bias is not None:
            layer.bias = _parameter(bias)
        return layer, out

    def _norm(self, path: str, weight: torch.Tensor, channels: int) -> nn.Module:
        if weight.shape[0] != channels:
            raise HostError(f"{path}.weight has {weight.shape[0]} channels, expected {channels}")
        layer = nn.BatchNorm2d(channels)
        layer.weight = _parameter(weight)
        layer.bias = _parameter(self._take(f"{path}.bias", channels))
        layer.running_mean = self._take(f"{path}.running_mean", channels).float()
        layer.running_var = self._take(f"{path}.running_var", channels).float()
        self.used.add(f"{path}.num_batches_tracked")
        return layer

    def _block(self, path: str, channels: int) -> SSPCAB:
        found = self._blocks[path]
        spec = read_block_spec(found, dialect=self.dialect, dilation=self.dilation)
        if spec.channels != channels:
            raise HostError(f"the block at {path} has {spec.channels} channels, expected {channels}")
        own = {f"{path}.{key}": self._take(f"{path}.{key}").float() for key in found.shapes}
        renamed = rename_block(own, found, spec.dialect)
        with torch.device("meta"):
            block = SSPCAB.from_spec(spec)
        block.load_state_dict({key[len(path) + 1 :]: value for key, value in renamed.items()}, assign=True)
        self.specs.append(spec)
        return block

    def _take(self, key: str, length: int | None = None) -> torch.Tensor:
        if key not in self.tensors:
            raise HostError(f"the checkpoint has no {key}: it is incomplete")
        tensor = self.tensors[key]
        if length is not None and tuple(tensor.shape) != (length,):
            raise HostError(f"{key} has shape {tuple(tensor.shape)}, expected ({length},)")
        if not tensor.is_floating_point():
            raise HostError(
                f"{key} is {tensor.dtype}, expected real numbers with fractions: save the weights before "
                "they are quantised or packed"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise HostError(f"{key} holds values that are no finite numbers: the training went wrong")
        self.used.add(key)
        return tensor


def _upsampling() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.float(), requires_grad=False)
