"""Facts about the machine that a figure was measured on; whatever cannot be read is None, and nothing fails.

The roots of ``/proc`` and ``/sys`` and of the file system are arguments, so that a tree recorded on a device
tells its facts anywhere.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import sspcab_edge
from sspcab_bench.cgroups import cpu_limit, memory_limit_mb
from sspcab_bench.files import read_text
from sspcab_bench.jetson import JetsonFacts, read_jetson
from sspcab_runtime.machine import PROC, gpus, jetson, memory_mb, read_cpu

__all__ = ["PROC", "ROOT", "SYS", "Machine", "read_machine"]

SYS = Path("/sys")
ROOT = Path("/")

_CONTAINER_MARKS = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "lxc": "lxc"}
"""Words in the paths of control groups, and who writes them."""

_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "av")
"""Distributions whose version can change a figure."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What figures depend on.

    Attributes:
        cpu: Model name; on ARM, where the kernel knows none, implementer and part numbers.
        flags: Instruction sets that change speed or rounding.
        architecture: As in ``x86_64`` or ``aarch64``.
        logical_cores: Hardware threads that are online.
        physical_cores: Cores, or None where the kernel does not say.
        affinity_cores: Hardware threads that this process may be scheduled on.
        cpu_limit: What control groups allow, in cores; None without a limit.
        governors: Distinct frequency governors, sorted; empty where the kernel (or a hypervisor) shows none.
        clock_mhz: Highest current clock of any core, or None.
        max_clock_mhz: Highest clock the hardware can run at, or None.
        boost: Whether clocks above the nominal one are allowed, or None.
        memory_mb: Total memory in MiB, or None.
        memory_available_mb: What was available when this was read, or None.
        memory_limit_mb: What control groups allow in MiB; None without a limit.
        board: Name of a Jetson, else None.
        gpus: NVIDIA GPUs by name.
        kernel: Release of the running kernel.
        system: Name of the operating system, or None.
        container: What kind of container this is, or None outside of one as far as can be told.
        python: Version of the interpreter.
        packages: Versions by distribution; what is not installed is absent.
        jetson: What more a Jetson says of itself; None elsewhere.
    """

    cpu: str
    flags: tuple[str, ...]
    architecture: str
    logical_cores: int
    physical_cores: int | None
    affinity_cores: int
    cpu_limit: float | None
    governors: tuple[str, ...]
    clock_mhz: float | None
    max_clock_mhz: float | None
    boost: bool | None
    memory_mb: int | None
    memory_available_mb: int | None
    memory_limit_mb: int | None
    board: str | None
    gpus: tuple[str, ...]
    kernel: str
    system: str | None
    container: str | None
    python: str
    packages: dict[str, str]
    jetson: JetsonFacts | None = None

    @property
    def usable_cores(self) -> int:
        """Whole cores that this process can keep busy: by affinity and by the limit; at least 1."""
        if self.cpu_limit is None:
            return self.affinity_cores
        return max(1, min(self.affinity_cores, int(self.cpu_limit)))


def read_machine(proc: Path = PROC, sys: Path = SYS, root: Path = ROOT) -> Machine:
    """The facts as the trees show them; Python and packages are those that run."""
    cpu = read_cpu(proc)
    total, available = memory_mb(proc) or (None, None)
    logical = _logical_cores(proc)
    return Machine(
        cpu=cpu.model,
        flags=cpu.flags,
        architecture=platform.machine(),
        logical_cores=logical or cpu.count,
        physical_cores=_physical_cores(proc, sys),
        affinity_cores=_affinity_cores(proc) or cpu.count,
        cpu_limit=cpu_limit(proc, sys),
        governors=_governors(sys),
        clock_mhz=_clock_mhz(proc, sys),
        max_clock_mhz=max((khz / 1e3 for khz in _frequencies(sys, "cpuinfo_max_freq")), default=None),
        boost=_boost(sys),
        memory_mb=total,
        memory_available_mb=available,
        memory_limit_mb=memory_limit_mb(proc, sys),
        board=jetson(proc),
        gpus=gpus(proc, root / "dev"),
        kernel=read_text(proc / "sys" / "kernel" / "osrelease") or platform.release(),
        system=_system(root),
        container=_container(proc, root),
        python=platform.python_version(),
        packages=_packages(),
        jetson=read_jetson(proc, sys, root),
    )


def _cpuinfo_blocks(proc: Path) -> Iterator[dict[str, str]]:
    """One mapping for each hardware thread in ``cpuinfo``."""
    for block in read_text(proc / "cpuinfo").split("\n\n"):
        entries = (line.partition(":") for line in block.splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, _, value in entries}
        if "processor" in fields:
            yield fields


def _logical_cores(proc: Path) -> int:
    return sum(1 for _ in _cpuinfo_blocks(proc))


def _physical_cores(proc: Path, sys: Path) -> int | None:
    """Distinct sets of sibling threads; where ``sys`` shows none, distinct cores of ``cpuinfo``."""
    siblings = {
        read_text(path)
        for path in (sys / "devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    } - {""}
    if siblings:
        return len(siblings)
    cores = {(f.get("physical id"), f["core id"]) for f in _cpuinfo_blocks(proc) if "core id" in f}
    return len(cores) or None


def _affinity_cores(proc: Path) -> int:
    """How many CPUs the list ``0-3,8`` in the process's status names; 0 where it has none."""
    for line in read_text(proc / "self" / "status").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            return sum(_length(part) for part in line.partition(":")[2].split(","))
    return 0


def _length(part: str) -> int:
    first, _, last = part.strip().partition("-")
    if not first.isdigit():
        return 0
    return int(last or first) - int(first) + 1 if (last or first).isdigit() else 0


def _frequencies(sys: Path, name: str) -> list[float]:
    """One number of every core's ``cpufreq``, where it is readable."""
    files = (sys / "devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}")
    return [float(text) for text in map(read_text, files) if text.isdigit()]


def _governors(sys: Path) -> tuple[str, ...]:
    files = (sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return tuple(sorted(set(map(read_text, files)) - {""}))


def _clock_mhz(proc: Path, sys: Path) -> float | None:
    clocks = [khz / 1e3 for khz in _frequencies(sys, "scaling_cur_freq")]
    for fields in [] if clocks else _cpuinfo_blocks(proc):
        try:
            clocks.append(float(fields.get("cpu MHz", "")))
        except ValueError:
            continue
    return max(clocks, default=None)


def _boost(sys: Path) -> bool | None:
    cpu = sys / "devices/system/cpu"
    boost, no_turbo = read_text(cpu / "cpufreq/boost"), read_text(cpu / "intel_pstate/no_turbo")
    if boost in ("0", "1"):
        return boost == "1"
    return no_turbo == "0" if no_turbo in ("0", "1") else None


def _system(root: Path) -> str | None:
    for line in read_text(root / "etc" / "os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip("\"'") or None
    return None


def _container(proc: Path, root: Path) -> str | None:
    """By the marks that container engines leave; they are conventions, so None proves nothing."""
    told = read_text(root / "run" / "systemd" / "container")
    if told:
        return told
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run" / ".containerenv").exists():
        return "podman"
    groups = read_text(proc / "self" / "cgroup") + read_text(proc / "1" / "cgroup")
    return next((name for mark, name in _CONTAINER_MARKS.items() if mark in groups), None)


def _packages() -> dict[str, str]:
    versions = {"sspcab-edge": sspcab_edge.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
