"""Other arrangements of a ResNet-18 under torchvision's names: lists of children, stages and a block as one.

People put a block into a network that they did not write by wrapping what is there:
``Sequential(layer3, block)``, ``Sequential(block, layer4)``, or ``Sequential(*network.children())`` with the
block among the children. Which part is what follows from shapes and order alone. The block becomes one more
element of the stage that it runs after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sspcab_edge.errors import HostError
from sspcab_export.block import find_blocks

__all__ = ["Renamed", "find_children", "rename_children", "unwrap_stages"]

Tensors = Mapping[str, torch.Tensor]

_STAGES = ("layer1", "layer2", "layer3", "layer4")
_STEM = (3, 7, 7)


@dataclass(frozen=True, slots=True)
class Renamed:
    """Weights under other names.

    Attributes:
        tensors: By new key; their data is shared.
        paths: Path of a module in the checkpoint by the one it has here, where they differ.
    """

    tensors: dict[str, torch.Tensor]
    paths: dict[str, str]


def find_children(tensors: Tensors) -> list[str]:
    """What stands before ``0.weight`` of every list of a ResNet's children, the shortest first."""
    found = []
    for key, tensor in tensors.items():
        prefix = key.removesuffix("0.weight")
        if key == prefix or (prefix and not prefix.endswith(".")) or tuple(tensor.shape[1:]) != _STEM:
            continue
        if any(_holds_stage(tensors, f"{prefix}{number}") for number in _numbers(tensors, prefix)):
            found.append(prefix)
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def rename_children(tensors: Tensors, prefix: str) -> Renamed:
    """A list of children under torchvision's names, below the same prefix.

    Raises:
        HostError: There are more than four stages, or a block stands before the first.
    """
    blocks = _blocks(tensors)
    paths: dict[str, str] = {f"{prefix}0": f"{prefix}conv1", f"{prefix}1": f"{prefix}bn1"}
    stages = 0
    loose: list[tuple[str, int]] = []
    for number in _numbers(tensors, prefix):
        path = f"{prefix}{number}"
        if _holds_stage(tensors, path):
            if stages == len(_STAGES):
                raise HostError(f"{path} is a fifth stage of residual blocks, expected the four of ResNet-18")
            paths[path] = f"{prefix}{_STAGES[stages]}"
            stages += 1
        elif path in blocks:
            if not stages:
                raise HostError(f"the block at {path} stands before the first stage, expected it after one")
            loose.append((path, stages - 1))
        elif path not in paths:
            paths[path] = f"{prefix}fc"
    if stages == len(_STAGES) - 1 and len(loose) == 1 and loose[0][1] == stages - 1:
        paths[loose[0][0]] = f"{prefix}{_STAGES[-1]}"  # the block stands for the last stage
        loose = []
    named = _renamed(tensors, paths)
    for path, stage in loose:
        target = f"{prefix}{_STAGES[stage]}"
        paths[path] = f"{target}.{_next(named, target)}"
        named = _renamed(tensors, paths)
    return Renamed(named, {new: old for old, new in paths.items()})


def unwrap_stages(tensors: Tensors, prefix: str) -> Renamed:
    """Stages that were wrapped together with a block, as stages: the block becomes an element of one.

    Raises:
        HostError: What stands beside the stage is no block.
    """
    blocks = _blocks(tensors)
    paths: dict[str, str] = {}
    counts = {name: len(_numbers(tensors, f"{prefix}{name}.")) for name in _STAGES}
    for index, name in enumerate(_STAGES):
        stage = f"{prefix}{name}"
        members = _numbers(tensors, f"{stage}.")
        inner = [number for number in members if f"{stage}.{number}.0.conv1.weight" in tensors]
        if not inner:
            continue
        others = [number for number in members if number not in inner]
        stray = [number for number in others if f"{stage}.{number}" not in blocks]
        if len(inner) > 1 or stray:
            odd = f"{stage}.{stray[0] if stray else inner[1]}"
            raise HostError(f"{stage} wraps a stage with {odd}, expected an SSPCAB block beside the stage")
        elements = _numbers(tensors, f"{stage}.{inner[0]}.")
        before = [number for number in others if number < inner[0]]
        shift = len(before) if index == 0 else 0
        for element in elements:
            paths[f"{stage}.{inner[0]}.{element}"] = f"{stage}.{element + shift}"
        counts[name] = len(elements) + shift
        for number in others:
            if number > inner[0]:
                place, home = counts[name], name
            elif index == 0:
                place, home = before.index(number), name
            else:
                home = _STAGES[index - 1]
                place = counts[home]
            if place == counts[home]:
                counts[home] += 1
            paths[f"{stage}.{number}"] = f"{prefix}{home}.{place}"
    return Renamed(_renamed(tensors, paths), {new: old for old, new in paths.items()})


def _holds_stage(tensors: Tensors, path: str) -> bool:
    """Whether basic blocks lie below a path, with or without a block around them."""
    inside = (f"{path}.0.", f"{path}.0.0.", f"{path}.1.0.")
    return any(f"{one}conv1.weight" in tensors and f"{one}bn1.weight" in tensors for one in inside)


def _numbers(tensors: Tensors, prefix: str) -> list[int]:
    """Numbers that follow a prefix, in order."""
    parts = {key[len(prefix) :].partition(".")[0] for key in tensors if key.startswith(prefix)}
    return sorted(int(part) for part in parts if part.isdecimal())


def _next(tensors: Tensors, path: str) -> int:
    return len(_numbers(tensors, f"{path}."))


def _blocks(tensors: Tensors) -> set[str]:
    return {found.path for found in find_blocks({key: tuple(one.shape) for key, one in tensors.items()})}


def _renamed(tensors: Tensors, paths: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The tensors with each path put in place of the one before it; the longest that fits counts."""
    named: dict[str, torch.Tensor] = {}
    longest = sorted(paths, key=len, reverse=True)
    for key, tensor in tensors.items():
        old = next((path for path in longest if key.startswith(f"{path}.")), None)
        named[key if old is None else paths[old] + key[len(old) :]] = tensor
    return named
