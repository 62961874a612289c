"""What public CutPaste code calls its weights, brought to torchvision's names, and all of them accounted for.

Facts from public code (Runinho/pytorch-cutpaste; Lieberk/Paddle-SSPCAB, Apache-2.0; liuxtakeoff's
sspcab_paddle, CC BY-SA 4.0), own code. The network is a ResNet-18 called ``resnet18`` with a projection head
``head`` and a classifier ``out`` beside it, of which scores know nothing. One keeps every weight a second
time, in a list of the network's children; another takes the last stage apart and leaves the convolution that
its block replaced. Paddle calls the statistics of batch norms ``_mean`` and ``_variance`` and stores linear
weights transposed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from sspcab_edge.errors import HostError
from sspcab_export.block import find_blocks
from sspcab_export.hosts.resnet18 import STAGES
from sspcab_export.hosts.resnet_names import Renamed, find_children, rename_children, unwrap_stages

__all__ = ["NamedWeights", "check_leftovers", "find_prefixes", "head_width", "name_weights"]

Tensors = Mapping[str, torch.Tensor]

_ANCHOR: Final = "conv1.weight"
_CHILDREN: Final = ("conv1", "bn1", *STAGES)
_UNSCORED: Final = ("head", "out", "fc", "BasicBlock1_conv1")
"""Modules beside the network or at its end that no score depends on."""

_STATISTICS: Final = {"._mean": ".running_mean", "._variance": ".running_var"}
_HEAD_BIAS: Final = re.compile(r"head\.(?P<number>\d+)\.bias")
_NUMBERED: Final = re.compile(r"(?P<group>.+?\.\d+)\.(?P<rest>.+)")
_LAST_STAGE: Final = {
    "BasicBlock0": "layer4.0",
    "BasicBlock1_bn1": "layer4.1.bn1",
    "BasicBlock1_bn2": "layer4.1.bn2",
    "BasicBlock1_conv2": "layer4.1.conv2",
    "sspcab": "layer4.1.conv1",
}
"""Names of a last stage that was taken apart, beside the network -> what they are below its prefix."""


@dataclass(frozen=True, slots=True)
class NamedWeights:
    """The weights of a checkpoint under torchvision's names, each once.

    Attributes:
        prefix: What stands before the network's own names.
        tensors: By key.
        renamed: Path of a module in the checkpoint, by the one it has here, where they differ.
    """

    prefix: str
    tensors: dict[str, torch.Tensor]
    renamed: dict[str, str]


def find_prefixes(tensors: Tensors) -> list[str]:
    """What stands before ``conv1.weight`` of every ResNet in the checkpoint, the shortest first.

    Where there is none, what stands before the numbers of every list of a ResNet's children.
    """
    found = []
    for key, tensor in tensors.items():
        prefix = key[: -len(_ANCHOR)]
        if not key.endswith(_ANCHOR) or (prefix and not prefix.endswith(".")):
            continue
        if tuple(tensor.shape[1:]) == (3, 7, 7) and any(k.startswith(f"{prefix}layer1.0.") for k in tensors):
            found.append(prefix)
    return sorted(found, key=lambda prefix: (len(prefix), prefix)) or find_children(tensors)


def name_weights(tensors: Tensors, prefixes: Sequence[str]) -> NamedWeights:
    """All weights under torchvision's names and torch's conventions, copies left out; their data is shared.

    Args:
        tensors: The checkpoint's.
        prefixes: Of every ResNet in it; the first is taken, the others have to be copies.

    Raises:
        HostError: A weight is there by two names, or a copy differs.
    """
    prefix, children = prefixes[0], Renamed(dict(tensors), {})
    if f"{prefix}{_ANCHOR}" not in tensors:
        children = rename_children(tensors, prefix)
    stages = unwrap_stages(children.tensors, prefix)
    named, last = _whole_last_stage(stages.tensors, prefix)
    renamed = {new: _as_stored(old, children.paths) for new, old in stages.paths.items()} | last
    renamed = {new: old for new, old in children.paths.items() if new not in renamed} | renamed
    if any(key.endswith(tuple(_STATISTICS)) for key in named):
        named = _like_torch(named)
    return NamedWeights(prefix, _without_copies(named, prefixes), renamed)


def _as_stored(path: str, paths: Mapping[str, str]) -> str:
    """A path as the checkpoint has it, where it or one above it was renamed."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        head = ".".join(parts[:length])
        if head in paths:
            return ".".join([paths[head], *parts[length:]])
    return path


