"""Memory for the inputs and outputs of a plan: allocated once for the largest batch, host and device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sspcab_edge.errors import EngineError
from sspcab_edge.ports import Array, Port
from sspcab_runtime.engines.tensorrt.cuda import Cuda, HostBlock

__all__ = ["Buffer", "Buffers"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Buffer:
    """One port's memory.

    Attributes:
        port: The port.
        address: On the device.
        block: Pinned, on the host, of the same size.
        batch: N that it holds at most.
    """

    port: Port
    address: int
    block: HostBlock
    batch: int

    def shape(self, batch: int) -> tuple[int, ...]:
        """The port's shape for N = ``batch``."""
        return tuple(batch if isinstance(size, str) else size for size in self.port.shape)

    def size(self, batch: int) -> int:
        """Bytes for N = ``batch``."""
        return int(np.prod(self.shape(batch), dtype=np.int64)) * np.dtype(self.port.dtype).itemsize

    def array(self, batch: int) -> Array:
        """The pinned memory as the port's array for N = ``batch``; gone when the buffer is freed."""
        flat: Array = self.block.array[: self.size(batch)].view(self.port.dtype)
        return flat.reshape(self.shape(batch))


class Buffers:
    """Buffers of all ports of one side.

    Raises:
        CudaError: There is not enough memory; what was allocated is given back.
    """

    def __init__(self, cuda: Cuda, ports: Sequence[Port], batch: int) -> None:
        self._cuda = cuda
        self.all: dict[str, Buffer] = {}
        try:
            for port in ports:
                self._add(port, batch)
        except EngineError:
            self.release()
            raise

    def _add(self, port: Port, batch: int) -> None:
        empty = Buffer(port, 0, HostBlock(0, np.empty(0, np.uint8)), batch)
        size = max(empty.size(batch), 1)
        address = self._cuda.allocate(size)
        try:
            block = self._cuda.allocate_host(size)
        except EngineError:
            self._cuda.free(address)
            raise
        self.all[port.name] = Buffer(port, address, block, batch)

    def release(self) -> None:
        """Free everything; a GPU that is beyond that is logged, nothing is raised."""
        for buffer in self.all.values():
            try:
                self._cuda.free(buffer.address)
            except EngineError as error:
                _LOG.debug("the device memory of %s is not freed: %s", buffer.port.name, error)
            try:
                self._cuda.free_host(buffer.block)
            except EngineError as error:
                _LOG.debug("the pinned memory of %s is not freed: %s", buffer.port.name, error)
        self.all = {}
