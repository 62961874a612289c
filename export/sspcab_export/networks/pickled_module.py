"""A whole module that ``torch.save`` pickled: unpickling runs code, so this is for the child alone."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sspcab_edge.errors import HostError
from sspcab_export.networks.factory import FactoryNetwork, check_flat, said, working_directory

__all__ = ["unpickled"]


def unpickled(data: bytes, place: str) -> FactoryNetwork:
    """The module as it was, ready to be asked; its code is found in the working directory or is installed.

    Args:
        data: What ``torch.save`` wrote.
        place: Dotted path of the module in it; empty where it is all there is.

    Raises:
        HostError: Its code cannot be imported, or it is no module or one for volumes.
    """
    with working_directory():
        try:
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
        except (ImportError, AttributeError) as error:
            raise HostError(
                f"its code cannot be imported ({said(error)}): start sspcab-export in the folder that it was "
                "trained in, or give --factory"
            ) from error
    module = _at(loaded, place)
    while isinstance(module, nn.Module) and _inside(module) is not None:
        module = _inside(module)
    if not isinstance(module, nn.Module):
        raise HostError(f"it holds {type(module).__name__}, expected a torch.nn.Module")
    check_flat(module, "the module")
    return FactoryNetwork(module.float(), "the module")


def _inside(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper is around: it is the one that was trained, and asks for no second GPU."""
    parallel = isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel))
    inner = module._modules.get("module" if parallel else "_orig_mod")  # torch.compile has the latter
    return inner if isinstance(inner, nn.Module) else None


def _at(loaded: Any, place: str) -> Any:
    for name in place.split(".") if place else ():
        if isinstance(loaded, Mapping):
            loaded = next((value for key, value in loaded.items() if str(key) == name), None)
        else:
            loaded = loaded[int(name)]
    return loaded
