"""The few CUDA calls that running a plan needs, as a protocol.

Addresses, streams and graphs are plain integers, as the C interface has them. Device memory and pinned host
memory are counted in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import EngineError

__all__ = ["Bytes", "Cuda", "CudaError", "Gpu", "HostBlock"]

Bytes = npt.NDArray[np.uint8]

_STICKY = frozenset({214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719})
"""Codes after which every call in this process fails: the context is gone."""


class CudaError(EngineError):
    """A CUDA call failed.

    Attributes:
        code: CUDA's number, as in 2 for ``cudaErrorMemoryAllocation``.
        sticky: Whether nothing more can be done on the GPU in this process.
    """

    def __init__(self, what: str, code: int, name: str, text: str) -> None:
        self.code = code
        self.sticky = code in _STICKY
        remedy = "; nothing more can run on the GPU in this process: restart it" if self.sticky else ""
        super().__init__(f"{what}: {name} ({code}): {text}{remedy}")


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU in use, and what drives it.

    Attributes:
        name: As the driver calls it.
        capability: Compute capability, as in ``8.7``.
        driver: CUDA version that the driver supports, as in ``12.6``.
        runtime: Version of the CUDA runtime library, as in ``12.6``.
        memory_mb: All of its memory in MiB; a Jetson shares it with the CPU.
    """

    name: str
    capability: str
    driver: str
    runtime: str
    memory_mb: int


@dataclass(frozen=True, slots=True)
class HostBlock:
    """Pinned host memory: its address, and the same bytes as an array that must not outlive it."""

    address: int
    array: Bytes


class Cuda(Protocol):
    """Memory, copies, streams and graphs on one GPU. Every method raises CudaError where CUDA fails."""

    def gpu(self) -> Gpu:
        """The GPU, asked once."""

    def free_memory_mb(self) -> int:
        """Device memory that is free now, in MiB."""

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes of device memory."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def allocate_host(self, size: int) -> HostBlock:
        """``size`` bytes of pinned host memory."""

    def free_host(self, block: HostBlock) -> None:
        """Give pinned memory back; its array must not be used any more."""

    def copy_in(self, address: int, block: HostBlock, size: int, stream: int) -> None:
        """Enqueue a copy of ``size`` bytes from host to device."""

    def copy_out(self, block: HostBlock, address: int, size: int, stream: int) -> None:
        """Enqueue a copy of ``size`` bytes from device to host."""

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""

    def synchronize(self, stream: int) -> None:
        """Wait until all that was enqueued is done."""

    def begin_capture(self, stream: int) -> None:
        """From here on, what is enqueued is recorded and not run."""

    def end_capture(self, stream: int) -> int:
        """What was recorded, as a graph that can be launched."""

    def abandon_capture(self, stream: int) -> None:
        """End a capture that failed and forget its error; raises nothing."""

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a recorded graph."""

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back."""
