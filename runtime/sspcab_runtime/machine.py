"""What this machine is: CPU, instruction sets, memory, Jetson and GPU; read from files, nothing is imported.

The roots of ``/proc`` and ``/dev`` are arguments, so that a laptop can test what a Jetson says.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PROC", "Cpu", "cpu_device", "gpus", "jetson", "memory_mb", "read_cpu"]

PROC = Path("/proc")
DEV = Path("/dev")

_X86_FLAGS = (
    "sse4_1",
    "avx",
    "fma",
    "f16c",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
)
_ARM_FLAGS = ("asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2")


@dataclass(frozen=True, slots=True)
class Cpu:
    """One kind of CPU.

    Attributes:
        model: Its name; on ARM, where the kernel knows none, implementer and part numbers.
        flags: The instruction sets that change speed or rounding, in a fixed order.
        count: Logical CPUs that this process may use.
    """

    model: str
    flags: tuple[str, ...]
    count: int


def read_cpu(proc: Path = PROC) -> Cpu:
    """The CPU as ``proc/cpuinfo`` describes it."""
    entries = _cpuinfo(proc)
    present: set[str] = set()
    for field in ("flags", "Features"):
        for line in entries.get(field, ())[:1]:
            present.update(line.split())
    flags = tuple(flag for flag in (*_X86_FLAGS, *_ARM_FLAGS) if flag in present)
    return Cpu(_model(entries, proc), flags, len(os.sched_getaffinity(0)))


def cpu_device(proc: Path = PROC) -> str:
    """The CPU in words that tell devices apart: its model, and the flags that change rounding or speed."""
    cpu = read_cpu(proc)
    return f"{cpu.model} ({' '.join(cpu.flags)})" if cpu.flags else cpu.model


def memory_mb(proc: Path = PROC) -> tuple[int, int] | None:
    """(total, available) memory in MB, or None where the kernel does not say."""
    values = {}
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        amount = rest.split()
        if amount and amount[0].isdigit():
            values[name] = int(amount[0]) // 1024
    if "MemTotal" not in values or "MemAvailable" not in values:
        return None
    return values["MemTotal"], values["MemAvailable"]


def jetson(proc: Path = PROC) -> str | None:
    """The board's name where this is an NVIDIA Jetson, else None."""
    board = _text(proc / "device-tree" / "model").strip("\0\n ")
    return board if "jetson" in board.lower() or "nvidia" in board.lower() else None


def gpus(proc: Path = PROC, dev: Path = DEV) -> tuple[str, ...]:
    """NVIDIA GPUs that the driver shows, by name; no CUDA library is touched."""
    found = []
    for information in sorted((proc / "driver" / "nvidia" / "gpus").glob("*/information")):
        names = [line for line in _text(information).splitlines() if line.startswith("Model:")]
        found.append(names[0].partition(":")[2].strip() if names else "NVIDIA GPU")
    if not found and any((dev / name).exists() for name in ("nvidia0", "nvhost-gpu", "nvgpu")):
        found.append("NVIDIA GPU")
    return tuple(found)


def _cpuinfo(proc: Path) -> dict[str, list[str]]:
    entries: dict[str, list[str]] = {}
    for line in _text(proc / "cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            entries.setdefault(name.strip(), []).append(value.strip())
    return entries


def _model(entries: dict[str, list[str]], proc: Path) -> str:
    names = sorted(set(entries.get("model name", ())))
    if names:
        return " + ".join(names)
    board = _text(proc / "device-tree" / "model").strip("\0\n ")
    implementer = sorted(set(entries.get("CPU implementer", ())))
    parts = sorted(set(entries.get("CPU part", ())))
    core = f"ARM implementer {'/'.join(implementer)} part {'/'.join(parts)}" if parts else platform.machine()
    return f"{board}, {core}" if board else core


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
