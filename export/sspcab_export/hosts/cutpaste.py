"""CutPaste: a ResNet-18 whose embedding of a picture is compared with those of normal ones.

Method of Li et al., CVPR 2021 (arXiv 2104.04015), weights as public code names them, own code. The embedding
is the mean over the last feature map, divided by its length; the score is its Mahalanobis distance to a
Gaussian of normal embeddings, or minus the log of their kernel density. No checkpoint stores either: they are
fitted to normal frames, or come as arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import msgspec
import torch

from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_export.block import check_map_size
from sspcab_export.checkpoints import Checkpoint
from sspcab_export.density import check_bandwidth
from sspcab_export.hosts.base import HostOptions, LoadedHost
from sspcab_export.hosts.cutpaste_density import NoDensity, UnfittedCutPaste, fit_to_frames, from_arrays
from sspcab_export.hosts.cutpaste_keys import check_leftovers, find_prefixes, head_width, name_weights
from sspcab_export.hosts.draem_loading import DEFAULT_DILATION
from sspcab_export.hosts.resnet18 import ResNetBuilder

__all__ = ["DEFAULT_SIZE", "OPTIONS", "load", "networks", "recognise"]

OPTIONS = frozenset(
    {"allow_no_block", "bandwidth", "density", "density_arrays", "dialect", "dilation", "input_size"}
    | {"normalisation", "patch_map", "resize"}
)
"""What CutPaste looks at."""

DEFAULT_SIZE = (256, 256)
"""(height, width) of CutPaste's input in pixels."""

_LEAST_SIDE = 32


def recognise(checkpoint: Checkpoint) -> bool:
    """Whether a ResNet is in the checkpoint: a 7x7 convolution of three channels, and a first stage."""
    return bool(find_prefixes(checkpoint.tensors))


def networks(tensors: Mapping[str, torch.Tensor]) -> tuple[list[str]]:
    """The prefixes of the ResNet's weights."""
    return (find_prefixes(tensors),)


def load(checkpoint: Checkpoint, options: HostOptions) -> LoadedHost:
    """Build the network from keys and shapes. The host is ready where its density comes as arrays.

    Raises:
        HostError: The network contradicts itself, is none that is known, or holds no block.
        CheckpointError: The file of arrays is damaged or holds no density.
        OptionError: An option cannot be met.
    """
    _check(options)
    network = _network(checkpoint, options)
    if options.density_arrays is not None:
        return from_arrays(network, options.density_arrays)
    return replace(network.host, fit=partial(fit_to_frames, network))


def _check(options: HostOptions) -> None:
    if options.density not in (None, "mahalanobis", "kde"):
        raise OptionError(f"unknown density {options.density!r}: expected mahalanobis or kde")
    if options.bandwidth is not None:
        check_bandwidth(options.bandwidth)
        if options.density != "kde":
            raise OptionError("--bandwidth is of kernel densities: give it with --density kde only")
    height, width = options.input_size or DEFAULT_SIZE
    if min(height, width) < _LEAST_SIDE:
        raise OptionError(
            f"input size is {height}x{width}, expected at least {_LEAST_SIDE}x{_LEAST_SIDE}: one value of "
            "the last feature map stands for as many pixels"
        )


def _network(checkpoint: Checkpoint, options: HostOptions) -> UnfittedCutPaste:
    size = options.input_size or DEFAULT_SIZE
    tensors = checkpoint.tensors
    weights = name_weights(tensors, find_prefixes(tensors))
    dilation = DEFAULT_DILATION if options.dilation is None else options.dilation
    builder = ResNetBuilder(weights.tensors, options.dialect, dilation)
    backbone = builder.resnet18(weights.prefix)
    check_leftovers(weights, builder.used)
    if not builder.specs and not options.allow_no_block:
        raise HostError(
            f"{checkpoint.parts[0].path} is a CutPaste without the SSPCAB block: "
            "export it all the same with --allow-no-block"
        )
    for spec in builder.specs:
        check_map_size(spec, *_map_size(size, builder.strides[spec.path]))
    names = {spec.path: weights.renamed.get(spec.path, spec.path) for spec in builder.specs}
    blocks = [msgspec.structs.replace(spec, path=names[spec.path]) for spec in builder.specs]
    host = LoadedHost(
        name="cutpaste",
        source=NoDensity(),
        blocks=tuple(sorted(blocks, key=lambda spec: spec.path)),
        preprocess=Preprocess(width=size[1], height=size[0], resize=options.resize or "pil-cubic"),
        map_size=None,
        threshold=None,
        overrides=_overrides(options),
        assumptions=_assumptions(options, builder),
    )
    return UnfittedCutPaste(
        host=host,
        backbone=backbone,
        normalisation=options.normalisation or "imagenet",
        map_size=_map_size(size, builder.stride),
        kind=options.density or "mahalanobis",
        bandwidth=options.bandwidth,
        patch_map=options.patch_map,
        head_width=head_width(weights),
    )


def _map_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(h, w) of a map after so many halvings, each of which rounds up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def _assumptions(options: HostOptions, builder: ResNetBuilder) -> tuple[str, ...]:
    said = [
        f"the block at {path} runs after {stage}: only there are as many channels"
        for path, stage in builder.places.items()
    ]
    if builder.specs and options.dilation is None:
        said.append(f"dilation {DEFAULT_DILATION}, the paper's: no checkpoint stores it")
    if options.input_size is None:
        said.append(f"input size {DEFAULT_SIZE[0]}x{DEFAULT_SIZE[1]}, as in public CutPaste code")
    if options.resize is None:
        said.append(
            "frames are resized with pil-cubic, as PIL does where no filter is named, as in public code"
        )
    if options.normalisation is None:
        said.append("pixels are normalised as for ImageNet, as in public CutPaste code")
    return tuple(said)


def _overrides(options: HostOptions) -> dict[str, str]:
    given = {
        "dialect": options.dialect,
        "dilation": None if options.dilation is None else str(options.dilation),
        "input-size": None if options.input_size is None else "x".join(map(str, options.input_size)),
        "normalisation": options.normalisation,
        "resize": options.resize,
        "density": options.density,
        "bandwidth": None if options.bandwidth is None else f"{options.bandwidth:g}",
    }
    return {name: value for name, value in given.items() if value is not None}
