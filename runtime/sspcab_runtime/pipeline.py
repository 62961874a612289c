"""Frames to verdicts: decode, prepare, infer and finish as separate steps, overlapped.

::

    thread "ahead"          thread "engine"                        the caller's thread
    decode -> prepare  ==>  copy_in -> infer -> copy_out  ==>  finish -> Result

Two threads and two short queues: while the engine works on one frame the next ones are decoded and resized,
and the previous one is finished and drawn or printed by the caller. Engines and decoders release Python's
lock, so this is real overlap. Order is kept, and memory is bounded by the queues.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sspcab_edge.errors import PictureError
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Engine, Frame, FrontEnd, Source, Verdict
from sspcab_runtime.channel import Channel

__all__ = [
    "Failure",
    "HasParts",
    "Inferred",
    "Parts",
    "Prepared",
    "Result",
    "decode_and_prepare",
    "finish",
    "infer",
    "stream",
]

DEPTH = 2
"""Frames that may wait before the engine, and as many behind it."""


class HasParts(Protocol):
    """What a stream needs: a :class:`~sspcab_runtime.detector.Detector`, or :class:`Parts`."""

    @property
    def engine(self) -> Engine:
        """Runs the graph."""

    @property
    def front_end(self) -> FrontEnd:
        """Makes inputs from frames and verdicts from outputs."""

    @property
    def threshold(self) -> float | None:
        """For the verdicts of frames that a front-end only warms up on."""


@dataclass(frozen=True, slots=True)
class Parts:
    """An engine and a front-end that belong together."""

    engine: Engine
    front_end: FrontEnd
    threshold: float | None = None


@runtime_checkable
class _Timed(Protocol):
    """An engine that knows how long the steps of its latest call took."""

    @property
    def stages_ms(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame and the engine inputs made from it (None while the front-end warms up)."""

    frame: Frame
    inputs: Mapping[str, Array] | None
    stages_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Inferred:
    """A frame and what the engine gave for it (None while the front-end warms up)."""

    frame: Frame
    outputs: Mapping[str, Array] | None
    stages_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Result:
    """One frame judged.

    Attributes:
        frame: The frame.
        verdict: What the detector says of it.
        latency_ms: Work spent on it from decoding to verdict: the sum of ``stages_ms``. Waiting in the
            queues is not part of it, so it does not grow with the look-ahead.
        stages_ms: Milliseconds per stage: ``decode``, ``prepare``, ``copy_in``, ``infer``, ``copy_out``,
            ``finish``. A stage that does not exist is absent.
    """

    frame: Frame
    verdict: Verdict
    latency_ms: float
    stages_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failure:
    """One picture that could not be decoded; the others go on.

    Attributes:
        path: The file, where the source tells it.
        error: What is wrong with it.
    """

    path: str | None
    error: PictureError


def decode_and_prepare(source: Source, front_end: FrontEnd) -> Prepared | Failure:
    """One step ahead of the engine.

    Raises:
        StopIteration: The source has no more frames.
        SourceError: The source is lost.
        InputError: The frame is not (H, W, 3) uint8.
    """
    start = time.perf_counter()
    try:
        frame = next(source)
    except PictureError as error:
        return Failure(error.path, error)
    decoded = time.perf_counter()
    inputs = front_end.push(frame)
    end = time.perf_counter()
    return Prepared(frame, inputs, {"decode": (decoded - start) * 1e3, "prepare": (end - decoded) * 1e3})


def infer(prepared: Prepared, engine: Engine) -> Inferred:
    """One engine call.

    Raises:
        InputError: The inputs do not fit the engine.
        EngineError: The engine failed.
    """
    if prepared.inputs is None:
        return Inferred(prepared.frame, None, prepared.stages_ms)
    start = time.perf_counter()
    outputs = engine.infer(prepared.inputs)
    end = time.perf_counter()
    own = dict(engine.stages_ms) if isinstance(engine, _Timed) else {"infer": (end - start) * 1e3}
    return Inferred(prepared.frame, outputs, {**prepared.stages_ms, **own})


def finish(inferred: Inferred, front_end: FrontEnd, threshold: float | None) -> Result:
    """One step behind the engine.

    Raises:
        EngineError: The outputs cannot be judged.
    """
    start = time.perf_counter()
    if inferred.outputs is None:
        verdict = Verdict(score=None, threshold=threshold, anomalous=None)
    else:
        verdict = front_end.merge(inferred.outputs)
    stages_ms = {**inferred.stages_ms, "finish": (time.perf_counter() - start) * 1e3}
    return Result(inferred.frame, verdict, sum(stages_ms.values()), stages_ms)


def stream(parts: HasParts, source: Source) -> Generator[Result | Failure, None, None]:
    """Judge every frame of a source, in order, with decoding, inference and the caller overlapped.

    Closing the generator, or any error, stops both threads after the step they are in. The source stays the
    caller's to close.

    Raises:
        SourceError: The source is lost; what came before it was given.
        InputError: A frame is not (H, W, 3) uint8.
        EngineError: The engine failed, or gave what cannot be judged.
    """
    ahead: Channel[Prepared | Failure] = Channel(DEPTH)
    behind: Channel[Inferred | Failure] = Channel(DEPTH)
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="sspcab") as threads:
        try:
            jobs = [
                threads.submit(_run_ahead, source, parts.front_end, ahead),
                threads.submit(_run_engine, parts.engine, ahead, behind),
            ]
            for item in behind:
                if isinstance(item, Failure):
                    yield item
                else:
                    yield finish(item, parts.front_end, parts.threshold)
            for job in jobs:
                job.result()
        finally:
            ahead.abandon()
            behind.abandon()


def _run_ahead(source: Source, front_end: FrontEnd, ahead: Channel[Prepared | Failure]) -> None:
    try:
        while True:
            try:
                item = decode_and_prepare(source, front_end)
            except StopIteration:
                return
            if not ahead.put(item):
                return
    finally:
        ahead.finish()


def _run_engine(
    engine: Engine, ahead: Channel[Prepared | Failure], behind: Channel[Inferred | Failure]
) -> None:
    try:
        for item in ahead:
            if not behind.put(item if isinstance(item, Failure) else infer(item, engine)):
                return
    finally:
        ahead.abandon()
        behind.finish()