def check_leftovers(weights: NamedWeights, used: Collection[str]) -> None:
    """Refuse weights that the network has no place for and that scores might depend on.

    Args:
        weights: The checkpoint's.
        used: Keys of those that the network was built from.

    Raises:
        HostError: Such a weight is there.
    """
    unscored = tuple(f"{root}{name}." for root in _roots(weights.prefix) for name in _UNSCORED)
    left = {
        key: tuple(tensor.shape)
        for key, tensor in weights.tensors.items()
        if key not in used and not key.endswith(".num_batches_tracked") and not key.startswith(unscored)
    }
    if blocks := find_blocks(left):
        raise HostError(
            f"the checkpoint holds a block at {blocks[0].path}, where ResNet-18 has no layer: "
            "its turn is unknown"
        )
    if left:
        raise HostError(
            f"the checkpoint holds {len(left)} weights that CutPaste's ResNet-18 has no place for, first "
            f"{min(left)}: the network was changed in a way that is not known"
        )


def head_width(weights: NamedWeights) -> int | None:
    """How many numbers the projection head gives; None where the checkpoint holds none."""
    for root in _roots(weights.prefix):
        biases: dict[int, int] = {}
        for key, tensor in weights.tensors.items():
            match = _HEAD_BIAS.fullmatch(key.removeprefix(root)) if key.startswith(root) else None
            if match and tensor.ndim == 1:
                biases[int(match["number"])] = len(tensor)
        if biases:
            return biases[max(biases)]
    return None


def _roots(prefix: str) -> Iterator[str]:
    """The prefix and every shorter one above it: ``a.b.`` gives ``a.b.``, ``a.`` and the empty one."""
    parts = prefix.split(".")[:-1]
    for length in range(len(parts), -1, -1):
        yield "".join(f"{part}." for part in parts[:length])


def _whole_last_stage(tensors: Tensors, prefix: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The last stage put together again, where its parts stand beside the network."""
    roots = [root for root in _roots(prefix) if f"{root}BasicBlock0.conv1.weight" in tensors]
    if not roots or any(key.startswith(f"{prefix}layer4.") for key in tensors):
        return dict(tensors), {}
    paths = {f"{roots[0]}{old}": f"{prefix}{new}" for old, new in _LAST_STAGE.items()}
    named = {}
    for key, tensor in tensors.items():
        old = next((path for path in paths if key.startswith(f"{path}.")), None)
        named[key if old is None else paths[old] + key[len(old) :]] = tensor
    return named, {new: old for old, new in paths.items()}


def _like_torch(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Paddle's names and shapes as torch has them."""
    named: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        ending = next((ending for ending in _STATISTICS if key.endswith(ending)), "")
        name = key[: len(key) - len(ending)] + _STATISTICS.get(ending, "")
        if ending and name in tensors:
            raise HostError(f"the checkpoint holds both {key} and {name}, expected one of them")
        named[name] = tensor
    for found in find_blocks({key: tuple(tensor.shape) for key, tensor in named.items()}):
        for linear in ("fc1", "fc2"):
            path = ".".join(part for part in (found.path, found.attention, linear) if part)
            weight, bias = named.get(f"{path}.weight"), named.get(f"{path}.bias")
            if weight is None or bias is None or weight.ndim != 2:
                continue
            if weight.shape[1] == len(bias):  # [in, out] in Paddle, also where both are the same
                named[f"{path}.weight"] = weight.T.contiguous()
    return named


def _without_copies(tensors: dict[str, torch.Tensor], prefixes: Sequence[str]) -> dict[str, torch.Tensor]:
    """Weights but those that repeat the network's: under another prefix, or a child's under a number."""
    children = [f"{prefixes[0]}{child}." for child in _CHILDREN]
    own = {key: tensor for key, tensor in tensors.items() if key.startswith(tuple(children))}
    for prefix in prefixes[1:]:
        for child in _CHILDREN:
            _drop_copy(tensors, f"{prefix}{child}.", f"{prefixes[0]}{child}.", own)
    for found in find_blocks({key: tuple(tensor.shape) for key, tensor in tensors.items()}):
        if not any(part.isdigit() for part in found.path.split(".")):
            children.append(f"{found.path}.")
            own |= {f"{found.path}.{key}": tensors[f"{found.path}.{key}"] for key in found.shapes}
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key not in own and (match := _NUMBERED.fullmatch(key)):
            groups.setdefault(match["group"], {})[match["rest"]] = tensor
    for group, content in groups.items():
        alike = [child for child in children if _same_shapes(content, child, own)]
        same = [child for child in alike if all(_equal(own[child + k], t) for k, t in content.items())]
        if alike:
            _drop_copy(tensors, f"{group}.", (same or alike)[0], own)
    return tensors


def _drop_copy(tensors: dict[str, torch.Tensor], copy: str, original: str, own: Tensors) -> None:
    """Take out what lies below ``copy`` and equals what the network has below ``original``."""
    for key in [key for key in tensors if key.startswith(copy)]:
        twin = original + key[len(copy) :]
        if twin not in own:
            continue
        if not _equal(own[twin], tensors[key]):
            raise HostError(
                f"{key} differs from {twin}, of which it should be a copy: which is right is unknown"
            )
        del tensors[key]


def _same_shapes(content: Tensors, child: str, own: Tensors) -> bool:
    return all(child + key in own and own[child + key].shape == t.shape for key, t in content.items())


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.float(), other.float())
