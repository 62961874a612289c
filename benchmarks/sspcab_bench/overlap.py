"""Is everything hidden behind the slowest stage? The pipeline against each of its stages alone, in turns.

A pipeline whose stages overlap can be as fast as its slowest stage and no faster. What it lacks of that is
what threads, locks and the other stages' use of the same cores cost.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from sspcab_bench.inputs import Endless
from sspcab_bench.phases import with_score
from sspcab_bench.pretend import WaitingEngine
from sspcab_bench.summary import Interval, median_interval
from sspcab_edge.bundle import Bundle
from sspcab_edge.protocols import Engine, Frame, Request, Source
from sspcab_runtime.calls import answer
from sspcab_runtime.detector import Detector
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.opening import open_first, wanted_settings

__all__ = ["Cost", "Overlap", "measure_overlap"]

_IN_FLIGHT = 6
_KEPT = 8
"""Frames and inputs that stages are measured on alone, in turn."""

_PACED = "decode at the stream's pace"

_LEAST = 5
"""Fewest frames of a turn, however long one takes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A frame of one turn: ``wall_ms`` of time, and ``cpu_ms`` of CPU time of all threads."""

    wall_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """What was found.

    Attributes:
        artifact: That ran. Also its ``backend``; a pretended engine's is ``waiting``.
        alone: Median cost of a frame by stage: ``decode``, ``prepare``, ``engine``, ``finish``.
        stream: Of the whole, overlapped.
        slowest: The stage that takes most time alone.
        share: Speed of the whole over that of its slowest stage, the median of the rounds' ratios.
        own_cpu_ms: CPU milliseconds of a frame outside decoder and engine: the whole's, less the engine's,
            less what the same frames take to be decoded at the same pace. The median of the rounds'
            differences.
    """

    artifact: str
    backend: str
    alone: dict[str, Cost]
    stream: Cost
    slowest: str
    share: Interval
    own_cpu_ms: Interval


def measure_overlap(
    bundle: Bundle,
    open_frames: Callable[[], Source],
    *,
    backend: str | None = None,
    precision: str | None = None,
    engine_ms: float | None = None,
    rounds: int,
    seconds: float,
    progress: Callable[[int], None] = lambda done: None,
) -> Overlap:
    """``rounds`` of a turn of ``seconds`` for the whole and for each stage; one round more does not count.

    Args:
        bundle: What runs, as the runtime would choose.
        open_frames: Opens the source once more.
        backend: Only on this one. Also ``precision``: only this one.
        engine_ms: Put an engine in its place that waits so long; None runs the real one.
        rounds: How many.
        seconds: At least so long for a turn.
        progress: Called with the rounds done.

    Raises:
        EdgeError: The bundle or the source cannot be opened, or a frame failed.
    """
    settings = wanted_settings(bundle.manifest.artifacts, backend=backend, precision=precision)
    setting, engines = open_first(bundle, settings, fallback=backend is None)
    with ExitStack() as stack:
        for one in engines:
            stack.callback(one.close)
        engine: Engine = engines[0] if engine_ms is None else WaitingEngine(engines[0], engine_ms)
        threshold = bundle.manifest.decision.threshold
        front_end = open_front_end(bundle.manifest, setting.artifact, threshold, bundle.path)
        detector = Detector(bundle, setting.artifact, engine, front_end, threshold)
        source = stack.enter_context(closing(Endless(open_frames)))
        turns = _turns(detector, source)
        costs: dict[str, list[Cost]] = {name: [] for name in (*turns, _PACED)}
        for done in range(rounds + 1):
            taken = {name: turns[name](seconds) for name in (turns if done % 2 else reversed(turns))}
            taken[_PACED] = _paced(source, taken["stream"].wall_ms, seconds)
            for name, cost in taken.items() if done else ():
                costs[name].append(cost)
            progress(done)
    whole, paced = costs.pop("stream"), costs.pop(_PACED)
    alone = {name: _median(series) for name, series in costs.items()}
    slowest = max(alone, key=lambda name: alone[name].wall_ms)
    shares = [stage.wall_ms / all_.wall_ms for stage, all_ in zip(costs[slowest], whole, strict=True)]
    own = [
        all_.cpu_ms - decode.cpu_ms - inferring.cpu_ms
        for all_, decode, inferring in zip(whole, paced, costs["engine"], strict=True)
    ]
    return Overlap(
        artifact=setting.artifact.name,
        backend=setting.backend if engine_ms is None else "waiting",
        alone=alone,
        stream=_median(whole),
        slowest=slowest,
        share=median_interval(shares),
        own_cpu_ms=median_interval(own),
    )


def _paced(source: Endless, every_ms: float, seconds: float) -> Cost:
    """Decoding at a pace. It takes more CPU time than in one go: threads sleep and wake, caches cool."""
    due = time.perf_counter()

    def one() -> None:
        nonlocal due
        next(source)
        due += every_ms / 1e3
        time.sleep(max(0.0, due - time.perf_counter()))

    return _turn(one, seconds)


def _median(series: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall_ms for cost in series), statistics.median(cost.cpu_ms for cost in series)
    )


def _turns(detector: Detector, source: Endless) -> dict[str, Callable[[float], Cost]]:
    """By name, what takes a turn of so many seconds."""
    front_end, engine = detector.front_end, detector.engine
    frames: list[Frame] = []
    requests: list[Request] = []
    while len(requests) < _KEPT:
        frame = next(source)
        request = front_end.push(frame)
        frames.append(frame)
        if request is not None:
            requests.append(request)
    answers = [answer(engine, request) for request in requests]
    numbers = itertools.count()

    def stream(seconds: float) -> Cost:
        front_end.reset()
        with closing(detector.stream(source)) as results:
            scored = with_score(results)
            for _ in range(1 + _IN_FLIGHT):
                next(scored)
            return _turn(lambda: next(scored), seconds)

    def prepare() -> None:
        front_end.push(frames[next(numbers) % len(frames)])

    def infer() -> None:
        answer(engine, requests[next(numbers) % _KEPT])

    def finish() -> None:
        number = next(numbers) % _KEPT
        front_end.merge(answers[number], requests[number].context)

    return {
        "decode": lambda seconds: _turn(lambda: next(source), seconds),
        "prepare": lambda seconds: _turn(
            lambda: front_end.push(frames[next(numbers) % len(frames)]), seconds
        ),
        "engine": lambda seconds: _turn(lambda: answer(engine, requests[next(numbers) % _KEPT]), seconds),
        "finish": lambda seconds: _turn(finish, min(seconds, 0.2)),
        "stream": stream,
    }


def _turn(run: Callable[[], object], seconds: float) -> Cost:
    count = 0
    cpu_s, start = time.process_time(), time.perf_counter()
    while count < _LEAST or time.perf_counter() - start < seconds:
        run()
        count += 1
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_s
    return Cost(1e3 * wall_s / count, 1e3 * cpu_s / count)
