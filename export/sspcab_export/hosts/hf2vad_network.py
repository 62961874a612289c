"""HF2-VAD's network, rebuilt from a state dict: memories reconstruct flow, which helps to predict a frame.

Liu et al., "A hybrid video anomaly detection framework via memory-augmented flow reconstruction and
flow-guided frame prediction", ICCV 2021 (arXiv 2108.06852). Names of weights are those of the public code
(LiUzHiAn/hf2vad, MIT); the code here is our own. What only training needs is left out: the prior of the
latents, and sampling. The public code samples a latent at the coarser scale in its test mode too, so that its
own scores differ from run to run; here that latent is its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from sspcab_edge.errors import HostError
from sspcab_export.hosts.stages import StageBuilder

__all__ = ["HfVad", "HfVadBuilder", "MemoryAutoEncoder", "Predictor"]

_LEVELS = 3
_FLOW = 2
_COLOURS = 3


class Memory(nn.Module):
    """Replaces a vector by a sparse mix of the vectors that training kept.

    Args:
        slots: (M, D) float32.
        shrink: Addresses below it are dropped.
    """

    def __init__(self, slots: torch.Tensor, shrink: float) -> None:
        super().__init__()
        self.slots = nn.Parameter(slots, requires_grad=False)
        self.shrink = shrink

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same, D = C * H * W.

        An address that survives is larger than ``shrink``, so dividing by their sum needs no other care.
        """
        weights = torch.softmax(functional.linear(x.flatten(1), self.slots), dim=1)
        weights = torch.where(weights > self.shrink, weights, 0.0)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=self.shrink)
        return (weights @ self.slots).reshape(x.shape)


