"""Ports: the named inputs and outputs of a graph, and the check that arrays fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import InputError

__all__ = ["CONTRACT_VERSION", "Array", "Port", "check_inputs", "whole_frame_ports"]

CONTRACT_VERSION = 1
"""Version of the graph contract (names, dtypes and meaning of ports)."""

Array = npt.NDArray[np.generic]


class Port(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named input or output of a graph.

    ``shape`` holds sizes, or a name for a size that is free at run time (``"N"``: the batch). ``layout``
    names the axes, ``colour`` their order where there is one.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str
    colour: str | None = None

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape can go through the port."""
        return len(shape) == len(self.shape) and all(
            isinstance(want, str) or want == got for want, got in zip(self.shape, shape, strict=True)
        )


def whole_frame_ports(
    height: int, width: int, map_size: tuple[int, int] | None, *, batch: int | None = None
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a whole-frame graph, contract version 1.

    ``frames`` uint8 (N, height, width, 3) RGB gives ``score`` float32 (N,) and, for hosts that localise,
    ``map`` float32 (N, h, w). N is free, or fixed to ``batch`` where a graph came so.
    """
    n: int | str = "N" if batch is None else batch
    frames = Port(name="frames", dtype="uint8", shape=(n, height, width, 3), layout="NHWC", colour="RGB")
    outputs = [Port(name="score", dtype="float32", shape=(n,), layout="N")]
    if map_size is not None:
        outputs.append(Port(name="map", dtype="float32", shape=(n, *map_size), layout="NHW"))
    return (frames,), tuple(outputs)


def check_inputs(ports: Sequence[Port], inputs: Mapping[str, Array]) -> None:
    """Check that ``inputs`` are exactly what ``ports`` want.

    Raises:
        InputError: A name, dtype or shape differs; the text says got, expected and the remedy.
    """
    names = {port.name for port in ports}
    if names != set(inputs):
        raise InputError(f"inputs are named {sorted(inputs)}, expected {sorted(names)}")
    batches = set()
    for port in ports:
        array = inputs[port.name]
        if array.dtype.name != port.dtype:
            raise InputError(
                f"input {port.name} is {array.dtype.name}, expected {port.dtype}: convert it with .astype"
            )
        if not port.fits(array.shape):
            raise InputError(
                f"input {port.name} has shape {tuple(array.shape)}, expected {port.shape}: "
                "prepare frames with sspcab_edge.preprocess.prepare"
            )
        if port.shape and port.shape[0] == "N":
            batches.add(array.shape[0])
    if len(batches) > 1:
        raise InputError(f"inputs disagree on the batch size: {sorted(batches)}")
    if 0 in batches:
        raise InputError("the batch is empty, expected at least one frame")
