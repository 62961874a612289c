"""A network from Python code of the user's, filled with the weights of a checkpoint."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import nn

from sspcab_edge.errors import EdgeError, HostError, OptionError
from sspcab_edge.manifest import OtherRounding
from sspcab_export.checkpoints import Checkpoint
from sspcab_export.graph import graph_from_torch
from sspcab_export.networks.base import Expected
from sspcab_export.networks.exactly import run_otherwise
from sspcab_export.networks.onnx_file import THREE_DIMENSIONS
from sspcab_export.networks.outputs import NamedOutputs, as_arrays, drop_wrapper, named_outputs

__all__ = ["FactoryNetwork", "load_factory", "make_network"]

_SHOWN = 4


class FactoryNetwork:
    """A torch module in this process: its code is the user's own, named on the command line."""

    def __init__(self, module: nn.Module, where: str) -> None:
        self.module = module.eval()
        self.where = where
        self.expected = Expected()

    def run(self, picture: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[np.float32]]:
        """(N, C, H, W) float32 -> what it gives, by name.

        Raises:
            HostError: It cannot be run on such pictures.
        """
        with torch.inference_mode():
            try:
                outputs = named_outputs(self.module(torch.from_numpy(picture)))
            except EdgeError:
                raise
            except Exception as error:  # the user's code may raise anything
                raise HostError(
                    f"{self.where} fails on a picture {tuple(picture.shape)}: {_said(error)}"
                ) from error
        return as_arrays(outputs)

    def run_otherwise(
        self, pictures: Sequence[npt.NDArray[np.float32]]
    ) -> tuple[list[Mapping[str, npt.NDArray[np.float32]]], OtherRounding]:
        """What :meth:`run` gives for each, in float64 where the module's code allows it."""
        try:
            given, method = run_otherwise(
                lambda: [named_outputs(self.module(torch.from_numpy(picture))) for picture in pictures]
            )
        except EdgeError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise HostError(f"{self.where} fails when it is asked again: {_said(error)}") from error
        return [as_arrays(outputs) for outputs in given], method

    def graph(self, size: Sequence[int], batch: int | None) -> ir.Model:
        """Trace the module with torch's exporter."""
        example = torch.zeros((1, *size))
        with torch.inference_mode():
            names = tuple(named_outputs(self.module(example)))
        model = graph_from_torch(NamedOutputs(self.module), {"picture": example}, names, batch=batch)
        drop_wrapper(model)
        return model


def make_network(factory: str) -> nn.Module:
    """What ``package.module:function`` gives; modules of the working directory are found.

    Raises:
        OptionError: The text is no such name, or nothing is there under it.
        HostError: The function raises, gives no module, or one for volumes.
    """
    name, colon, attribute = factory.partition(":")
    if not (name and colon and attribute):
        raise OptionError(f"factory {factory!r} is not understood: expected package.module:function")
    with _working_directory():
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise OptionError(f"factory {factory!r}: {name} cannot be imported: {_said(error)}") from error
        function = getattr(module, attribute, None)
        if not callable(function):
            raise OptionError(f"factory {factory!r}: {name} has no function {attribute}")
        try:
            network = function()
        except (Exception, SystemExit) as error:  # likewise
            raise HostError(
                f"factory {factory!r} raises {_said(error)}; it is called without arguments"
            ) from error
    if not isinstance(network, nn.Module):
        raise HostError(f"factory {factory!r} gives {type(network).__name__}, expected a torch.nn.Module")
    if any(isinstance(part, (nn.Conv3d, nn.ConvTranspose3d)) for part in network.modules()):
        raise HostError(THREE_DIMENSIONS.format(where=f"the network of {factory}"))
    return network


@contextlib.contextmanager
def _working_directory() -> Iterator[None]:
    """Modules of the working directory are found, as with ``python -m``."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def load_factory(
    factory: str, checkpoint: Checkpoint, assumptions: list[str], dialect: str | None = None
) -> FactoryNetwork:
    """The factory's network with the checkpoint's weights.

    Args:
        factory: ``package.module:function``.
        checkpoint: Holds a state dict; one prefix before all of its keys is taken off.
        assumptions: Told what was assumed.
        dialect: Must be None: the network's own code decides.

    Raises:
        OptionError: The factory is not found, or a dialect is given.
        HostError: The network cannot be made, or its keys or shapes are not those of the checkpoint.
    """
    if dialect is not None:
        raise OptionError("--dialect cannot be given with --factory: the network's own code decides")
    network = make_network(factory)
    path = checkpoint.parts[0].path
    own = network.state_dict()
    tensors, prefix = _without_prefix(checkpoint.tensors, own)
    if prefix:
        assumptions.append(f"weights are named {prefix}* in the checkpoint: the prefix was taken off")
    missing = [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in tensors if key not in own]
    if missing or unexpected:
        parts = [f"it lacks {_shown(missing)}"] if missing else []
        parts += [f"it has {_shown(unexpected)}, which the network does not"] if unexpected else []
        raise HostError(f"{path} is not of the network that {factory} makes: {'; '.join(parts)}")
    for key, tensor in tensors.items():
        if tensor.shape != own[key].shape:
            raise HostError(
                f"{path}: {key} has shape {tuple(tensor.shape)}, {factory} expects {tuple(own[key].shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise HostError(f"{path}: {key} holds values that are no finite numbers: the training went wrong")
    network.load_state_dict(tensors, strict=False)
    return FactoryNetwork(network.cpu().float(), factory)


def _without_prefix(
    tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict without the one name that DataParallel or Lightning put before all keys; that name."""
    heads = {key.split(".")[0] for key in tensors}
    if len(heads) == 1 and not any(key in own for key in tensors):
        prefix = f"{next(iter(heads))}."
        short = {key[len(prefix) :]: tensor for key, tensor in tensors.items()}
        if any(key in own for key in short):
            return short, prefix
    return dict(tensors), ""


def _shown(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
