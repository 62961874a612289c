"""Where packets of an MPEG transport stream are missing (ISO/IEC 13818-1, 2.4.3).

FFmpeg's demuxer says that something was lost near a frame; not whether it was a piece of the frame or all of
the next one. The counters of the packets and their stuffing do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["CLOCK", "Unit", "read_units"]

_SYNC: Final = 0x47
_SIZES: Final = {188: 0, 192: 4, 204: 0}
"""Length of a packet with what recorders and receivers add -> where the packet begins in it."""
_BLOCK: Final = 65536
CLOCK: Final = 1 << 33
"""What times are counted modulo."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What begins with a stated time in the video's stream: a frame, as a rule.

    Attributes:
        pts: Of its first frame, in 1/90000 s, modulo 2**33; None where it states none.
        holed: Packets of it are missing.
        after_loss: Whole units may be missing before it.
    """

    pts: int | None
    holed: bool
    after_loss: bool


def read_units(path: Path, pid: int) -> Iterator[Unit]:
    """The units of one elementary stream, in the order of the file; none where it is no whole packets.

    Args:
        path: The file.
        pid: Of the stream.
    """
    begun: tuple[int | None, bool] | None = None
    last = np.zeros(188, np.uint8)
    holed = broken = False
    first = True
    for packets in _packets(path, pid):
        before = np.concatenate([last[None], packets[:-1]])
        counters, former = packets[:, 3] & 15, before[:, 3] & 15
        adapted = (packets[:, 3] & 0x20 != 0) & (packets[:, 4] > 0)
        announced = adapted & (packets[:, 5] & 0x80 != 0)
        again = (packets == before).all(axis=1)
        missing = (counters - former - 1) & 15
        lost = (missing != 0) & ~announced & ~again
        starts = (packets[:, 1] & 0x40 != 0) & ~again
        ended = _is_stuffed(before)
        lost[0] &= not first
        first, last = False, packets[-1]
        for row in np.flatnonzero(lost | starts):
            holed |= bool(lost[row] and not ended[row])
            broken |= bool(lost[row] and (ended[row] or missing[row] > 1))  # more than the end of this unit
            if starts[row]:
                if begun is not None:
                    yield Unit(begun[0], holed, begun[1])
                begun, holed, broken = (_pts(packets[row]), broken), False, False
    if begun is not None:
        yield Unit(begun[0], holed, begun[1])


def _packets(path: Path, pid: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Packets of a stream that carry something: (n, 188) uint8, n > 0."""
    with path.open("rb") as file:
        head = file.read(204 * 5)
        size = next((size for size in _SIZES if _in_step(head, size)), None)
        if size is None:
            return
        file.seek(0)
        while data := file.read(size * _BLOCK):
            rows = np.frombuffer(data, np.uint8, len(data) // size * size).reshape(-1, size)
            rows = rows[:, _SIZES[size] : _SIZES[size] + 188]
            if (rows[:, 0] != _SYNC).any():
                return
            here = (rows[:, 1] & 0x1F).astype(np.int32) << 8 | rows[:, 2]
            packets = rows[(here == pid) & (rows[:, 3] & 0x10 != 0)]
            if len(packets):
                yield packets


def _in_step(head: bytes, size: int) -> bool:
    begins = head[_SIZES[size] :: size]
    return len(begins) > 1 and set(begins) == {_SYNC}


def _is_stuffed(packets: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether packets are filled up, as the last of a unit is (2.4.3.5)."""
    length, flags = packets[:, 4].astype(np.int32), packets[:, 5]
    clocks = (flags >> 4 & 1) + (flags >> 3 & 1)
    stated = 1 + 6 * clocks.astype(np.int32) + (flags >> 2 & 1)
    adapted = packets[:, 3] & 0x20 != 0
    return np.asarray(adapted & ((length == 0) | ((length > stated) & (flags & 3 == 0))), np.bool_)


def _pts(packet: npt.NDArray[np.uint8]) -> int | None:
    """The time in the header of a packetised elementary stream that begins in a packet (2.4.3.7)."""
    payload = packet[4 + (1 + int(packet[4]) if packet[3] & 0x20 else 0) :]
    if len(payload) < 14 or bytes(payload[:3]) != b"\0\0\1" or not payload[7] & 0x80:
        return None
    one = [int(value) for value in payload[9:14]]
    return ((one[0] >> 1 & 7) << 30 | one[1] << 22 | one[2] >> 1 << 15 | one[3] << 7 | one[4] >> 1) % CLOCK
