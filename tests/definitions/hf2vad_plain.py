# mypy: disable-error-code="no-untyped-call,no-any-return,union-attr,index,operator,arg-type"
# mypy: disable-error-code="attr-defined,call-overload,assignment"
"""HF2-VAD as plain torch modules, written from its description, with the names of the public checkpoints.

Nothing here is shared with the loader: weight norm is computed in ``forward``, memories address by an
explicit hard shrinkage, each flow goes through the memories by itself, depth and space are exchanged by
slicing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as f

from definitions.ssmctb_plain import block_forward

SIZE = 32


def pair(first: int, second: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((first, second), (second, second)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Named(nn.Module):
    """A module with one child of a given name."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class MemoryNet(nn.Module):
    def __init__(self, root: int, slots: int) -> None:
        super().__init__()
        widths = [root, 2 * root, 4 * root, 8 * root]
        self.slots = slots
        self.in_conv = Named(conv=Named(conv=pair(2, root)))
        for level in (1, 2, 3):
            strided = nn.Conv2d(widths[level - 1], widths[level], 3, stride=2, padding=1)
            body = nn.Sequential(strided, Named(conv=pair(widths[level], widths[level])))
            self.add_module(f"down_{level}", Named(mpconv=body))
            memory = nn.Module()
            memory.memMatrix = nn.Parameter(torch.randn(slots, widths[level] * (SIZE >> level) ** 2) * 0.05)
            self.add_module(f"mem{level}", memory)
            up = nn.ConvTranspose2d(widths[level], widths[level - 1], 3, 2, 1, 1)
            into = widths[level - 1] if level == 1 else 2 * widths[level - 1]
            self.add_module(f"up_{level}", Named(up=up, conv=Named(conv=pair(into, widths[level - 1]))))
        self.out_conv = Named(conv=nn.Conv2d(root, 2, 1))

    def remember(self, level: int, x: torch.Tensor) -> torch.Tensor:
        matrix = self.get_parameter(f"mem{level}.memMatrix")
        out = []
        for one in x:
            weights = torch.softmax(matrix @ one.flatten(), dim=0)
            limit = 1 / self.slots
            weights = f.relu(weights - limit) * weights / ((weights - limit).abs() + 1e-12)
            weights = weights / weights.abs().sum().clamp(min=1e-12)
            out.append((weights[:, None] * matrix).sum(0).reshape(one.shape))
        return torch.stack(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [self.in_conv.get_submodule("conv.conv")(x)]
        for level in (1, 2, 3):
            body = self.get_submodule(f"down_{level}.mpconv")
            maps.append(body[1].get_submodule("conv")(body[0](maps[-1])))
        x = maps[3]
        for level in (3, 2, 1):
            x = self.remember(level, x)
            x = self.get_submodule(f"up_{level}.up")(x)
            if level != 1:
                x = torch.cat([maps[level - 1], x], dim=1)
            layers = self.get_submodule(f"up_{level}.conv.conv")
            for name, layer in layers.named_children():
                x = block_forward(layer, x) if name == "3" and not isinstance(layer, nn.Conv2d) else layer(x)
        return self.get_submodule("out_conv.conv")(x)


class Normed(nn.Module):
    def __init__(self, before: int, after: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.side = stride, side
        self.gamma = nn.Parameter(1 + 0.2 * torch.randn(1, after, 1, 1))
        self.beta = nn.Parameter(0.1 * torch.randn(1, after, 1, 1))
        self.conv = nn.Module()
        self.conv.weight_g = nn.Parameter(0.5 + torch.rand(after, 1, 1, 1))
        self.conv.weight_v = nn.Parameter(torch.randn(after, before, side, side))
        self.conv.bias = nn.Parameter(0.1 * torch.randn(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        direction = self.conv.weight_v
        length = (direction**2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
        x = f.conv2d(x, self.conv.weight_g * direction / length, self.conv.bias, self.stride, self.side // 2)
        return self.gamma * x + self.beta


class Residual(nn.Module):
    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.conv2d: nn.Module = Normed(2 * width if skip else width, width, 3)
        if skip:
            self.pre = Normed(width, width, 1)

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        y = x if other is None else torch.cat([x, self.pre(f.elu(other))], dim=1)
        return x + self.conv2d(f.elu(y))


def space(x: torch.Tensor) -> torch.Tensor:
    """Blocks of channels become the four pixels of a 2x2 square, row by row."""
    n, c, h, w = x.shape
    out = torch.zeros(n, c // 4, 2 * h, 2 * w)
    for number in range(4):
        out[:, :, number // 2 :: 2, number % 2 :: 2] = x[:, number * (c // 4) : (number + 1) * (c // 4)]
    return out


class Encoder(nn.Module):
    def __init__(self, into: int, first: int, most: int, stages: int) -> None:
        super().__init__()
        self.stages, width = stages, first
        self.in_op = Normed(into, first, 1)
        self.blocks, self.downs = nn.ModuleDict(), nn.ModuleDict()
        for stage in range(1, stages + 1):
            if stage > 1:
                wider = min(2 * width, most)
                self.downs[f"s{stage}"] = Named(down=Normed(width, wider, 3, 2))
                width = wider
            for number in (1, 2):
                self.blocks[f"s{stage}_{number}"] = Residual(width, False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x, maps = self.in_op(x), {}
        for stage in range(1, self.stages + 1):
            if stage > 1:
                x = self.downs[f"s{stage}"].get_submodule("down")(x)
            for number in (1, 2):
                x = maps[f"s{stage}_{number}"] = self.blocks[f"s{stage}_{number}"](x)
        return maps


class Prediction(nn.Module):
    def __init__(self, first: int, most: int, block: nn.Module | None) -> None:
        super().__init__()
        stages = 4
        self.f_phi, self.e_theta = Encoder(20, first, most, stages), Encoder(8, first, most, stages)
        self.zc = Named(
            blocks=nn.ModuleList([Residual(most, True) for _ in range(3)]), conv1x1=Normed(most, most, 1),
            up=Named(up=Normed(most, 4 * most, 3)), channel_norm=Normed(2 * most, most, 1),
        )  # fmt: skip
        self.bottleneck = Named(
            blocks=nn.ModuleDict({f"s{s}_{k}": Residual(most, True) for s in (4, 3) for k in (1, 2)}),
            channel_norm=nn.ModuleDict({f"s{s}": Normed(2 * most, most, 1) for s in (4, 3)}),
            conv1x1=Normed(most, most, 1), up=Named(up=Normed(most, 4 * most, 3)),
            auto_blocks=nn.ModuleList([Residual(most, n > 0) for n in range(4)]),
            param_converter=Normed(4 * most, most, 1),
        )  # fmt: skip
        half = most // 2
        self.decoder = Named(
            ups=nn.ModuleDict(
                {"s3": Named(up=Normed(most, 4 * most, 3)), "s2": Named(up=Normed(most, 4 * half, 3))}
            ),
            blocks=nn.ModuleDict(
                {f"s{s}_{k}": Residual(w, True) for s, w in ((2, most), (1, half)) for k in (2, 1)}
            ),
            final_layer=Normed(half, 3, 1),
        )  # fmt: skip
        if block is not None:
            self.decoder.add_module("sspcab", block)

    def forward(self, frames: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        seen, moved = self.f_phi(torch.cat([frames, flow], 1)), self.e_theta(flow)
        zc, neck, dec = self.zc, self.bottleneck, self.decoder
        part = lambda module, name: module.get_submodule(name)  # noqa: E731
        means = {}
        means["s4"] = part(zc, "blocks.0")(part(zc, "conv1x1")(seen["s4_2"]), seen["s4_2"])
        mixed = part(zc, "channel_norm")(torch.cat([seen["s4_1"], means["s4"]], 1))
        above = space(part(zc, "up.up")(part(zc, "blocks.1")(means["s4"], mixed)))
        means["s3"] = part(zc, "blocks.2")(above, seen["s3_2"])
        x = part(neck, "conv1x1")(moved["s4_2"])
        for stage in ("s4", "s3"):
            x = part(neck, f"blocks.{stage}_2")(x, moved[f"{stage}_2"])
            mixed = part(neck, f"channel_norm.{stage}")(torch.cat([moved[f"{stage}_1"], means[stage]], 1))
            x = part(neck, f"blocks.{stage}_1")(x, mixed)
            if stage == "s4":
                x = space(part(neck, "up.up")(x))
        for above_name, stage in (("s3", "s2"), ("s2", "s1")):
            x = space(part(dec, f"ups.{above_name}.up")(x))
            for number in (2, 1):
                x = part(dec, f"blocks.{stage}_{number}")(x, seen[f"{stage}_{number}"])
        if hasattr(dec, "sspcab"):
            x = block_forward(part(dec, "sspcab"), x)
        return torch.sigmoid(part(dec, "final_layer")(x))


class PlainHfVad(nn.Module):
    """Both networks at a small width."""

    def __init__(
        self, root: int = 4, slots: int = 40, first: int = 8, most: int = 16, block: nn.Module | None = None,
        memory_block: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.memAE = MemoryNet(root, slots)
        self.vunet = Prediction(first, most, block)
        if memory_block is not None:
            self.memAE.get_submodule("up_1.conv.conv")[3] = memory_block

    def errors(
        self, appearance: npt.NDArray[np.uint8], flow: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(N, 5, 32, 32, 3) RGB and (N, 4, 32, 32, 2) -> sums of squared errors of flow and frame."""
        sums = []
        with torch.no_grad():
            for pictures, moves in zip(appearance, flow, strict=True):
                frames = torch.cat(
                    [torch.from_numpy(p[..., ::-1].copy()).permute(2, 0, 1) for p in pictures]
                )[None]
                frames = frames / 255
                motion = torch.cat([torch.from_numpy(m).permute(2, 0, 1) for m in moves])[None]
                rebuilt = torch.cat([self.memAE(motion[:, n : n + 2]) for n in range(0, 8, 2)], 1)
                predicted = self.vunet(frames[:, :12], rebuilt)
                sums.append(
                    (float(((rebuilt - motion) ** 2).sum()), float(((predicted - frames[:, 12:]) ** 2).sum()))
                )
        first, second = np.array(sums).T
        return first, second
