"""Optical flow by a network of the bundle."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sspcab_edge.errors import BundleError, EngineError
from sspcab_edge.front_end_spec import FlowSpec
from sspcab_edge.ports import Array, Port
from sspcab_runtime.frontends.optical_flow.fields import FlowField, Pixels
from sspcab_runtime.frontends.side_network import open_side_network

__all__ = ["FlowEngine"]


class FlowEngine:
    """A network that is asked about two frames; see :class:`~sspcab_edge.front_end_spec.FlowNetwork`.

    Args:
        spec: Says what it takes and gives.
        folder: The bundle's.

    Raises:
        BundleError: No folder was given.
        MissingPackageError: No engine that reads an ONNX file is installed.
        EngineError: The file is refused.
    """

    def __init__(self, spec: FlowSpec, folder: Path | None) -> None:
        network = spec.network
        if network is None or folder is None:
            raise BundleError("flow by a network needs its file: open the front-end with the bundle's folder")
        self._network, self._size = network, (spec.width, spec.height)
        shape: tuple[int, ...] = (1, 3, spec.height, spec.width)
        dtype, layout = "float32", "NCHW"
        if network.pixels:
            shape, dtype, layout = (1, spec.height, spec.width, 3), "uint8", "NHWC"
        taken = tuple(
            Port(name=name, dtype=dtype, shape=shape, layout=layout, colour="RGB")
            for name in (network.first, network.second)
        )
        given = Port(name=network.output, dtype="float32", shape=network.shape, layout="NCHW")
        self._channels_first = network.shape[1] == 2
        self._engine = open_side_network(folder / network.file, taken, given)

    def look(self, pixels: Pixels) -> Pixels:
        """The frame as it is."""
        return pixels

    def between(self, first: Pixels, second: Pixels) -> FlowField:
        """Flow from one frame to another.

        Raises:
            EngineError: The network fails, or gives what is no number.
        """
        network = self._network
        taken = {network.first: self._taken(first), network.second: self._taken(second)}
        found = np.asarray(self._engine.infer(taken)[network.output][0], np.float32)
        if not np.isfinite(found).all():
            raise EngineError("the flow network gave what is no number: its file is damaged, or overflows")
        field = np.ascontiguousarray(found.transpose(1, 2, 0)) if self._channels_first else np.array(found)
        if field.shape[1::-1] != self._size:
            return np.asarray(cv2.resize(field, self._size, interpolation=cv2.INTER_LINEAR), np.float32)
        return field

    def _taken(self, pixels: Pixels) -> Array:
        if self._network.pixels:
            return pixels[None]
        low, high = self._network.low, self._network.high
        picture = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)
        picture *= np.float32((high - low) / 255)
        picture += np.float32(low)
        return picture
