"""The same graph through others, in turns in one process: what our engine call adds to the vendor's own.

A *peer* is a plain call as the vendor's documentation shows it, with the settings that our engine uses.
Vendors' tools, in processes of their own, are in :mod:`sspcab_bench.peer_tools`; torch, where the network
came from, is in :mod:`sspcab_bench.peer_torch`.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sspcab_bench.paired import measure_paired
from sspcab_bench.summary import Interval, median_interval
from sspcab_bench.timing import stopwatch, warm_up
from sspcab_edge.bundle import Bundle
from sspcab_edge.manifest import Artifact
from sspcab_edge.ports import Array
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.setting import Setting, open_engines
from sspcab_runtime.turns import pack_inputs

__all__ = ["PEERS", "WARM_S", "Against", "Call", "against_peer", "cycle", "in_turns"]

WARM_S = 3.0
"""At most so long for warming up."""

Call = Callable[[Mapping[str, Array]], object]
"""Runs a graph once."""


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
        return in_turns(
            artifact.name, f"{backend} {engine.version}", engine.infer, peer, inputs, seconds=seconds
        )


def in_turns(
    artifact: str, name: str, ours: Call, peer: Call, inputs: Sequence[Mapping[str, Array]], *, seconds: float
) -> Against:
    """Our call and a peer's, both warm, in turns."""
    calls: dict[str, Call] = {"ours": ours, "peer": peer}
    timed = {which: stopwatch(cycle(call, inputs)) for which, call in calls.items()}
    for run in timed.values():
        warm_up(run, cap_s=WARM_S)
    paired = measure_paired(timed, seconds=seconds)
    our_ms, peer_ms = paired.rounds_ms["ours"], paired.rounds_ms["peer"]
    return Against(
        artifact,
        name,
        statistics.median(our_ms),
        statistics.median(peer_ms),
        median_interval([a - b for a, b in zip(our_ms, peer_ms, strict=True)]),
        paired.ratio("ours", "peer"),
    )


def cycle(call: Call, inputs: Sequence[Mapping[str, Array]]) -> Callable[[], object]:
    """``call`` on one input after the other, for ever."""
    numbers = itertools.count()
    return lambda: call(inputs[next(numbers) % len(inputs)])
