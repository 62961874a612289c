"""The same graph through vendors' own tools: OpenVINO's ``benchmark_app`` and TensorRT's ``trtexec``.

They run in processes of their own and feed random data, in turns with our engine. ``trtexec`` was not run by
us: its form is that of NVIDIA's documentation (TensorRT 10, "Command-Line Programs").
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sspcab_bench.peers import WARM_S, Against, cycle
from sspcab_bench.summary import median_interval
from sspcab_bench.timing import stopwatch, warm_up
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError
from sspcab_edge.manifest import Artifact
from sspcab_runtime.setting import Setting, open_engines
from sspcab_runtime.turns import pack_inputs

__all__ = ["TOOLS", "Tool", "against_tool", "find_tool", "read_median_ms"]

Shapes = Mapping[str, tuple[int, ...]]
"""Of inputs, by name."""

_TIMEOUT_S = 60.0
_BUILD_TIMEOUT_S = 1800.0
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Tool:
    """A vendor's benchmark.

    Attributes:
        program: Its name.
        command: Arguments from the graph's file, the shapes of its inputs by name, what our engine computes
            in, and seconds.
        median: Finds the median latency and its unit in what it prints.
        timeout_s: How long it may take beside the seconds that it was told.
    """

    program: str
    command: Callable[[Path, Shapes, str, float], list[str]]
    median: re.Pattern[str]
    timeout_s: float


def _benchmark_app(path: Path, shapes: Shapes, precision: str, seconds: float) -> list[str]:
    told = ",".join(f"{name}[{','.join(map(str, shape))}]" for name, shape in shapes.items())
    return [
        "-m", str(path), "-d", "CPU", "-hint", "latency", "-api", "sync", "-nireq", "1",
        "-t", str(max(1, round(seconds))), "-infer_precision", precision, "-data_shape", told, "-shape", told,
    ]  # fmt: skip


def _trtexec(path: Path, shapes: Shapes, precision: str, seconds: float) -> list[str]:
    told = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return [
        f"--onnx={path}", f"--shapes={told}", "--stronglyTyped", "--useSpinWait",
        f"--duration={max(1, round(seconds))}",
    ]  # fmt: skip


TOOLS: dict[str, Tool] = {
    "openvino": Tool(
        "benchmark_app", _benchmark_app, re.compile(r"Median:\s+([\d.]+) (us|ms|s)\b"), _TIMEOUT_S
    ),
    "tensorrt": Tool(
        "trtexec", _trtexec, re.compile(r"\[I\] Latency: .*?\bmedian = ([\d.]+) (ms)\b"), _BUILD_TIMEOUT_S
    ),
}
"""By backend."""


def find_tool(tool: Tool) -> str | None:
    """Beside this interpreter or on the path; None where it is not there."""
    beside = Path(sys.executable).parent / tool.program
    return str(beside) if beside.exists() else shutil.which(tool.program)


def against_tool(
    bundle: Bundle, artifact: Artifact, backend: str, program: str, *, rounds: int, seconds: float
) -> Against:
    """Median latency of our engine and of the backend's tool, one call at a time, in turns.

    Raises:
        EngineError: One of them failed.
    """
    tool, inputs = TOOLS[backend], pack_inputs(bundle)
    path = bundle.file(artifact.files[0])
    shapes = {port.name: inputs[0][port.name].shape for port in bundle.manifest.inputs}
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        with open_engines(bundle, Setting(artifact, backend))[0] as engine:
            run = stopwatch(cycle(engine.infer, inputs))
            warm_up(run, cap_s=WARM_S)
            calls = [run() for _ in range(max(10, round(seconds * 1e3 / max(run(), 1e-3))))]
            precision = engine.settings
        ours.append(statistics.median(calls))
        theirs.append(_run(tool, program, path, tool.command(path, shapes, precision, seconds), seconds))
    return Against(
        artifact.name,
        tool.program,
        statistics.median(ours),
        statistics.median(theirs),
        median_interval([a - b for a, b in zip(ours, theirs, strict=True)]),
        median_interval([a / b for a, b in zip(ours, theirs, strict=True)]),
    )


def read_median_ms(tool: Tool, text: str) -> float | None:
    """The median latency in what a tool printed, in milliseconds; None where there is none."""
    found = tool.median.search(text)
    return None if found is None else float(found.group(1)) * _MILLISECONDS[found.group(2)]


def _run(tool: Tool, program: str, path: Path, arguments: list[str], seconds: float) -> float:
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True, text=True, timeout=tool.timeout_s + seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{tool.program} did not end on {path}") from error
    found = read_median_ms(tool, done.stdout)
    if done.returncode != 0 or found is None:
        last = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-1:]
        raise EngineError(f"{tool.program} failed on {path}: {' '.join(last)}")
    return found