class _Up(nn.Module):
    def __init__(self, up: nn.Module, convolutions: nn.Module, *, skip: bool) -> None:
        super().__init__()
        self.up, self.convolutions, self.skip = up, convolutions, skip

    def forward(self, x: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        result: torch.Tensor = self.convolutions(torch.cat([skipped, x], dim=1) if self.skip else x)
        return result


class MemoryAutoEncoder(nn.Module):
    """ML-MemAE-SC: an auto-encoder of one flow whose features pass through memories at three scales."""

    def __init__(
        self,
        first: nn.Module,
        downs: Sequence[nn.Module],
        memories: Mapping[int, Memory],
        ups: list[_Up],
        last: nn.Module,
    ) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)
        self.memories = nn.ModuleDict({str(level): memory for level, memory in memories.items()})

    def forward(self, flow: torch.Tensor) -> torch.Tensor:
        """(N, 2, H, W) -> the same."""
        maps = [self.first(flow)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        x = maps[-1]
        for level in range(_LEVELS, 0, -1):
            if str(level) in self.memories:
                x = self.memories[str(level)](x)
            x = self.ups[_LEVELS - level](x, maps[level - 1])
        result: torch.Tensor = self.last(x)
        return result


class _Residual(nn.Module):
    """x plus a convolution of it, and of a second input where there is one."""

    def __init__(self, conv: nn.Module, pre: nn.Module | None) -> None:
        super().__init__()
        self.conv, self.pre = conv, pre

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        own = x
        if self.pre is not None and other is not None:
            own = torch.cat([x, self.pre(functional.elu(other))], dim=1)
        result: torch.Tensor = x + self.conv(functional.elu(own))
        return result


class _Upsample(nn.Module):
    """A convolution whose channels become a picture twice as large, blocks of channels first."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        _, channels, height, width = x.shape
        x = x.reshape(-1, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(-1, channels // 4, 2 * height, 2 * width)


class _Encoder(nn.Module):
    def __init__(
        self, first: nn.Module, stages: Sequence[tuple[nn.Module | None, Sequence[nn.Module]]]
    ) -> None:
        super().__init__()
        self.first = first
        self.downs = nn.ModuleList([nn.Identity() if down is None else down for down, _ in stages])
        self.blocks = nn.ModuleList([nn.ModuleList(blocks) for _, blocks in stages])

    def forward(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """Two maps of each stage."""
        x = self.first(x)
        maps = []
        for down, blocks in zip(self.downs, self.blocks, strict=True):
            x = down(x)
            stage = []
            for block in _layers(blocks):
                x = block(x)
                stage.append(x)
            maps.append(stage)
        return maps


class Predictor(nn.Module):
    """The conditional variational auto-encoder, latents at their means: past frames and flow -> frame."""

    def __init__(
        self, parts: Mapping[str, nn.Module], decoder: Sequence[tuple[nn.Module, Sequence[nn.Module]]]
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(dict(parts))
        self.ups = nn.ModuleList([up for up, _ in decoder])
        self.blocks = nn.ModuleList([nn.ModuleList(blocks) for _, blocks in decoder])

    def forward(self, frames: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """(N, 12, H, W) and (N, 8, H, W) -> (N, 3, H, W), values in (0, 1)."""
        parts = self.parts
        seen = parts["posterior"](torch.cat([frames, flow], dim=1))
        moved = parts["prior"](flow)
        latents = self._latents(seen)
        x = parts["bottleneck_in"](moved[-1][1])
        for depth, latent in zip((-1, -2), latents, strict=True):
            x = parts[f"bottleneck_{-depth}_2"](x, moved[depth][1])
            given = parts[f"bottleneck_norm_{-depth}"](torch.cat([moved[depth][0], latent], dim=1))
            x = parts[f"bottleneck_{-depth}_1"](x, given)
            if depth == -1:
                x = parts["bottleneck_up"](x)
        stage = len(seen) - 3
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = up(x)
            for number, block in enumerate(_layers(blocks)):
                x = block(x, seen[stage][1 - number])
            stage -= 1
        if "block" in parts:
            x = parts["block"](x)
        return torch.sigmoid(parts["last"](x))

    def _latents(self, seen: list[list[torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        parts = self.parts
        coarse = parts["latent_0"](parts["latent_in"](seen[-1][1]), seen[-1][1])
        given = parts["latent_norm"](torch.cat([seen[-1][0], coarse], dim=1))
        x = parts["latent_up"](parts["latent_1"](coarse, given))
        return coarse, parts["latent_2"](x, seen[-2][1])


class HfVad(nn.Module):
    """Both networks: squared errors of flow and of the last frame, summed over an object.

    Args:
        memory: Of flow.
        predictor: Of the last frame.
        statistics: Mean and standard deviation of the flow errors, then of the frame errors; None: the errors
            themselves are given.
        weights: Of both in the score.
    """

    def __init__(
        self,
        memory: MemoryAutoEncoder,
        predictor: Predictor,
        statistics: tuple[float, float, float, float] | None = None,
        weights: tuple[float, float] = (1.0, 0.1),
    ) -> None:
        super().__init__()
        self.memory, self.predictor = memory, predictor
        self.statistics, self.weights = statistics, weights

    def errors(self, appearance: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (N, 5, H, W, 3) RGB, float32 (N, 4, H, W, 2) -> two sums of squared errors, (N,) each."""
        frames = appearance.float().permute(0, 1, 4, 2, 3).flip(2) / 255
        frames = frames.reshape(-1, appearance.shape[1] * _COLOURS, *appearance.shape[2:4])
        size = (flow.shape[2], flow.shape[3])
        single = flow.permute(0, 1, 4, 2, 3).reshape(-1, _FLOW, *size)
        rebuilt = self.memory(single)
        flow_error = (
            ((rebuilt - single) ** 2).reshape(-1, flow.shape[1] * _FLOW * size[0] * size[1]).sum(dim=1)
        )
        guide = rebuilt.reshape(-1, flow.shape[1] * _FLOW, *size)
        predicted = self.predictor(frames[:, :-_COLOURS], guide)
        frame_error = ((predicted - frames[:, -_COLOURS:]) ** 2).flatten(1).sum(dim=1)
        return flow_error, frame_error

    def forward(self, appearance: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """Scores (N,): the weighted sum of both errors in standard deviations from their normal means."""
        errors = self.errors(appearance, flow)
        assert self.statistics is not None
        flow_mean, flow_std, frame_mean, frame_std = self.statistics
        return self.weights[0] * ((errors[0] - flow_mean) / flow_std) + self.weights[1] * (
            (errors[1] - frame_mean) / frame_std
        )


@dataclass
class HfVadBuilder(StageBuilder):
    """Builds both networks; a block may stand where a convolution with as many channels out as in would.

    Attributes:
        shrink: Of the memories' addresses; None: one divided by their slots, as in the public configuration.
        size: Side of an object in pixels, as the memories tell it; 0 until they were read.
        slots: Of each memory.
    """

    shrink: float | None = None
    size: int = 0
    slots: int = field(default=0)

    def memory_auto_encoder(self, path: str) -> MemoryAutoEncoder:
        """ML-MemAE-SC whose keys start with ``path``.

        Raises:
            HostError: Tensors are missing, not finite, or their shapes do not follow.
        """
        first, channels = self.stage(f"{path}in_conv.conv.conv", _FLOW)
        widths, downs = [channels], []
        for level in range(1, _LEVELS + 1):
            strided, channels = self._conv(f"{path}down_{level}.mpconv.0", channels, stride=2, padding=1)
            pair, channels = self.stage(f"{path}down_{level}.mpconv.1.conv", channels)
            downs.append(nn.Sequential(strided, pair))
            widths.append(channels)
        memories = {}
        for level in range(_LEVELS, 0, -1):
            memory = self._memory(f"{path}mem{level}.memMatrix", widths[level], level)
            if memory is not None:
                memories[level] = memory
        ups = []
        for level in range(_LEVELS, 0, -1):
            up, channels = self._transposed(f"{path}up_{level}.up", channels)
            wanted = self._take(f"{path}up_{level}.conv.conv.0.weight").shape[1]
            skip = wanted == channels + widths[level - 1] and wanted != channels
            pair, channels = self.stage(f"{path}up_{level}.conv.conv", wanted if skip else channels)
            ups.append(_Up(up, pair, skip=skip))
        last, channels = self._conv(f"{path}out_conv.conv", channels)
        if channels != _FLOW:
            raise HostError(f"{path}out_conv gives {channels} channels, expected {_FLOW}: one flow")
        return MemoryAutoEncoder(first, downs, memories, ups, last)

    def predictor(self, path: str, block: str) -> Predictor:
        """The conditional auto-encoder whose keys start with ``path``, with the block at ``block`` before its
        last convolution, where there is one.

        Raises:
            HostError: Tensors are missing, not finite, or their shapes do not follow.
        """
        posterior, widths = self._encoder(f"{path}f_phi", _COLOURS * 4 + _FLOW * 4)
        prior, _ = self._encoder(f"{path}e_theta", _FLOW * 4)
        stages, width = len(widths), widths[-1]
        parts: dict[str, nn.Module] = {"posterior": posterior, "prior": prior}
        parts["latent_in"] = self._conv(f"{path}zc.conv1x1", width)[0]
        for number in range(3):
            parts[f"latent_{number}"] = self._residual(f"{path}zc.blocks.{number}", width, skip=True)
        parts["latent_up"] = self._upsample(f"{path}zc.up", width)[0]
        parts["latent_norm"] = self._conv(f"{path}zc.channel_norm", 2 * width)[0]
        parts["bottleneck_in"] = self._conv(f"{path}bottleneck.conv1x1", width)[0]
        parts["bottleneck_up"] = self._upsample(f"{path}bottleneck.up", width)[0]
        for depth in (1, 2):
            stage = f"s{stages + 1 - depth}"
            parts[f"bottleneck_norm_{depth}"] = self._conv(
                f"{path}bottleneck.channel_norm.{stage}", 2 * width
            )[0]
            for number in (1, 2):
                parts[f"bottleneck_{depth}_{number}"] = self._residual(
                    f"{path}bottleneck.blocks.{stage}_{number}", width, skip=True
                )
        decoder: list[tuple[nn.Module, Sequence[nn.Module]]] = []
        channels = width
        for stage_number in range(stages - 2, 0, -1):
            up, channels = self._upsample(f"{path}decoder.ups.s{stage_number + 1}", channels)
            blocks = [
                self._residual(f"{path}decoder.blocks.s{stage_number}_{number}", channels, skip=True)
                for number in (2, 1)
            ]
            decoder.append((up, blocks))
        if block in self.blocks_found:
            parts["block"] = self._block(block, channels)
        parts["last"], channels = self._conv(f"{path}decoder.final_layer", channels)
        if channels != _COLOURS:
            raise HostError(
                f"{path}decoder.final_layer gives {channels} channels, expected {_COLOURS}: one frame"
            )
        return Predictor(parts, decoder)

    def _encoder(self, path: str, channels: int) -> tuple[_Encoder, list[int]]:
        first, channels = self._conv(f"{path}.in_op", channels)
        stages: list[tuple[nn.Module | None, Sequence[nn.Module]]] = []
        widths: list[int] = []
        while True:
            number = len(stages) + 1
            if not any(key.startswith(f"{path}.blocks.s{number}_") for key in self.tensors):
                break
            down = None
            if stages:
                down, channels = self._conv(f"{path}.downs.s{number}.down", channels, stride=2, padding=1)
            blocks = [self._residual(f"{path}.blocks.s{number}_{k}", channels, skip=False) for k in (1, 2)]
            stages.append((down, blocks))
            widths.append(channels)
        if len(stages) < 3 or len(set(widths[-2:])) != 1:
            raise HostError(
                f"{path} has {len(stages)} stages of {widths} channels, expected 3 or more, the last two "
                "alike"
            )
        return _Encoder(first, stages), widths

    def _residual(self, path: str, channels: int, *, skip: bool) -> _Residual:
        pre = None
        if skip:
            pre = self._conv(f"{path}.pre", channels)[0]
        conv, given = self._conv(f"{path}.conv2d", channels * (2 if skip else 1), padding=1)
        if given != channels:
            raise HostError(
                f"{path}.conv2d gives {given} channels, expected {channels}: it is added to its input"
            )
        return _Residual(conv, pre)

    def _upsample(self, path: str, channels: int) -> tuple[_Upsample, int]:
        conv, given = self._conv(f"{path}.up", channels, padding=1)
        if given % 4:
            raise HostError(f"{path}.up gives {given} channels, expected a multiple of 4")
        return _Upsample(conv), given // 4

    def _conv(self, path: str, channels: int, *, stride: int = 1, padding: int = 0) -> tuple[nn.Module, int]:
        """A convolution, plain or with a weight of length and direction apart; or a block in its place."""
        if path in self.blocks_found:
            if stride != 1:
                raise HostError(f"a block stands at {path}, where the map is made smaller")
            return self._block(path, channels), channels
        weight, bias = self._weights(path)
        if weight.ndim != 4 or weight.shape[1] != channels or weight.shape[2] != 2 * padding + 1:
            raise HostError(
                f"{path} has a weight of shape {tuple(weight.shape)}, expected one of {channels} channels "
                f"and {2 * padding + 1}x{2 * padding + 1} pixels"
            )
        with torch.device("meta"):
            layer = nn.Conv2d(channels, weight.shape[0], weight.shape[2], stride, padding)
        layer.weight, layer.bias = _parameter(weight), _parameter(bias)
        return layer, weight.shape[0]

    def _weights(self, path: str) -> tuple[torch.Tensor, torch.Tensor]:
        if f"{path}.weight" in self.tensors:
            return self._take(f"{path}.weight"), self._take(f"{path}.bias")
        names = (f"{path}.conv.weight_g", f"{path}.conv.weight_v")
        if names[0] not in self.tensors:
            names = tuple(f"{path}.conv.parametrizations.weight.original{n}" for n in (0, 1))  # type: ignore[assignment]
        length, direction = (self._take(name).double() for name in names)
        norm = direction.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        if not bool((norm > 0).all()):
            raise HostError(f"{names[1]} has a direction of length 0: the training went wrong")
        gamma, beta = (self._take(f"{path}.{name}").double() for name in ("gamma", "beta"))
        weight = length * direction / norm * gamma.reshape(-1, 1, 1, 1)
        bias = self._take(f"{path}.conv.bias").double() * gamma.flatten() + beta.flatten()
        return weight.float(), bias.float()

    def _transposed(self, path: str, channels: int) -> tuple[nn.Module, int]:
        weight, bias = self._take(f"{path}.weight"), self._take(f"{path}.bias")
        if weight.ndim != 4 or weight.shape[0] != channels or tuple(weight.shape[2:]) != (3, 3):
            raise HostError(f"{path}.weight has shape {tuple(weight.shape)}, expected ({channels}, C, 3, 3)")
        with torch.device("meta"):
            layer = nn.ConvTranspose2d(channels, weight.shape[1], 3, stride=2, padding=1, output_padding=1)
        layer.weight, layer.bias = _parameter(weight), _parameter(bias)
        return layer, weight.shape[1]

    def _memory(self, key: str, channels: int, level: int) -> Memory | None:
        if key not in self.tensors:
            return None
        slots = self._take(key).float()
        side = round((slots.shape[1] / channels) ** 0.5) if slots.ndim == 2 else 0
        size = side * 2**level
        if slots.ndim != 2 or side**2 * channels != slots.shape[1] or self.size not in (0, size):
            raise HostError(
                f"{key} has shape {tuple(slots.shape)}, expected (slots, {channels} * h * w) of one size"
            )
        self.size, self.slots = size, slots.shape[0]
        return Memory(slots, 1 / slots.shape[0] if self.shrink is None else self.shrink)


def _layers(layers: nn.Module) -> list[nn.Module]:
    """Of a ``ModuleList``, which loses its kind inside of another one."""
    return list(layers.children())


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.float(), requires_grad=False)
