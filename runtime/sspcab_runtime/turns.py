"""Timing settings of one bundle against each other: engines kept busy, a turn each, again and again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from types import TracebackType

from sspcab_edge.bundle import Bundle
from sspcab_edge.parity import read_pack
from sspcab_edge.ports import Array
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.frontends.table import open_unit
from sspcab_runtime.setting import Setting, open_engines
from sspcab_runtime.tuning import Objective

__all__ = ["Inputs", "Running", "Turn", "in_turns", "pack_inputs"]

Inputs = Sequence[Mapping[str, Array]]
"""What engines are timed on, one after the other."""

_INPUTS = 8
_MIN_CALLS = 2


def pack_inputs(bundle: Bundle) -> Inputs:
    """Inputs of the parity pack, one entry of the graph's batch each, at most eight.

    Raises:
        BundleError: The pack cannot be read.
    """
    manifest = bundle.manifest
    unit = open_unit(manifest, manifest.artifacts[0], manifest.decision.threshold)
    return [unit.ask(item.entry).inputs for item in islice(read_pack(bundle), _INPUTS)]


@dataclass(frozen=True, slots=True)
class Turn:
    """Durations of inferences in milliseconds, a series for each stream; the streams ran side by side."""

    streams_ms: Sequence[Sequence[float]]

    @property
    def median_ms(self) -> float:
        """Median duration of one inference."""
        return statistics.median(value for series in self.streams_ms for value in series)

    @property
    def fps(self) -> float:
        """Inferences a second, of all streams together."""
        return sum(1e3 / statistics.fmean(series) for series in self.streams_ms)

    def cost_ms(self, objective: Objective) -> float:
        """What the objective wants to be small: the median duration, or milliseconds per frame."""
        return self.median_ms if objective == "latency" else 1e3 / self.fps


class Running:
    """The engines of a setting, each with a thread of its own, ready to be timed. A context manager.

    Raises:
        OptionError, MissingPackageError, EngineError: As :func:`~sspcab_runtime.setting.open_engines`, and
            whatever ``first`` raises.
    """

    def __init__(
        self,
        bundle: Bundle,
        setting: Setting,
        inputs: Inputs,
        first: Callable[[GraphEngine], object] | None = None,
    ) -> None:
        self.setting = setting
        self.engines = open_engines(bundle, setting, first)
        self._inputs = inputs
        self._threads = ThreadPoolExecutor(setting.streams, thread_name_prefix="sspcab-tune")

    def turn(self, seconds: float) -> Turn:
        """Infer for at least ``seconds`` and two calls a stream, after a call a stream that does not count.

        Raises:
            EngineError: An engine failed.
        """
        jobs = [self._threads.submit(_calls, engine, self._inputs, seconds) for engine in self.engines]
        return Turn([job.result() for job in jobs])

    def close(self) -> None:
        """Release threads and engines."""
        self._threads.shutdown()
        with ExitStack() as closing:
            for engine in self.engines:
                closing.callback(engine.close)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _calls(engine: GraphEngine, inputs: Inputs, seconds: float) -> list[float]:
    engine.infer(inputs[0])
    calls_ms: list[float] = []
    begin = time.perf_counter()
    while len(calls_ms) < _MIN_CALLS or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        engine.infer(inputs[len(calls_ms) % len(inputs)])
        calls_ms.append((time.perf_counter() - start) * 1e3)
    return calls_ms


def in_turns(
    runnings: Sequence[Running],
    *,
    seconds: float,
    rounds: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[Turn]]:
    """Time settings in rounds: in each round every one has a turn, forwards and backwards alternately.

    What disturbs the machine disturbs neighbours alike, so turns of one round are compared with each other.
    ``progress`` is told how many rounds are done. The result has a list of ``rounds`` turns for each setting.

    Raises:
        EngineError: An engine failed.
    """
    turns: list[list[Turn]] = [[] for _ in runnings]
    for number in range(rounds):
        order = range(len(runnings))
        for which in order if number % 2 == 0 else reversed(order):
            turns[which].append(runnings[which].turn(seconds))
        progress(number + 1)
    return turns
