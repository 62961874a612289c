"""The phases of a measurement, all through the steps of the runtime's own pipeline."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

from sspcab_bench.inputs import Endless
from sspcab_bench.summary import Histogram, Statistics, histogram, summarise
from sspcab_bench.timing import MIN_COUNT, measure, stopwatch, until
from sspcab_edge.errors import InputError, SourceError
from sspcab_edge.protocols import Engine, Request
from sspcab_runtime.calls import answer
from sspcab_runtime.detector import Detector
from sspcab_runtime.pipeline import Failure, Result, decode_and_prepare, finish, infer

__all__ = ["See", "engine_alone", "latency", "one_frame", "stream", "with_score"]

_IN_FLIGHT = 6
"""Frames that may be on their way through the stream: so many are let through before its clock starts."""

_MOST_TRIES = 1000
_ENGINE_INPUTS = 8
"""Prepared inputs that the engine alone is measured on, in turn."""

See = Callable[[Result], None]
"""Told of every result that is measured; called outside of all clocks but the stream's."""


def one_frame(detector: Detector, source: Endless, batch: int = 1) -> Result:
    """One frame with a verdict, through the pipeline's steps one after the other.

    A new pass is opened between the clocks of two frames; frames that a front-end only warms up on are
    passed over. Of a ``batch`` the stages are those of all its frames, together.
    """
    ended = False
    waited: dict[str, float] = {}
    while True:
        try:
            ahead = decode_and_prepare(source.current, detector.front_end)
        except StopIteration:
            if ended:
                raise SourceError(f"{source.uri} gives no frame with a verdict to measure with") from None
            ended = True
            source.begin_again()
            continue
        if isinstance(ahead, Failure):
            raise ahead.error
        if ahead is None:
            continue
        result = finish(infer(ahead, detector.engine), detector.front_end)
        if result.verdict.score is not None:
            return _with(result, waited) if waited else result
        if batch > 1:
            waited = {stage: waited.get(stage, 0.0) + value for stage, value in result.stages_ms.items()}


def _with(result: Result, waited: Mapping[str, float]) -> Result:
    stages_ms = {stage: value + waited.get(stage, 0.0) for stage, value in result.stages_ms.items()}
    return replace(result, stages_ms=stages_ms, latency_ms=sum(stages_ms.values()))


def latency(
    detector: Detector, source: Endless, see: See, seconds: float, batch: int = 1
) -> tuple[Statistics, Histogram, dict[str, Statistics]]:
    """Latency of frames taken one at a time, from decoding to verdict, and of their stages."""
    stages: dict[str, list[float]] = {}

    def timed() -> float:
        result = one_frame(detector, source, batch)
        see(result)
        for stage, value in result.stages_ms.items():
            stages.setdefault(stage, []).append(value)
        return result.latency_ms

    durations_ms = measure(timed, seconds=seconds)
    return (
        summarise(durations_ms),
        histogram(durations_ms),
        {stage: summarise(values) for stage, values in stages.items()},
    )


def stream(detector: Detector, source: Endless, see: See, seconds: float, batch: int = 1) -> float:
    """Frames judged a second, stages overlapped, once the stream is full and the front-end warm.

    Of a ``batch`` the last frame alone has a score.
    """
    detector.front_end.reset()
    with closing(detector.stream(source)) as results:
        scored = with_score(results)
        for _ in range(1 + _IN_FLIGHT):
            see(next(scored))
        start = time.perf_counter()
        count = 0
        for _ in until(seconds, MIN_COUNT):
            see(next(scored))
            count += 1
        return batch * count / (time.perf_counter() - start)


def with_score(results: Iterable[Result | Failure]) -> Iterator[Result]:
    """Results of a stream that have a score: the others cost next to nothing, and would flatter it.

    Raises:
        EdgeError: A frame failed.
        InputError: A thousand frames after each other had no score.
    """
    passed = 0
    for item in results:
        if isinstance(item, Failure):
            raise item.error
        if item.verdict.score is not None:
            passed = 0
            yield item
            continue
        passed += 1
        if passed == _MOST_TRIES:
            raise InputError(f"none of {_MOST_TRIES} frames has a score: give a source that has some")


def engine_alone(detector: Detector, source: Endless, seconds: float, batch: int = 1) -> float:
    """Frames a second of the engines, all at the same time, on prepared inputs of ``batch`` frames."""
    detector.front_end.reset()
    prepared: list[Request] = []
    for _ in range(_MOST_TRIES):
        request = detector.front_end.push(next(source))
        if request is not None and request.inputs:
            prepared.append(request)
        if len(prepared) == _ENGINE_INPUTS:
            break
    if not prepared:
        raise InputError(f"none of {_MOST_TRIES} frames asks anything of the engine: give a source that does")

    def run(engine: Engine) -> float:
        numbers = itertools.count()
        timed = stopwatch(lambda: answer(engine, prepared[next(numbers) % len(prepared)]))
        return batch * 1e3 / summarise(measure(timed, seconds=seconds)).mean

    with ThreadPoolExecutor(len(detector.engines)) as threads:
        return sum(threads.map(run, detector.engines))
