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
from sspcab_export.checkpoints.match import match
from sspcab_export.graph import graph_from_torch
from sspcab_export.networks.base import Expected
from sspcab_export.networks.exactly import run_otherwise
from sspcab_export.networks.onnx_file import THREE_DIMENSIONS
from sspcab_export.networks.outputs import NamedOutputs, as_arrays, drop_wrapper, named_outputs

__all__ = ["FactoryNetwork", "check_flat", "load_factory", "make_network", "said", "working_directory"]

_UNPACKED = "save the weights before they are quantised or packed"


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
                    f"{self.where} fails on a picture {tuple(picture.shape)}: {said(error)}"
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
            raise HostError(f"{self.where} fails when it is asked again: {said(error)}") from error
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
    with working_directory():
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise OptionError(f"factory {factory!r}: {name} cannot be imported: {said(error)}") from error
        function = getattr(module, attribute, None)
        if not callable(function):
            raise OptionError(f"factory {factory!r}: {name} has no function {attribute}")
        try:
            network = function()
        except (Exception, SystemExit) as error:  # likewise
            raise HostError(
                f"factory {factory!r} raises {said(error)}; it is called without arguments"
            ) from error
    if not isinstance(network, nn.Module):
        raise HostError(f"factory {factory!r} gives {type(network).__name__}, expected a torch.nn.Module")
    check_flat(network, f"the network of {factory}")
    return network


def check_flat(network: nn.Module, where: str) -> None:
    """Refuse a network for volumes.

    Raises:
        HostError: It is one.
    """
    if any(isinstance(part, (nn.Conv3d, nn.ConvTranspose3d)) for part in network.modules()):
        raise HostError(THREE_DIMENSIONS.format(where=where))


@contextlib.contextmanager
def working_directory() -> Iterator[None]:
    """Modules of the working directory are found, as with ``python -m``."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def load_factory(
    factory: str,
    checkpoint: Checkpoint,
    assumptions: list[str],
    dialect: str | None = None,
    weights_key: Sequence[str] = (),
) -> FactoryNetwork:
    """The factory's network with the checkpoint's weights.

    Args:
        factory: ``package.module:function``.
        checkpoint: Holds the network's weights, in any container.
        assumptions: Told what was assumed.
        dialect: Must be None: the network's own code decides.
        weights_key: Where in the checkpoint they lie, where several could be meant.

    Raises:
        OptionError: The factory is not found, a dialect is given, or nothing lies at ``weights_key``.
        HostError: The network cannot be made, or its keys or shapes are not those of the checkpoint.
    """
    if dialect is not None:
        raise OptionError("--dialect cannot be given with --factory: the network's own code decides")
    network = make_network(factory)
    path = str(checkpoint.parts[0].path)
    own = network.state_dict()
    homes = {key: home for part in checkpoint.parts for key, home in part.homes.items()}
    matched = match(checkpoint.held, homes, own, weights_key, path, factory)
    assumptions.extend(matched.notes)
    for key, tensor in matched.tensors.items():
        _check_values(f"{path}: {key}", tensor, own[key])
    kinds = {tensor.dtype for tensor in matched.tensors.values() if tensor.is_floating_point()}
    if other := sorted(str(kind).removeprefix("torch.") for kind in kinds - {torch.float32}):
        assumptions.append(f"weights are stored as {', '.join(other)}: the network runs in float32")
    network.load_state_dict(matched.tensors, strict=False)
    return FactoryNetwork(network.cpu().float(), factory)


def _check_values(where: str, tensor: torch.Tensor, own: torch.Tensor) -> None:
    """Refuse numbers that the network cannot have been trained to."""
    if own.is_floating_point() and not tensor.is_floating_point():
        raise HostError(f"{where} is {tensor.dtype}, expected real numbers with fractions: {_UNPACKED}")
    if tensor.is_complex() != own.is_complex():
        raise HostError(f"{where} is {tensor.dtype}, the network expects {own.dtype}")
    if (tensor.is_floating_point() or tensor.is_complex()) and not bool(torch.isfinite(tensor).all()):
        raise HostError(f"{where} holds values that are no finite numbers: the training went wrong")


def said(error: BaseException) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
