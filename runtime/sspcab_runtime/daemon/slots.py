"""Frames in shared memory: a few slots per camera, each with room for one frame and its score map.

The memory has no name (``memfd``): it goes with the last process that holds it, however that ends. Untouched
pages cost nothing, so that slots are as large as the largest frame that is allowed.

A slot belongs to one process at a time; messages hand it over. Nothing here locks.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import InputError

__all__ = ["Geometry", "Slots", "make_slots"]

_PAGE = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Geometry:
    """How shared memory is cut.

    Attributes:
        count: How many slots there are.
        max_pixels: Largest height times width of a frame.
        max_map: Largest height times width of a map.
    """

    count: int
    max_pixels: int
    max_map: int = 1024 * 1024

    @property
    def pixel_bytes(self) -> int:
        """Room for pixels, whole pages."""
        return -(-3 * self.max_pixels // _PAGE) * _PAGE

    @property
    def slot_bytes(self) -> int:
        """Room for pixels and map, whole pages."""
        return self.pixel_bytes + -(-4 * self.max_map // _PAGE) * _PAGE

    @property
    def total_bytes(self) -> int:
        """Of all slots."""
        return self.count * self.slot_bytes


def make_slots(name: str, geometry: Geometry) -> int:
    """A file descriptor of new shared memory, which can neither grow nor shrink; the caller closes it.

    Raises:
        OSError: There is no memory.
    """
    import fcntl

    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, geometry.total_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


class Slots:
    """One process's view of the slots of a camera.

    Args:
        fd: From :func:`make_slots`; it may be closed afterwards.
        geometry: What it was made with.

    Raises:
        InputError: The memory is smaller than that.
    """

    def __init__(self, fd: int, geometry: Geometry) -> None:
        if os.fstat(fd).st_size < geometry.total_bytes:
            raise InputError(f"shared memory has {os.fstat(fd).st_size} bytes, not {geometry.total_bytes}")
        self.geometry = geometry
        self._memory = mmap.mmap(fd, geometry.total_bytes)

    def pixels(self, slot: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """The (H, W, 3) uint8 pixels of a slot: a view, good for as long as the slot is this process's.

        Raises:
            InputError: There is no such slot, or it has no room for such a frame.
        """
        self._check(slot, height, width, self.geometry.max_pixels, "frame")
        start = slot * self.geometry.slot_bytes
        flat = np.frombuffer(self._memory, np.uint8, 3 * height * width, start)
        return flat.reshape(height, width, 3)

    def map(self, slot: int, height: int, width: int) -> npt.NDArray[np.float32]:
        """The (h, w) float32 score map of a slot: a view.

        Raises:
            InputError: There is no such slot, or it has no room for such a map.
        """
        self._check(slot, height, width, self.geometry.max_map, "map")
        start = slot * self.geometry.slot_bytes + self.geometry.pixel_bytes
        return np.frombuffer(self._memory, np.float32, height * width, start).reshape(height, width)

    def close(self) -> None:
        """Let go of the memory; views that are still in use keep it."""
        with contextlib.suppress(BufferError):  # a view is alive: the memory goes when that goes
            self._memory.close()

    def _check(self, slot: int, height: int, width: int, room: int, what: str) -> None:
        if not 0 <= slot < self.geometry.count:
            raise InputError(f"slot {slot} of {self.geometry.count}")
        if height < 1 or width < 1 or height * width > room:
            raise InputError(f"a {what} of {width}x{height} pixels does not fit a slot of {room}")
