"""What else ran on the machine during a measurement."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from sspcab_bench.files import read_text
from sspcab_bench.machine import PROC

__all__ = ["CpuTimes", "Load", "load_between", "read_cpu_times"]

_BUSY = (0, 1, 2, 5, 6)
"""Columns of the first line of ``/proc/stat``: user, nice, system, interrupts, soft interrupts."""
_STEAL = 7


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """A moment, in seconds.

    Attributes:
        at_s: When; monotonic clock.
        own_s: CPU time of this process and of its children that have ended.
        busy_s: CPU time of everything on the machine.
        steal_s: Time that a hypervisor gave to others while something here wanted to run.
    """

    at_s: float
    own_s: float
    busy_s: float
    steal_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """Between two moments, on average, in cores.

    Attributes:
        other_cores: Kept busy by other processes.
        steal_cores: Taken by the hypervisor.
    """

    other_cores: float
    steal_cores: float


def read_cpu_times(proc: Path = PROC) -> CpuTimes | None:
    """Now; None where the kernel does not say."""
    name, *columns = (read_text(proc / "stat").splitlines() or [""])[0].split() or [""]
    if name != "cpu" or len(columns) <= _STEAL or not all(column.isdigit() for column in columns):
        return None
    seconds = [int(column) / os.sysconf("SC_CLK_TCK") for column in columns]
    own = os.times()
    return CpuTimes(
        at_s=time.monotonic(),
        own_s=own.user + own.system + own.children_user + own.children_system,
        busy_s=sum(seconds[column] for column in _BUSY),
        steal_s=seconds[_STEAL],
    )


def load_between(before: CpuTimes | None, after: CpuTimes | None) -> Load | None:
    """The load by others between two moments; None where one of them is unknown.

    A child that was started before and ended after the first moment counts as ours from its start.
    """
    if before is None or after is None or after.at_s <= before.at_s:
        return None
    seconds = after.at_s - before.at_s
    others = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return Load(max(0.0, others / seconds), max(0.0, (after.steal_s - before.steal_s) / seconds))
