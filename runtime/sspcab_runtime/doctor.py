"""What this machine has, what runs on it, and what is missing with the command that installs it."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import cv2
import msgspec
import numpy as np

from sspcab_edge import __version__
from sspcab_edge.command import PATH, common_options, json_option
from sspcab_edge.errors import EngineError, OptionError
from sspcab_edge.installing import install_command
from sspcab_runtime.cache import cache_folder, write_atomically
from sspcab_runtime.engines.probe import probe
from sspcab_runtime.engines.table import ENGINES, engine_class, installed
from sspcab_runtime.engines.tensorrt.device_report import device_report, format_device_report
from sspcab_runtime.machine import DEV, PROC, gpus, jetson, memory_mb, read_cpu
from sspcab_runtime.tables import table

__all__ = ["Engine", "Machine", "Package", "Report", "examine", "format_report"]

_PACKAGES: dict[str, tuple[str | None, str]] = {
    "numpy": (None, "everything"),
    "opencv-python-headless": (None, "pictures"),
    "click": (None, "commands"),
    "msgspec": (None, "manifests"),
    "av": ("video", "videos"),
    "torch": ("export", "reading checkpoints"),
    "onnx": ("export", "exporting"),
    "onnx-ir": ("export", "exporting"),
    "onnxscript": ("export", "exporting"),
    "safetensors": ("export", "reading .safetensors"),
}
"""Distribution -> (the extra that brings it, None for the base install; what it is needed for)."""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """One package: its version, or None with the command that installs it."""

    name: str
    version: str | None
    needed_for: str
    install: str


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """One backend: the version that ran a tiny graph just now, or why none did."""

    backend: str
    runs: bool
    version: str | None
    error: str | None
    install: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine; memory in MB, None where the kernel does not say."""

    system: str
    architecture: str
    python: str
    cpu: str
    cpu_flags: tuple[str, ...]
    cpus: int
    memory_mb: int | None
    memory_available_mb: int | None
    gpus: tuple[str, ...]
    jetson: str | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``sspcab-edge doctor`` finds."""

    schema: int
    version: str
    machine: Machine
    packages: tuple[Package, ...]
    engines: tuple[Engine, ...]
    cache: str | None
    cache_error: str | None


def examine(*, proc: Path = PROC, dev: Path = DEV, backends: Sequence[str] = tuple(ENGINES)) -> Report:
    """Look at this machine. Backends that are installed run a tiny graph, each in a process of its own."""
    cache, cache_error = _cache()
    return Report(
        schema=1,
        version=__version__,
        machine=_machine(proc, dev),
        packages=tuple(_package(name) for name in _PACKAGES),
        engines=tuple(_engine(backend) for backend in backends),
        cache=cache,
        cache_error=cache_error,
    )


def _machine(proc: Path, dev: Path) -> Machine:
    cpu = read_cpu(proc)
    total, available = memory_mb(proc) or (None, None)
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu=cpu.model,
        cpu_flags=cpu.flags,
        cpus=cpu.count,
        memory_mb=total,
        memory_available_mb=available,
        gpus=gpus(proc, dev),
        jetson=jetson(proc),
    )


def _package(name: str) -> Package:
    extra, needed_for = _PACKAGES[name]
    return Package(
        name=name, version=_version(name), needed_for=needed_for, install=install_command(extra, name)
    )


def _version(name: str) -> str | None:
    """The version of a distribution; OpenCV and NumPy come under several names and tell it themselves."""
    own = {"opencv-python-headless": cv2.__version__, "numpy": np.__version__}
    if name in own:
        return str(own[name])
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engine(backend: str) -> Engine:
    install = install_command(engine_class(backend).extra, engine_class(backend).package)
    if not installed(backend):
        return Engine(backend=backend, runs=False, version=None, error="not installed", install=install)
    found = probe(backend)
    runs = found.error is None
    return Engine(backend=backend, runs=runs, version=found.version, error=found.error, install=install)


def _cache() -> tuple[str | None, str | None]:
    """The cache folder, and why it cannot be written."""
    try:
        folder = cache_folder()
    except OSError as error:
        return None, str(error)
    probe_file = folder / "doctor"
    try:
        write_atomically(probe_file, b"")
        probe_file.unlink()
    except OSError as error:
        return str(folder), f"not writable: {error.strerror}"
    return str(folder), None


def format_report(report: Report) -> str:
    """A report in words, for a terminal."""
    machine = report.machine
    memory = "unknown"
    if machine.memory_mb is not None:
        memory = f"{machine.memory_mb} MB, {machine.memory_available_mb} MB available"
    facts = [
        ("sspcab-edge", f"{report.version}, Python {machine.python} ({sys.executable})"),
        ("system", f"{machine.system} {machine.architecture}"),
        ("CPU", f"{machine.cpu}, {machine.cpus} usable"),
        ("instructions", " ".join(machine.cpu_flags) or "none of those that matter"),
        ("memory", memory),
        ("Jetson", machine.jetson or "no"),
        ("GPU", ", ".join(machine.gpus) or "none seen"),
        ("cache", _cache_line(report)),
    ]
    parts = [table(("", ""), facts).split("\n", 1)[1], ""]
    engines = [
        (e.backend, e.version or "-", "runs" if e.runs else f"{e.error}: {e.install}") for e in report.engines
    ]
    parts += [table(("backend", "version", "state"), engines), ""]
    packages = [(p.name, p.version or "-", p.needed_for if p.version else _need(p)) for p in report.packages]
    parts.append(table(("package", "version", "for"), packages))
    if not any(engine.runs for engine in report.engines):
        parts += ["", f"no backend runs here, nothing can be detected: {report.engines[0].install}"]
    return "\n".join(parts)


def _need(package: Package) -> str:
    return f"{package.needed_for}: {package.install}"


def _cache_line(report: Report) -> str:
    return " ".join(part for part in (report.cache, report.cache_error) if part is not None)


@click.command("doctor")
@click.argument("bundle", required=False, type=PATH)
@click.option(
    "--device-report",
    "on_device",
    is_flag=True,
    help="Try TensorRT on this machine's GPU, step by step; JSON on stdout, to be kept or sent.",
)
@json_option
@common_options
def command(bundle: Path | None, on_device: bool, as_json: bool) -> None:
    """Say what this machine has, which backends really run, and how to install what is missing.

    With --device-report, BUNDLE's TensorRT artifacts are made ready and its parity pack is replayed too.
    """
    if on_device:
        _report_device(bundle, as_json)
        return
    if bundle is not None:
        raise OptionError("doctor looks at a bundle with --device-report alone: add it, or use verify")
    report = examine()
    click.echo(msgspec.json.encode(report).decode() if as_json else format_report(report))


def _report_device(bundle: Path | None, as_json: bool) -> None:
    """JSON on stdout; without ``as_json`` the same in words on stderr.

    Raises:
        EngineError: A step failed; what there is no GPU for is skipped and no failure.
    """
    report = device_report(bundle)
    if not as_json:
        click.echo(format_device_report(report), err=True)
    click.echo(msgspec.json.encode(report).decode())
    if report.failed:
        names = ", ".join(step.step for step in report.failed)
        raise EngineError(f"{len(report.failed)} of {len(report.steps)} steps failed on this device: {names}")
