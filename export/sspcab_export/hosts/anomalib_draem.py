"""DRAEM as anomalib trains it: ``Draem(enable_sspcab=True)``, Lightning checkpoints of versions 1 and 2.

Facts from open-edge-platform/anomalib (Apache-2.0), own code. Against the authors' DRAEM: RGB, the picture
before its reconstruction in the discriminative input, the score is the plain maximum of the map, frames are
resized with an antialiased filter, and the threshold lies in the checkpoint. Whether pixels are normalised
changed with the version: 1.x stored its transform, which is read; 2.1 and later do not normalise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch

from sspcab_edge.errors import HostError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_export.checkpoints import Checkpoint
from sspcab_export.checkpoints.inert import Stub
from sspcab_export.hosts.base import HostOptions, LoadedHost, Normalisation
from sspcab_export.hosts.draem_loading import OPTIONS, load_draem, mean_filter, networks
from sspcab_export.hosts.draem_network import (
    DEFAULT_SIZE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    RECONSTRUCTIVE_ANCHOR,
    DraemSemantics,
)

__all__ = ["OPTIONS", "load", "networks", "recognise"]

_NETWORK = "reconstructive_subnetwork."


def recognise(checkpoint: Checkpoint) -> bool:
    """Whether the reconstructive network lies under anomalib's name for it."""
    return any(key.endswith(_NETWORK + RECONSTRUCTIVE_ANCHOR) for key in checkpoint.tensors)


def load(checkpoint: Checkpoint, options: HostOptions) -> LoadedHost:
    """Build both networks, and read normalisation, input size and threshold from the checkpoint.

    Raises:
        HostError: The networks contradict themselves, hold no block, or nothing tells the normalisation.
        OptionError: An option cannot be met.
    """
    facts, tensors = checkpoint.facts, checkpoint.tensors
    assumptions: list[str] = []
    transforms = list(_transforms(facts))
    normalisation = options.normalisation or _normalisation(checkpoint, transforms, assumptions)
    size = options.input_size or _resize(transforms)
    if size is None:
        size = DEFAULT_SIZE
        assumptions.append(f"input size {size[0]}x{size[1]}, anomalib's default for DRAEM")
    return load_draem(
        "anomalib-draem",
        checkpoint,
        options,
        DraemSemantics(
            colour="RGB", first="image", mean_filter=mean_filter(options, 1), normalisation=normalisation
        ),
        Preprocess(width=size[1], height=size[0], resize=options.resize or "antialias-linear"),
        threshold=_threshold(tensors),
        assumptions=tuple(assumptions),
    )


def _is_version_1(checkpoint: Checkpoint) -> bool:
    """Version 1 names its metrics in the state dict; version 2 has a post-processor there."""
    keys = (*checkpoint.tensors, *checkpoint.facts)
    old = ("image_threshold", "normalization_metrics", "image_metrics")
    return any(part in old or part.endswith("_threshold_class") for key in keys for part in key.split("."))


def _normalisation(checkpoint: Checkpoint, transforms: list[Stub], assumptions: list[str]) -> Normalisation:
    for stub in transforms:
        if stub.name == "Normalize":
            return _known_normalisation(stub)
    if any(stub.name in ("Compose", "Resize") for stub in transforms):
        return "none"
    if _is_version_1(checkpoint):
        raise HostError(
            f"{checkpoint.parts[0].path} is of anomalib 1 without its transform, and its versions normalise "
            "differently: say --normalisation imagenet (before 1.2) or --normalisation none (1.2)"
        )
    assumptions.append("pixels are not normalised, as in anomalib 2.1 and later")
    return "none"


def _known_normalisation(stub: Stub) -> Normalisation:
    state = stub.state if isinstance(stub.state, Mapping) else {}
    mean, std = state.get("mean"), state.get("std")
    got = [float(value) for part in (mean, std) if isinstance(part, (list, tuple)) for value in part]
    if got != [*IMAGENET_MEAN, *IMAGENET_STD]:
        raise HostError(
            f"the checkpoint normalises with mean {mean} and std {std}, expected ImageNet's: "
            "only those are supported for anomalib's DRAEM"
        )
    return "imagenet"


def _transforms(facts: Mapping[str, object]) -> Iterator[Stub]:
    """Stubs of the stored picture transforms: version 1's ``transform``, version 2's pre-processor."""
    for key, value in facts.items():
        if key == "transform" or "pre_processor" in key or ".transform" in key:
            yield from _stubs_in(value)


def _stubs_in(value: object) -> Iterator[Stub]:
    """Every stub in a value, each once, outer ones first."""
    left, seen = [value], set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        below: Iterable[object] = ()
        if isinstance(value, Stub):
            yield value
            below = (value.state, *value.arguments, value.entries, value.elements)
        elif isinstance(value, Mapping):
            below = value.values()
        elif isinstance(value, (list, tuple)):
            below = value
        left.extend(reversed(list(below)))


def _resize(transforms: list[Stub]) -> tuple[int, int] | None:
    """(height, width) of the stored Resize transform."""
    for stub in transforms:
        size = stub.state.get("size") if isinstance(stub.state, Mapping) else None
        if stub.name == "Resize" and isinstance(size, (list, tuple)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def _threshold(tensors: Mapping[str, torch.Tensor]) -> float | None:
    """The raw image threshold, or the pixel threshold that anomalib falls back to; None where unfitted."""
    endings = ("_image_threshold", "image_threshold.value", "_pixel_threshold", "pixel_threshold.value")
    for ending in endings:
        for key, tensor in tensors.items():
            if (key == ending or key.endswith("." + ending)) and tensor.numel() == 1:
                value = float(tensor)
                if math.isfinite(value):
                    return value
    return None
