"""SSPCAB in torch: every dialect, in the plain unfolded form that is the source of truth.

Written from the published definition (Ristea et al., CVPR 2022, arXiv 2111.09099; restated in Madan et al.,
TPAMI 2024, arXiv 2209.12148). With sub-kernel ``k`` and dilation ``d`` the input is padded by ``k + d``; four
``k x k`` convolutions C -> C see the four windows that remain when ``k + 2d + 1`` rows and columns are cut
from one side each; their sum is reweighted per channel by squeeze-and-excitation. What public
implementations do differently is in :data:`sspcab_edge.block.DIALECTS`.

Parameter names, below the block's path, with i in 1..4 and j in 1..2, all with bias::

    official     conv{i}         se.fc{j}                 as published for torch
    anomalib     masked_conv{i}  attention_module.fc{j}   as anomalib stores them
    tensorflow   corner{i}       se.fc{j}                 ours: the published TF1 code has scopes, not keys;
                                                          1..4 are its conv2d, conv2d_1, conv2d_2, conv2d_3
    ssmctb       conv{i}         transformer.{projection, pos_embedding, mha.to_qkv, mha.to_out.0}

Convolution weights are float (C, C, k, k), their biases (C,); ``fc1.weight`` is (C // r, C) and
``fc2.weight`` (C, C // r) as torch's ``Linear`` has them.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from sspcab_edge.block import BlockSpec, Geometry, dialect_named
from sspcab_edge.errors import OptionError
from sspcab_export.block_keys import (
    BLOCK_NAMES,
    DEFAULT_REDUCTION,
    HEADS,
    TOKEN_WIDTH,
    FoundBlock,
    check_map_size,
    find_blocks,
    read_block_spec,
    rename_block,
)

__all__ = [
    "SSPCAB",
    "FoundBlock",
    "check_map_size",
    "find_blocks",
    "read_block_spec",
    "rename_block",
]


class _SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the channels' global means."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        means = x.mean(dim=(2, 3))
        gate = torch.sigmoid(self.fc2(functional.relu(self.fc1(means))))
        return x * gate[:, :, None, None]


class _Attention(nn.Module):
    """Multi-head attention between tokens; queries, keys and values without bias."""

    def __init__(self) -> None:
        super().__init__()
        inner = HEADS * TOKEN_WIDTH
        self.to_qkv = nn.Linear(TOKEN_WIDTH, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, TOKEN_WIDTH))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, 64) -> (N, T, 64)."""
        count = tokens.shape[1]
        parts = self.to_qkv(tokens).reshape(-1, count, 3, HEADS, TOKEN_WIDTH).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts[0], parts[1], parts[2]
        weights = torch.softmax(queries @ keys.transpose(-1, -2) * TOKEN_WIDTH**-0.5, dim=-1)
        mixed = (weights @ values).permute(0, 2, 1, 3).reshape(-1, count, HEADS * TOKEN_WIDTH)
        result: torch.Tensor = self.to_out(mixed)
        return result


class _ChannelTransformer(nn.Module):
    """Scales each channel by a gate that attention between the channels' global means gives.

    As published for torch with SSMCTB: one attention, no norm, no residual; the paper's text (arXiv
    2209.12148) has more layers. Weights of the two cannot be exchanged.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(1, TOKEN_WIDTH)
        self.pos_embedding = nn.Parameter(torch.zeros(1, channels, TOKEN_WIDTH))
        self.mha = _Attention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        tokens = self.projection(x.mean(dim=(2, 3))[:, :, None]) + self.pos_embedding
        gate = torch.sigmoid(self.mha(tokens).mean(dim=2))
        return x * gate[:, :, None, None]


class SSPCAB(nn.Module):
    """The block in its reference form: pad, four windows, four convolutions, sum, squeeze-and-excitation.

    Args:
        channels: C, the same in and out.
        dialect: A name in :data:`sspcab_edge.block.DIALECTS`; it also decides the parameter names.
        kernel: Sub-kernel k.
        dilation: d.
        reduction: r; the gate has C // r hidden units (SSMCTB has none: it is not looked at).

    Raises:
        OptionError: An unknown dialect, k < 1, d < 0, or no hidden unit left.
    """

    def __init__(
        self,
        channels: int,
        *,
        dialect: str = "official",
        kernel: int = 1,
        dilation: int = 1,
        reduction: int = DEFAULT_REDUCTION,
    ) -> None:
        super().__init__()
        self.dialect = dialect_named(dialect)
        self.geometry = Geometry(kernel, dilation)
        transformer = self.dialect.attention == "channel-transformer"
        if not transformer and (reduction < 1 or channels // reduction < 1):
            raise OptionError(
                f"reduction {reduction} leaves no hidden unit, expected 1 to {channels}, the channels"
            )
        convolution, attention = BLOCK_NAMES[dialect]
        for number in range(1, 5):
            self.add_module(f"{convolution}{number}", nn.Conv2d(channels, channels, kernel))
        if transformer:
            self.add_module(attention, _ChannelTransformer(channels))
        else:
            self.add_module(attention, _SqueezeExcitation(channels, channels // reduction))

    @classmethod
    def from_spec(cls, spec: BlockSpec) -> SSPCAB:
        """A block with fresh weights that computes what ``spec`` says."""
        return cls(
            spec.channels,
            dialect=spec.dialect,
            kernel=spec.kernel,
            dilation=spec.dilation,
            reduction=spec.reduction,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict every position from the four corners of its receptive field.

        Args:
            x: (N, C, H, W) float. With reflect padding H and W must exceed k + d.

        Returns:
            (N, C, H, W) float.
        """
        convolution, attention = BLOCK_NAMES[self.dialect.name]
        border = self.geometry.border
        mode = "reflect" if self.dialect.padding == "reflect" else "constant"
        padded = functional.pad(x, [self.geometry.pad] * 4, mode=mode)
        branches = []
        for number, corner in enumerate(self.dialect.corners, start=1):
            top, left = self.geometry.offset(corner)
            rows = slice(border, None) if top else slice(None, -border)
            columns = slice(border, None) if left else slice(None, -border)
            branches.append(self.get_submodule(f"{convolution}{number}")(padded[:, :, rows, columns]))
        if self.dialect.relu == "per-branch":
            branches = [functional.relu(branch) for branch in branches]
        total: torch.Tensor = branches[0] + branches[1] + branches[2] + branches[3]
        if self.dialect.relu == "after-sum":
            total = functional.relu(total)
        result: torch.Tensor = self.get_submodule(attention)(total)
        return result
