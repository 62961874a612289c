"""Ports: the named inputs and outputs of a graph, and the check that arrays fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import InputError

__all__ = [
    "CONTRACT_VERSION",
    "Array",
    "Entry",
    "Port",
    "as_batch",
    "check_inputs",
    "clip_ports",
    "object_ports",
    "whole_frame_ports",
]

CONTRACT_VERSION = 1
"""Version of the graph contract (names, dtypes and meaning of ports)."""

Array = npt.NDArray[np.generic]

Entry = Mapping[str, Array]
"""One entry of a graph's batch: its array by input port, without the batch axis."""


class Port(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named input or output of a graph.

    ``shape`` holds sizes, or a name for a size that is free at run time (``"N"``: the batch). ``layout``
    names the axes, ``colour`` their order where there is one.

    Ports with a time axis say what lies on it: ``window`` has the frame of each position, counted from the
    frame that is judged (-1 is the one before it), and ``pairs`` the two frames of each optical flow, from
    and to. Flow is in ``unit`` times ``scale``.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str
    colour: str | None = None
    window: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    unit: str | None = None
    scale: float = 1.0

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


def clip_ports(
    frames: int, height: int, width: int, map_size: tuple[int, int] | None
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a graph that looks at clips, contract version 1.

    ``frames`` uint8 (N, T, height, width, 3) RGB, oldest first, the last one judged; outputs as
    :func:`whole_frame_ports`.
    """
    clip = Port(
        name="frames", dtype="uint8", shape=("N", frames, height, width, 3), layout="NTHWC", colour="RGB",
        window=tuple(range(1 - frames, 1)),
    )  # fmt: skip
    return (clip,), whole_frame_ports(height, width, map_size)[1]


def object_ports(
    height: int, width: int, window: Sequence[int], pairs: Sequence[tuple[int, int]], scale: float = 1.0
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a graph that scores objects, contract version 1; N counts objects.

    ``appearance`` uint8 (N, T, height, width, 3) RGB is the object's box in T frames, ``flow`` float32
    (N, T', height, width, 2) the optical flow in it (x, y), in pixels between the two frames times ``scale``.

    Args:
        height: Of a crop, in pixels.
        width: Likewise.
        window: Frames of ``appearance``, counted from the one that is judged.
        pairs: Frames from and to which each flow goes, likewise; empty for graphs without flow.
        scale: What flow is multiplied by before it goes in.
    """
    inputs = [
        Port(
            name="appearance", dtype="uint8", shape=("N", len(window), height, width, 3), layout="NTHWC",
            colour="RGB", window=tuple(window),
        )
    ]  # fmt: skip
    if pairs:
        inputs.append(
            Port(
                name="flow", dtype="float32", shape=("N", len(pairs), height, width, 2), layout="NTHWC",
                pairs=tuple(pairs), unit="pixels", scale=scale,
            )
        )  # fmt: skip
    return tuple(inputs), (Port(name="score", dtype="float32", shape=("N",), layout="N"),)


def as_batch(entry: Entry) -> dict[str, Array]:
    """A batch of one."""
    return {name: np.ascontiguousarray(array)[None] for name, array in entry.items()}


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
