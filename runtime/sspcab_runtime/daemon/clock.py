"""Time: intervals from the monotonic clock, dates from the wall clock, and which boot both belong to."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

__all__ = ["Moment", "boot_id", "clock_synchronised", "now"]

_TIME_ERROR = 5
"""``adjtimex`` returns it while the clock is not synchronised (Linux ``TIME_ERROR``)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks.

    Attributes:
        monotonic_s: Seconds on the monotonic clock, the same for all processes of one boot; for intervals.
        wall_s: Unix time in seconds; for people. It may jump.
    """

    monotonic_s: float
    wall_s: float


def now() -> Moment:
    """This instant."""
    return Moment(time.monotonic(), time.time())


def boot_id() -> str:
    """What tells this boot of the machine from all others: monotonic times compare only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid4())


def clock_synchronised() -> bool | None:
    """Whether the kernel knows the wall clock to be right (``adjtimex``); None where it cannot be asked."""
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: read only; 208 bytes on 64 bits
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR
