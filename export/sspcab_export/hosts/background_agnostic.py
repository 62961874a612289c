"""The Background-Agnostic framework (Georgescu et al., TPAMI 2021, arXiv 2008.12328): object auto-encoders.

Of each object one grey picture and the flow to the frame before and to the frame after are auto-encoded; a
classifier sees each one's absolute error and code and says how normal they are. Its authors publish no code
that may be used, so the layout of weights is our own, documented in ``docs/checkpoints.md``; the architecture
follows the published description: 64x64 crops, three convolutions of 32, 32 and 16 filters, nearest
upsampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.ports import object_ports
from sspcab_export.block import check_map_size
from sspcab_export.checkpoints import Checkpoint
from sspcab_export.contract.inputs import GREY_WEIGHTS
from sspcab_export.hosts.base import HostOptions, LoadedHost, VideoInputs
from sspcab_export.hosts.draem_loading import DEFAULT_DILATION, find_prefix, find_prefixes
from sspcab_export.hosts.stages import StageBuilder
from sspcab_export.hosts.torch_source import DetectorSource

__all__ = ["OPTIONS", "BackgroundAgnostic", "load", "networks", "recognise"]

OPTIONS = frozenset({"allow_no_block", "dialect", "dilation", "input_size"})
"""What the framework looks at."""

STREAMS = ("appearance", "backward", "forward")
"""Its three auto-encoders, by what they see."""

PAIRS = ((0, -1), (0, 1))
"""Flow to the frame before, and to the one after."""

_ANCHOR = "appearance.encoder.0.weight"
_SIZE = (64, 64)
_SCALES = 3
_BATCH = 32


class Stream(nn.Module):
    """One auto-encoder with its classifier.

    Args:
        encoder: Three convolutions.
        decoder: Four, or three and a block in the place of the third.
        judges: Convolutions of the classifier: three on the error, one more on their map and the code.
        head: Its last layer.
        skips: Which of the decoder's first three see the encoder's map of the same size, too.
    """

    def __init__(
        self,
        encoder: list[nn.Module],
        decoder: list[nn.Module],
        judges: list[nn.Module],
        head: nn.Module,
        skips: tuple[bool, ...],
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.judges, self.head, self.skips = nn.ModuleList(judges), head, skips

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> how normal each is, (N,), in (0, 1)."""
        maps, code = [], x
        for layer in self.encoder:
            maps.append(functional.relu(layer(code)))
            code = functional.max_pool2d(maps[-1], 2)
        rebuilt = code
        for layer, skip in zip(self.decoder, self.skips, strict=False):
            rebuilt = functional.interpolate(rebuilt, scale_factor=2, mode="nearest")
            seen = maps.pop()
            rebuilt = layer(torch.cat([rebuilt, seen], dim=1) if skip else rebuilt)
            if isinstance(layer, nn.Conv2d):
                rebuilt = functional.relu(rebuilt)
        error = (x - self.decoder[-1](rebuilt)).abs()
        for layer in list(self.judges)[:-1]:
            error = functional.max_pool2d(functional.relu(layer(error)), 2)
        last = functional.relu(self.judges[-1](torch.cat([error, code], dim=1)))
        return torch.sigmoid(self.head(last.mean(dim=(2, 3))))[:, 0]


class BackgroundAgnostic(nn.Module):
    """The three streams; the score is one minus the mean of what they say.

    Args:
        streams: In the order of :data:`STREAMS`.
        grey: Whether the first sees one grey channel.
    """

    def __init__(self, streams: Sequence[nn.Module], *, grey: bool) -> None:
        super().__init__()
        self.streams, self.grey = nn.ModuleList(streams), grey
        self.luma = nn.Parameter(torch.tensor(GREY_WEIGHTS).reshape(1, 3, 1, 1), requires_grad=False)

    def forward(self, appearance: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 1, H, W, 3) RGB, float32 (N, 2, H, W, 2) -> scores (N,), 0 normal to 1."""
        # TensorRT wants a cast behind every uint8 input, before anything else
        picture = appearance.float()[:, 0].permute(0, 3, 1, 2) / 255
        if self.grey:
            picture = (picture * self.luma).sum(dim=1, keepdim=True)
        moved = flow.permute(0, 1, 4, 2, 3)
        seen = (picture, moved[:, 0], moved[:, 1])
        normal = torch.stack([stream(x) for stream, x in zip(self.streams, seen, strict=True)])
        return 1 - normal.mean(dim=0)


def recognise(checkpoint: Checkpoint) -> bool:
    """Whether the auto-encoder of appearance is in the checkpoint, and one of motion."""
    keys = checkpoint.tensors
    prefix = [key[: -len(_ANCHOR)] for key in keys if key == _ANCHOR or key.endswith("." + _ANCHOR)]
    return any(f"{one}backward.encoder.0.weight" in keys for one in prefix)


def networks(keys: Iterable[str]) -> tuple[list[str]]:
    """The prefixes of the host's weights."""
    return (find_prefixes(keys, _ANCHOR),)


