"""What lies in a loaded checkpoint, by dotted key: tensors, plain values, whole modules as their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch

from sspcab_edge.errors import CheckpointError
from sspcab_export.checkpoints.arrays import Array
from sspcab_export.checkpoints.inert import Stub
from sspcab_export.checkpoints.keys import is_training_state, is_wrapper
from sspcab_export.checkpoints.rebuild import Unreadable

__all__ = ["MAX_TENSORS", "Contents", "contents_of", "is_module"]

MAX_TENSORS = 100_000
"""Most tensors of one file. The largest networks in use here have a few thousand."""

_MAX_VISITS = 2_000_000
_MAX_DEPTH = 48
_SHORT = 64
_PADDLE_SLICES = "UnpackBigParamInfor@@"
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
"""What ``torch.compile`` makes of a module; newer torch pickles it as a call with the module itself."""

_MODULE_PARTS = ("_parameters", "_buffers", "_modules")


@dataclass(slots=True)
class Contents:
    """A checkpoint in dotted keys.

    Attributes:
        tensors: Its tensors.
        homes: Dotted path of the mapping or module that each of them lay in, by its key.
        facts: Everything else: numbers, strings, stubs of absent classes.
        modules: Name of the class of every whole module, by its path.
        set_aside: Paths of what only further training needs, which was not looked at.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)
    set_aside: list[str] = field(default_factory=list)


def contents_of(loaded: object, *, paddle: bool = False) -> Contents:
    """Tensors and facts of what was loaded. Arrays are tensors where nothing else is.

    Args:
        loaded: What the file holds.
        paddle: Whether Paddle wrote it, whose arrays of uint16 are bfloat16.

    Raises:
        CheckpointError: It nests too deep or in itself, or holds more tensors than any network.
    """
    walk = _Walk(paddle)
    walk.visit(loaded, "", "", 0, inside=False)
    if not walk.found.tensors:
        walk.found.tensors = {key: _from_array(array, paddle) for key, array in walk.arrays.items()}
    else:
        walk.found.facts |= {key: array.values for key, array in walk.arrays.items()}
    walk.found.homes = {key: walk.found.homes[key] for key in walk.found.tensors}
    return walk.found


def is_module(value: object) -> bool:
    """Whether a stub stands for a ``torch.nn.Module``: its state has parameters, buffers and submodules."""
    return _parts_of(value) is not None


def _parts_of(value: object) -> Mapping[str, object] | None:
    if not isinstance(value, Stub):
        return None
    if value.of == _COMPILED and value.arguments:
        return {"_parameters": {}, "_modules": {"_orig_mod": value.arguments[0]}}
    states = [value.state, *value.arguments[:1]]  # a module of torch.fx is rebuilt from the first argument
    for state in states:
        if isinstance(state, dict) and all(isinstance(state.get(part), dict) for part in _MODULE_PARTS[::2]):
            return state
    return None


