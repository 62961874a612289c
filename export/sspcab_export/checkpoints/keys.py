"""Names of weights without what trainers, wrappers and profilers put around them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch

__all__ = [
    "Tidied",
    "is_beside",
    "is_counter",
    "is_loss",
    "is_training_state",
    "is_wrapper",
    "spread",
    "tidy",
    "unwrapped",
]

Tensors = Mapping[str, torch.Tensor]

_WRAPPING: Final = frozenset(
    {"_checkpoint_wrapped_module", "_forward_module", "_fpw_module", "_fsdp_wrapped_module", "_orig_mod"}
    | {"module"}
)
"""What DataParallel, DistributedDataParallel, FSDP, Fabric and torch.compile put into names, at any place."""

_CONTAINERS: Final = frozenset({"model_state_dict", "state_dict"})
"""Keys around a whole state dict that say nothing else."""

_COUNTERS: Final = frozenset({"n_averaged", "num_batches_tracked", "total_ops", "total_params"})
"""Of averaged models, batch norms and profilers of operations: no output depends on them."""

_TRAINING_STATE: Final = re.compile(
    r"callbacks|loops|(.*_)?(optim|optimi[sz]er)s?(_?[A-Za-z0-9]{1,2}|_?states?|_?state_?dicts?)?"
    r"|opt(_?[A-Z0-9]|_state)?|(.*_)?(lr_?)?schedulers?(_state(_dict)?|_states|_?[A-Z0-9])?"
    r"|(.*_)?rng(_states?)?(_.*)?|random_states?|LR_Scheduler"
)
"""Keys of dicts that hold what only further training needs."""

_STEP_NAMES: Final = re.compile(
    r"epochs?|(global_)?steps?|iter(ation)?s?|n_iter|best_\w+|lr|loss|seed|\w*rng\w*"
)
_LOSS: Final = re.compile(
    r"criteri(on|a)s?(_.*)?|(.*_)?loss(es)?(_.*)?|lpips|pos_weight|(.*_)?perceptual(_.*)?"
)
_BESIDE: Final = re.compile(
    r"(.*_)?metrics?(_.*)?|(.*_)?(acc|accuracy|auroc|auc|aupro|f1|f1_score)|(.*_)?(ema|swa|averaged)(_.*)?|teacher"
)


@dataclass(frozen=True, slots=True)
class Tidied:
    """Weights under the names that the network's own code has for them, as far as that can be told.

    Attributes:
        tensors: By name.
        held: Key in the file of each whose name differs, by name.
        set_aside: Keys in the file of what no output depends on, those of a kind as one: ``optim.*``.
    """

    tensors: dict[str, torch.Tensor]
    held: dict[str, str]
    set_aside: tuple[str, ...]


def unwrapped(key: str) -> str:
    """The key without segments that wrappers put into it."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPING) or key


def is_wrapper(part: str) -> bool:
    """Whether a segment of a key is a wrapper's."""
    return part in _WRAPPING


def is_counter(key: str) -> bool:
    """Whether a key is of a counter, which no output depends on."""
    return key.rpartition(".")[2] in _COUNTERS


def is_training_state(name: str) -> bool:
    """Whether what a dict holds under this name is needed for further training alone."""
    return _TRAINING_STATE.fullmatch(name) is not None


def is_loss(key: str) -> bool:
    """Whether a key lies in a loss, or a network that a loss looks through."""
    return any(_LOSS.fullmatch(part) for part in key.split("."))


def is_beside(key: str) -> bool:
    """Whether a key lies in a metric or a copy of the network that training kept beside it."""
    return any(_BESIDE.fullmatch(part) for part in key.split("."))


def tidy(tensors: Tensors, homes: Mapping[str, str]) -> Tidied:
    """Wrappers out of the names, counters, losses and steps set aside. Names that would fall together stay.

    Args:
        tensors: By key in the file.
        homes: Path of the dict that each lies in, by its key.
    """
    steps = len(set(homes.values())) > 1
    names: dict[str, list[str]] = {}
    aside: list[str] = []
    for key, tensor in tensors.items():
        counts = is_counter(key) and not key.endswith("num_batches_tracked")
        if counts or is_loss(key) or (steps and _is_step(key, homes[key], tensor)):
            aside.append(key)
        else:
            names.setdefault(_name(key, homes[key]), []).append(key)
    kept, held = {}, {}
    for name, keys in names.items():
        same = _equal(tensors, keys)
        for key in keys[:1] if same else keys:
            own = name if same else key
            kept[own] = tensors[key]
            if own != key:
                held[own] = key
    return Tidied(kept, held, spread(aside))


def spread(keys: Iterable[str]) -> tuple[str, ...]:
    """Keys in few words: those with one first segment, or one last one at many places, become one."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        leaf = key.rpartition(".")[2]
        groups.setdefault(leaf if leaf in _COUNTERS else key.partition(".")[0], []).append(key)
    return tuple(
        group[0] if len(group) == 1 else f"*.{name}" if name in _COUNTERS else f"{name}.*"
        for name, group in sorted(groups.items())
    )


def _name(key: str, home: str) -> str:
    """The key without wrappers, and without the containers that it lies in and that say nothing."""
    parts, depth = key.split("."), len(home.split(".")) if home else 0
    kept = [
        part
        for number, part in enumerate(parts)
        if part not in _WRAPPING and not (number < depth and part in _CONTAINERS)
    ]
    return ".".join(kept) or key


def _is_step(key: str, home: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor beside dicts of weights is a number that training counted, or a random state."""
    name = key[len(home) + 1 :] if home else key
    return (
        "." not in name and _STEP_NAMES.fullmatch(name) is not None and (tensor.numel() == 1 or "rng" in name)
    )


def _equal(tensors: Tensors, keys: list[str]) -> bool:
    first = tensors[keys[0]]
    return all(t.shape == first.shape and torch.equal(t, first) for t in (tensors[key] for key in keys[1:]))
