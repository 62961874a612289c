"""What the control groups of this process allow: CPU and memory, version 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sspcab_bench.files import read_text

__all__ = ["cpu_limit", "memory_limit_mb"]

_NO_LIMIT_BYTES = 1 << 60
"""Version 1 says "no limit" by a number near the largest one, rounded down to whole pages."""


def cpu_limit(proc: Path, sys: Path) -> float | None:
    """Cores that the process may use on average; None without a limit.

    Every group above the process's own counts: the tightest limit holds.
    """
    limits = []
    for folder in _folders(proc, sys, ""):
        quota, _, period = read_text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            limits.append(int(quota) / int(period))
    for folder in _folders(proc, sys, "cpu"):
        quota, period = read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def memory_limit_mb(proc: Path, sys: Path) -> int | None:
    """MiB that the process and its neighbours in the group may hold; None without a limit."""
    texts = [read_text(folder / "memory.max") for folder in _folders(proc, sys, "")]
    texts += [read_text(folder / "memory.limit_in_bytes") for folder in _folders(proc, sys, "memory")]
    limits = [int(text) for text in texts if text.isdigit() and int(text) < _NO_LIMIT_BYTES]
    return min(limits) >> 20 if limits else None


def _folders(proc: Path, sys: Path, controller: str) -> Iterator[Path]:
    """The process's group and those above it; ``controller`` empty for version 2.

    Inside a container ``/proc/self/cgroup`` may name the group as the host sees it, while the container's own
    group is the root of what is mounted: walking upwards finds it either way.
    """
    for line in read_text(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if not colon or (controller not in names.split(",") if controller else names != ""):
            continue
        for mount in _mounts(sys, names):
            own = PurePosixPath(path.lstrip("/"))
            for group in (own, *own.parents):
                if ".." not in group.parts:
                    yield mount / group


def _mounts(sys: Path, names: str) -> tuple[Path, ...]:
    """Where the hierarchy of these controllers is mounted, by convention."""
    base = sys / "fs" / "cgroup"
    return (base / names, *(base / name for name in names.split(","))) if names else (base, base / "unified")
