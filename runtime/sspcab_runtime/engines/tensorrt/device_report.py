"""The report that a person runs on a Jetson or GPU box and sends back: what it is, and what works."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from sspcab_edge import __version__
from sspcab_runtime.engines.tensorrt.report_steps import STEPS, Step
from sspcab_runtime.machine import DEV, PROC, gpus, jetson, memory_mb, read_cpu
from sspcab_runtime.tables import table

__all__ = ["DeviceReport", "Facts", "device_report", "format_device_report", "read_facts"]

_TIMEOUT_S = 3600
_PACKAGES = (
    "nvidia-jetpack",
    "nvidia-l4t-core",
    "tensorrt",
    "libnvinfer",
    "python3-libnvinfer",
    "cuda-cudart",
    "libcudnn",
)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The machine; memory in MB. ``packages`` are those of its package manager that matter, with versions."""

    system: str
    architecture: str
    python: str
    cpu: str
    cpus: int
    memory_mb: int | None
    jetson: str | None
    tegra_release: str | None
    gpus: tuple[str, ...]
    driver: str | None
    packages: dict[str, str]


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``sspcab-edge doctor --device-report`` finds."""

    schema: int
    version: str
    facts: Facts
    steps: tuple[Step, ...]

    @property
    def failed(self) -> tuple[Step, ...]:
        """The steps that failed."""
        return tuple(step for step in self.steps if step.status == "failed")


def device_report(
    bundle: Path | None = None,
    *,
    root: Path = Path("/"),
    proc: Path = PROC,
    dev: Path = DEV,
    timeout_s: float = _TIMEOUT_S,
) -> DeviceReport:
    """Look at the machine, and try every step in another process, which may crash.

    Nothing is raised: what happens is in the report.
    """
    command = [sys.executable, "-m", "sspcab_runtime.engines.tensorrt.report_steps"]
    command += [] if bundle is None else [str(bundle)]
    died: str | None
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=timeout_s, check=False)
        output = done.stdout
        died = _death(done.returncode)
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        died = f"it hung for {timeout_s:.0f} s"
    except OSError as error:
        output, died = b"", f"it could not be started: {error.strerror}"
    steps = _steps(output, died)
    return DeviceReport(schema=1, version=__version__, facts=read_facts(root, proc, dev), steps=steps)


def read_facts(root: Path = Path("/"), proc: Path = PROC, dev: Path = DEV) -> Facts:
    """The machine, from files alone."""
    cpu = read_cpu(proc)
    memory = memory_mb(proc)
    return Facts(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu=cpu.model,
        cpus=cpu.count,
        memory_mb=None if memory is None else memory[0],
        jetson=jetson(proc),
        tegra_release=_first_line(root / "etc/nv_tegra_release"),
        gpus=gpus(proc, dev),
        driver=_first_line(proc / "driver/nvidia/version"),
        packages=_packages(root / "var/lib/dpkg/status"),
    )


def format_device_report(report: DeviceReport) -> str:
    """A report in words, for a terminal."""
    facts = report.facts
    rows = [
        ("sspcab-edge", f"{report.version}, Python {facts.python}"),
        ("system", f"{facts.system} {facts.architecture}"),
        ("Jetson", facts.jetson or "no"),
        ("L4T", facts.tegra_release or "-"),
        ("GPU", ", ".join(facts.gpus) or "none seen"),
        ("driver", facts.driver or "-"),
        *sorted(facts.packages.items()),
    ]
    steps = [(step.step, step.status, step.reason or _brief(step)) for step in report.steps]
    return "\n".join(
        [table(("", ""), rows).split("\n", 1)[1], "", table(("step", "status", "what was seen"), steps)]
    )


def _brief(step: Step) -> str:
    shown = {name: value for name, value in step.facts.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _death(code: int) -> str | None:
    if code == 0:
        return None
    return f"it died of {signal.Signals(-code).name}" if code < 0 else f"it ended with {code}"


def _steps(output: bytes, died: str | None) -> tuple[Step, ...]:
    """Every step once: as it ended, or as the one that the process died in, or as not tried."""
    last: dict[str, Step] = {}
    for line in output.splitlines():
        try:
            step = msgspec.json.decode(line, type=Step)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a library that prints
        last[step.step] = step
    culprit = next((name for name, step in last.items() if step.status == "started"), None)
    found = []
    for name in STEPS:
        step = last.get(name) or Step(step=name, status="skipped", reason=f"not tried: {died or 'no output'}")
        if step.step == culprit:
            step = Step(step=name, status="failed", reason=died or "it ended without a result")
        found.append(step)
    if died is not None and culprit is None:
        found = [Step(step="process", status="failed", reason=died), *found]
    return tuple(found)


def _packages(status: Path) -> dict[str, str]:
    """Installed packages of NVIDIA's that matter here, read from dpkg's own file."""
    found = {}
    name = ""
    for line in _text(status).splitlines():
        field, _, value = line.partition(": ")
        if field == "Package":
            name = value.strip()
        elif field == "Version" and name.startswith(_PACKAGES):
            found[name] = value.strip()
    return found


def _first_line(path: Path) -> str | None:
    lines = _text(path).strip("\0\n ").splitlines()
    return lines[0].strip() if lines else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
