"""Names for what a torch network gives: keys of a dict, else positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import nn

from sspcab_edge.errors import HostError

__all__ = ["NamedOutputs", "as_arrays", "drop_wrapper", "named_outputs"]

_WRAPPER = "network."


def named_outputs(given: Any) -> dict[str, torch.Tensor]:
    """Floating point tensors by name: ``output`` for one, ``output0``, ``output1`` ... for several, a dict's
    keys for a dict; names of what is nested are joined with dots. What is no tensor is left out.

    Raises:
        HostError: There is no tensor at all.
    """
    found = dict(_named("output", given))
    if not found:
        raise HostError(f"the network gives {type(given).__name__}, expected tensors")
    return found


def as_arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, npt.NDArray[np.float32]]:
    """Tensors as float32 arrays."""
    return {name: tensor.float().numpy() for name, tensor in outputs.items()}


def _named(name: str, given: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(given, torch.Tensor):
        if given.is_floating_point():
            yield name, given
    elif isinstance(given, Mapping):
        for key, value in given.items():
            yield from _named(str(key) if name == "output" else f"{name}.{key}", value)
    elif isinstance(given, (tuple, list)):
        for number, value in enumerate(given):
            yield from _named(f"{name}{number}", value)


class NamedOutputs(nn.Module):
    """A network that gives its named outputs as one flat tuple, as exporters want it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, C, H, W) -> tensors in the order of :func:`named_outputs`."""
        return tuple(named_outputs(self.network(picture)).values())


def drop_wrapper(model: ir.Model) -> None:
    """Give weights in the graph of a :class:`NamedOutputs` the names that the network has for them."""
    initializers = model.graph.initializers
    for name, value in list(initializers.items()):
        short = name.removeprefix(_WRAPPER)
        if short != name and short not in initializers:
            initializers.pop(name)
            value.name = short
            model.graph.register_initializer(value)
