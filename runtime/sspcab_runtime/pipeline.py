"""Frames to verdicts: decode, prepare, infer and finish as separate steps, overlapped.

::

    thread "ahead"          a thread per engine                    the caller's thread
    decode -> prepare  ==>  copy_in -> infer -> copy_out  ==>  finish -> Result

While the engines work on some frames the next ones are decoded and resized, and the previous one is finished
and drawn or printed by the caller. Engines and decoders release Python's lock, so this is real overlap.

Several engines of one artifact work on consecutive frames at the same time: more frames a second, no less
latency. Each frame goes to the engine that is idle first; the caller waits for them in the order of the
source. Memory is bounded by the one queue of frames that were begun.

Of a live source no frame is taken before an engine is free for it and the verdict before it is there: what
was prepared ahead would be old.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Semaphore
from typing import Protocol

from sspcab_edge.errors import PictureError
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Engine, Frame, FrontEnd, LiveSource, Request, Source, Verdict
from sspcab_runtime.calls import timed_answer
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
"""Frames that may wait, before the engines or behind them, beside those that the engines work on."""


class HasParts(Protocol):
    """What a stream needs: a :class:`~sspcab_runtime.detector.Detector`, or :class:`Parts`."""

    @property
    def engines(self) -> Sequence[Engine]:
        """They run the graph, each one frame at a time; one or more, all alike."""

    @property
    def front_end(self) -> FrontEnd:
        """Makes inputs from frames and verdicts from outputs."""

    @property
    def threshold(self) -> float | None:
        """For the verdicts of frames that a front-end only warms up on."""


@dataclass(frozen=True, slots=True)
class Parts:
    """An engine and a front-end that belong together; ``others`` are more engines of the same kind."""

    engine: Engine
    front_end: FrontEnd
    threshold: float | None = None
    others: tuple[Engine, ...] = ()

    @property
    def engines(self) -> Sequence[Engine]:
        """All engines."""
        return (self.engine, *self.others)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame and what is asked of the engine about it."""

    frame: Frame
    request: Request
    stages_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Inferred:
    """A frame and what the engine gave for it; nothing, where it was not asked."""

    frame: Frame
    outputs: Mapping[str, Array]
    context: object
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
            ``finish``; ``look_ahead`` is the time until a later frame was there that the verdict depends on.
            A stage that does not exist is absent.
    """

    frame: Frame
    verdict: Verdict
    latency_ms: float
    stages_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failure:
    """One frame that cannot be judged: not decoded, or not of the scene; the others go on.

    Attributes:
        path: The file, where the source tells it.
        error: What is wrong with it.
    """

    path: str | None
    error: PictureError


def decode_and_prepare(source: Source, front_end: FrontEnd) -> Prepared | Failure | None:
    """One step ahead of the engine; None where nothing follows from the frame yet.

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
    if frame.gap:
        front_end.reset()
    try:
        request = front_end.push(frame)
    except PictureError as error:
        return Failure(frame.path, error)
    end = time.perf_counter()
    if request is None:
        return None
    stages_ms = {"decode": (decoded - start) * 1e3, "prepare": (end - decoded) * 1e3}
    if request.frame is not None:
        stages_ms["look_ahead"] = max(0.0, frame.monotonic_s - request.frame.monotonic_s) * 1e3
    return Prepared(request.frame or frame, request, stages_ms)


def infer(prepared: Prepared, engine: Engine) -> Inferred:
    """The engine's part: one call, or several where the request is large.

    Raises:
        InputError: The inputs do not fit the engine.
        EngineError: The engine failed.
    """
    if not prepared.request.inputs:
        return Inferred(prepared.frame, {}, prepared.request.context, prepared.stages_ms)
    outputs, own = timed_answer(engine, prepared.request)
    return Inferred(prepared.frame, outputs, prepared.request.context, {**prepared.stages_ms, **own})


def finish(inferred: Inferred, front_end: FrontEnd) -> Result:
    """One step behind the engine.

    Raises:
        EngineError: The outputs cannot be judged.
    """
    start = time.perf_counter()
    verdict = front_end.merge(inferred.outputs, inferred.context)
    stages_ms = {**inferred.stages_ms, "finish": (time.perf_counter() - start) * 1e3}
    return Result(inferred.frame, verdict, sum(stages_ms.values()), stages_ms)


_Begun = Failure | Future[Inferred]


def stream(parts: HasParts, source: Source) -> Generator[Result | Failure, None, None]:
    """Judge every frame of a source, in order, with decoding, inference and the caller overlapped.

    Closing the generator, or any error, stops all threads after the step they are in. The source stays the
    caller's to close.

    Raises:
        SourceError: The source is lost; what came before it was given.
        InputError: A frame is not (H, W, 3) uint8.
        EngineError: An engine failed, or gave what cannot be judged; what came before it was given.
    """
    idle: SimpleQueue[Engine] = SimpleQueue()
    for engine in parts.engines:
        idle.put(engine)
    begun: Channel[_Begun] = Channel(DEPTH + len(parts.engines) - 1)
    inferring = ThreadPoolExecutor(len(parts.engines), thread_name_prefix="sspcab-infer")
    decoding = ThreadPoolExecutor(1, thread_name_prefix="sspcab-ahead")
    turns = _Turns(len(parts.engines)) if isinstance(source, LiveSource) else None
    try:
        ahead = decoding.submit(_run_ahead, source, parts.front_end, inferring, idle, begun, turns)
        for item in begun:
            result = item if isinstance(item, Failure) else finish(item.result(), parts.front_end)
            if turns is not None:
                turns.give()
            yield result
        ahead.result()
    finally:
        begun.abandon()
        if turns is not None:
            turns.end()
        decoding.shutdown()
        inferring.shutdown(cancel_futures=True)


class _Turns:
    """So many frames may be under way at the same time."""

    def __init__(self, frames: int) -> None:
        self._free = Semaphore(frames)
        self._ended = False

    def take(self) -> bool:
        """Wait for a turn; False when there are no more."""
        self._free.acquire()
        return not self._ended

    def give(self) -> None:
        """A frame is done with."""
        self._free.release()

    def end(self) -> None:
        """Whoever waits gets none any more."""
        self._ended = True
        self._free.release()


def _run_ahead(
    source: Source,
    front_end: FrontEnd,
    inferring: ThreadPoolExecutor,
    idle: SimpleQueue[Engine],
    begun: Channel[_Begun],
    turns: _Turns | None,
) -> None:
    try:
        while turns is None or turns.take():
            try:
                ready = decode_and_prepare(source, front_end)
            except StopIteration:
                return
            if ready is None:
                if turns is not None:
                    turns.give()
                continue
            item = ready if isinstance(ready, Failure) else inferring.submit(_run_engine, ready, idle)
            if not begun.put(item):
                return
    finally:
        begun.finish()


def _run_engine(prepared: Prepared, idle: SimpleQueue[Engine]) -> Inferred:
    """There are as many threads as engines, so one is always idle."""
    engine = idle.get()
    try:
        return infer(prepared, engine)
    finally:
        idle.put(engine)