def load(checkpoint: Checkpoint, options: HostOptions) -> LoadedHost:
    """Build the three streams; widths come from shapes.

    Raises:
        HostError: The networks contradict themselves, or hold no block.
        OptionError: An option cannot be met.
    """
    tensors = checkpoint.tensors
    prefix = find_prefix(tensors, _ANCHOR) or ""
    dilation = DEFAULT_DILATION if options.dilation is None else options.dilation
    builder = StreamBuilder(tensors, options.dialect, dilation)
    size = options.input_size or _SIZE
    if any(side % 2**_SCALES for side in size):
        raise OptionError(f"crops are {size[0]}x{size[1]} pixels, expected multiples of {2**_SCALES}")
    first = tensors[f"{prefix}{_ANCHOR}"]
    channels = {"appearance": int(first.shape[1]) if first.ndim == 4 else 0, "backward": 2, "forward": 2}
    if channels["appearance"] not in (1, 3):
        raise HostError(f"{prefix}{_ANCHOR} has shape {tuple(first.shape)}, expected 1 or 3 channels in")
    streams = [builder.stream(f"{prefix}{name}", channels[name]) for name in STREAMS]
    where = checkpoint.parts[0].path
    unknown = [key for key in tensors if key not in builder.used]
    if unknown:
        raise HostError(
            f"{where} holds {len(unknown)} weights that the framework has not, such as {unknown[0]}"
        )
    if not builder.specs and not options.allow_no_block:
        raise HostError(
            f"{where} is a Background-Agnostic framework without the SSPCAB block: export it all the same "
            "with --allow-no-block"
        )
    for spec in builder.specs:
        check_map_size(spec, *size)
    inputs, _ = object_ports(*size, (0,), PAIRS)
    network = BackgroundAgnostic(streams, grey=channels["appearance"] == 1)
    assumptions = []
    if builder.specs and options.dilation is None:
        assumptions.append(f"dilation {DEFAULT_DILATION}, the paper's: no checkpoint stores it")
    overrides = {
        "dialect": options.dialect,
        "dilation": None if options.dilation is None else str(options.dilation),
        "input-size": None if options.input_size is None else "x".join(map(str, options.input_size)),
    }
    return LoadedHost(
        name="background-agnostic",
        source=DetectorSource(network, inputs, has_map=False, batch=_BATCH),
        blocks=tuple(builder.specs),
        preprocess=Preprocess(width=size[1], height=size[0], resize="opencv-linear"),
        map_size=None,
        threshold=None,
        overrides={name: value for name, value in overrides.items() if value is not None},
        assumptions=tuple(assumptions),
        video=VideoInputs(inputs, 0.0),
    )


@dataclass
class StreamBuilder(StageBuilder):
    """Builds the streams; the block stands in the place of the decoder's third, penultimate convolution."""

    def stream(self, path: str, channels: int) -> Stream:
        """One auto-encoder and its classifier.

        Raises:
            HostError: Tensors are missing, not finite, or their shapes do not follow.
        """
        encoder, widths, width = [], [], channels
        for number in range(_SCALES):
            layer, width = self._layer(f"{path}.encoder.{number}", width)
            encoder.append(layer)
            widths.append(width)
        code, decoder, skips = width, [], []
        for number in range(_SCALES):
            at = f"{path}.decoder.{number}"
            both = width + widths[_SCALES - 1 - number]
            skip = self._channels_in(at) == both
            layer, width = self._layer(at, both if skip else width)
            decoder.append(layer)
            skips.append(skip)
        layer, width = self._layer(f"{path}.decoder.{_SCALES}", width)
        if width != channels:
            raise HostError(
                f"{path}.decoder.{_SCALES} gives {width} channels, expected {channels}: those of its input"
            )
        decoder.append(layer)
        judges = []
        for number in range(_SCALES + 1):
            layer, width = self._layer(
                f"{path}.classifier.{number}", width + code if number == _SCALES else width
            )
            judges.append(layer)
        weight, bias = (self._take(f"{path}.classifier.head.{kind}") for kind in ("weight", "bias"))
        if tuple(weight.shape) != (1, width) or tuple(bias.shape) != (1,):
            raise HostError(
                f"{path}.classifier.head.weight has shape {tuple(weight.shape)}, expected {(1, width)}"
            )
        head = nn.Linear(width, 1)
        head.weight, head.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
        return Stream(encoder, decoder, judges, head.requires_grad_(False), tuple(skips))

    def _channels_in(self, path: str) -> int:
        if path in self.blocks_found:
            return self._blocks[path].channels
        return int(self._take(f"{path}.weight").shape[1])