class _Walk:
    """One pass over everything that is held, each entry once for every way that leads to it."""

    def __init__(self, paddle: bool) -> None:
        self.found = Contents()
        self.arrays: dict[str, Array] = {}
        self._paddle = paddle
        self._visits = 0
        self._above: set[int] = set()

    def visit(self, value: object, key: str, home: str, depth: int, *, inside: bool) -> None:
        """Take a value, and what is below it; ``inside`` a whole module or not."""
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise CheckpointError(f"it holds more than {_MAX_VISITS} entries, expected a checkpoint")
        if isinstance(value, torch.Tensor):
            self._add(key, home)
            self.found.tensors[key] = value.detach()
        elif isinstance(value, Array) and value.values is not None and value.values.dtype.kind in "biufc":
            self._add(key, home)
            self.arrays[key] = value
        elif isinstance(value, Unreadable):
            raise CheckpointError(
                f"{key or 'it'} is {value.kind}, expected plain weights: save the network's state_dict "
                "before it is quantised, sharded or moved there"
            )
        elif self._named_array(value):
            self.visit(value[1], key, home, depth, inside=inside)  # type: ignore[index]
        else:
            self._below(value, key, home, depth, inside=inside)

    def _add(self, key: str, home: str) -> None:
        self.found.homes[key] = home
        if len(self.found.homes) > MAX_TENSORS:
            raise CheckpointError(f"it holds more than {MAX_TENSORS} tensors, expected a network's")

    def _named_array(self, value: object) -> bool:
        """Whether this is a tensor as Paddle keeps it in a pickle: its name and its array."""
        return (
            self._paddle
            and isinstance(value, tuple)
            and len(value) == 2
            and isinstance(value[0], str)
            and isinstance(value[1], Array)
        )

    def _below(self, value: object, key: str, home: str, depth: int, *, inside: bool) -> None:
        entries = self._entries(value, key, inside=inside)
        if entries is None:
            self.found.facts[key] = value
            return
        if depth >= _MAX_DEPTH:
            raise CheckpointError(f"it nests deeper than {_MAX_DEPTH} levels at {key[:80]}")
        if id(value) in self._above:
            raise CheckpointError(f"it holds itself at {key[:80]}")
        self._above.add(id(value))
        within = inside or is_module(value)
        for name, item in entries:
            below = f"{key}.{name}" if key else name
            if not within and is_training_state(name) and not isinstance(item, torch.Tensor):
                self.found.set_aside.append(below)
            else:
                self.visit(item, below, home if inside else key, depth + 1, inside=within)
        self._above.discard(id(value))

    def _entries(self, value: object, key: str, *, inside: bool) -> Iterator[tuple[str, object]] | None:
        """What lies below a value, by name; None where nothing can."""
        if (parts := _parts_of(value)) is not None:
            assert isinstance(value, Stub)
            self.found.facts[key] = value
            if not inside:
                self.found.modules[key] = _inside(value).of
            return _module_entries(parts)
        if isinstance(value, Stub) and value.entries:
            value = value.entries
        if isinstance(value, dict):
            if self._paddle and isinstance(value.get(_PADDLE_SLICES), dict):
                value = _joined(value)
            return ((str(name), item) for name, item in value.items())
        if isinstance(value, (list, tuple)) and len(value) <= _SHORT and any(map(_holds, value)):
            return ((str(number), item) for number, item in enumerate(value))
        return None


def _inside(module: Stub) -> Stub:
    """The module that wrappers are around."""
    for _ in range(_MAX_DEPTH):
        parts = _parts_of(module)
        held = parts["_modules"] if parts else None
        inner = list(held.items()) if isinstance(held, dict) else []
        if len(inner) != 1 or not is_wrapper(str(inner[0][0])) or not isinstance(inner[0][1], Stub):
            break
        module = inner[0][1]
    return module


def _holds(value: object) -> bool:
    return isinstance(value, dict) or is_module(value) or (isinstance(value, Stub) and bool(value.entries))


def _module_entries(parts: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Parameters, persistent buffers and submodules, as ``state_dict`` names them."""
    left_out = parts.get("_non_persistent_buffers_set")
    for part in _MODULE_PARTS:
        held = parts.get(part)
        for name, item in held.items() if isinstance(held, dict) else ():
            transient = part == "_buffers" and isinstance(left_out, (set, frozenset)) and name in left_out
            if item is not None and not transient:
                yield str(name), item


def _joined(state: Mapping[object, object]) -> dict[object, object]:
    """Weights that Paddle cut into slices, put together."""
    whole = {name: item for name, item in state.items() if name != _PADDLE_SLICES}
    slices = state[_PADDLE_SLICES]
    for name, described in slices.items() if isinstance(slices, dict) else ():
        if not isinstance(described, dict):
            continue
        parts = [whole.pop(part, None) for part in described.get("slices", ())]
        arrays = [
            part.values.ravel() for part in parts if isinstance(part, Array) and part.values is not None
        ]
        shape = described.get("OriginShape")
        if not arrays or len(arrays) != len(parts) or not isinstance(shape, (tuple, list)):
            raise CheckpointError(f"{name} is cut into slices that are not all there")
        whole[name] = Array.of(arrays, shape)
    return whole


def _from_array(array: Array, paddle: bool) -> torch.Tensor:
    assert array.values is not None
    tensor = torch.from_numpy(array.values)
    return tensor.view(torch.bfloat16) if paddle and tensor.dtype == torch.uint16 else tensor
