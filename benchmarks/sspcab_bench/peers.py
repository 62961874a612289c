"""The same graph through others, in turns in one process: what our engine call adds to the vendor's own.

A *peer* is a plain call as the vendor's documentation shows it, with the settings that our engine uses.
OpenVINO's ``benchmark_app`` runs in a process of its own, in turns with ours.
"""

from __future__ import annotations

import importlib
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sspcab_bench.paired import measure_paired
from sspcab_bench.summary import Interval, median_interval
from sspcab_bench.timing import stopwatch, warm_up
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError
from sspcab_edge.manifest import Artifact
from sspcab_edge.ports import Array
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.setting import Setting, open_engines
from sspcab_runtime.turns import pack_inputs

__all__ = ["PEERS", "Against", "against_benchmark_app", "against_peer", "find_benchmark_app"]

_MEDIAN = re.compile(r"Median:\s+([\d.]+) (us|ms|s)\b")
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_WARM_S = 3.0
_APP_TIMEOUT_S = 60.0

Call = Callable[[Mapping[str, Array]], object]


@dataclass(frozen=True, slots=True)
class Against:
    """Our engine against a peer.

    Attributes:
        artifact: That both ran.
        peer: In words.
        ours_ms: Median of one call. Also ``peer_ms``.
        added_ms: Ours less the peer's, the median of the pairs' differences.
        ratio: Ours over the peer's.
    """

    artifact: str
    peer: str
    ours_ms: float
    peer_ms: float
    added_ms: Interval
    ratio: Interval


def _onnxruntime(path: Path, engine: GraphEngine, threads: int | None) -> Call:
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or 0
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def _openvino(path: Path, engine: GraphEngine, threads: int | None) -> Call:
    ov = importlib.import_module("openvino")
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": engine.settings}
    if threads is not None:
        config |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    request = ov.Core().compile_model(str(path), "CPU", config).create_infer_request()
    return lambda inputs: request.infer(inputs)


PEERS: dict[str, Callable[[Path, GraphEngine, int | None], Call]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""By backend: the vendor's own call."""


def against_peer(
    bundle: Bundle, artifact: Artifact, backend: str, *, threads: int | None, seconds: float
) -> Against:
    """Our engine call and the vendor's, in turns on the same inputs.

    Raises:
        EngineError: One of them failed.
    """
    inputs = pack_inputs(bundle)
    with ExitStack() as closing:
        engine = open_engines(bundle, Setting(artifact, backend, None, threads))[0]
        closing.callback(engine.close)
        peer = PEERS[backend](bundle.file(artifact.files[0]), engine, threads)
        calls: dict[str, Call] = {"ours": engine.infer, "peer": peer}
        timed = {name: stopwatch(_cycle(call, inputs)) for name, call in calls.items()}
        for run in timed.values():
            warm_up(run, cap_s=_WARM_S)
        paired = measure_paired(timed, seconds=seconds)
    ours, theirs = paired.rounds_ms["ours"], paired.rounds_ms["peer"]
    return Against(
        artifact.name,
        f"{backend} {engine.version}",
        statistics.median(ours),
        statistics.median(theirs),
        median_interval([a - b for a, b in zip(ours, theirs, strict=True)]),
        paired.ratio("ours", "peer"),
    )


def _cycle(call: Call, inputs: Any) -> Callable[[], object]:
    number = 0

    def run() -> object:
        nonlocal number
        number += 1
        return call(inputs[number % len(inputs)])

    return run


def find_benchmark_app() -> str | None:
    """OpenVINO's tool, beside this interpreter or on the path."""
    beside = Path(sys.executable).parent / "benchmark_app"
    return str(beside) if beside.exists() else shutil.which("benchmark_app")


def against_benchmark_app(
    bundle: Bundle, artifact: Artifact, app: str, *, rounds: int, seconds: float
) -> Against:
    """Median latency of our engine and of ``benchmark_app`` (synchronous, latency hint, same precision hint).

    Raises:
        EngineError: One of them failed.
    """
    inputs = pack_inputs(bundle)
    path = bundle.file(artifact.files[0])
    shapes = ",".join(
        f"{port.name}[{','.join(str(size) for size in inputs[0][port.name].shape)}]"
        for port in bundle.manifest.inputs
    )
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        engine = open_engines(bundle, Setting(artifact, "openvino"))[0]
        with engine:
            run = stopwatch(_cycle(engine.infer, inputs))
            warm_up(run, cap_s=_WARM_S)
            calls = [run() for _ in range(max(10, round(seconds * 1e3 / max(run(), 1e-3))))]
        ours.append(statistics.median(calls))
        theirs.append(_benchmark_app(app, path, shapes, engine.settings, seconds))
    return Against(
        artifact.name,
        "benchmark_app",
        statistics.median(ours),
        statistics.median(theirs),
        median_interval([a - b for a, b in zip(ours, theirs, strict=True)]),
        median_interval([a / b for a, b in zip(ours, theirs, strict=True)]),
    )


def _benchmark_app(app: str, path: Path, shapes: str, precision: str, seconds: float) -> float:
    command = [
        app, "-m", str(path), "-d", "CPU", "-hint", "latency", "-api", "sync", "-nireq", "1",
        "-t", str(max(1, round(seconds))), "-infer_precision", precision, "-data_shape", shapes,
        "-shape", shapes,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_APP_TIMEOUT_S + seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"benchmark_app did not end on {path}") from error
    found = _MEDIAN.search(done.stdout)
    if done.returncode != 0 or found is None:
        last = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-1:]
        raise EngineError(f"benchmark_app failed on {path}: {' '.join(last)}")
    return float(found.group(1)) * _MILLISECONDS[found.group(2)]
