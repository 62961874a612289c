"""One detector, many callers: every thread gets the verdict of its own frame, or one clear error."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from definitions.tiny_objects import make_object_bundle
from sspcab_edge.errors import EngineError, InputError
from sspcab_edge.protocols import Frame, Verdict
from sspcab_runtime import Detector, Result
from sspcab_runtime.engines.base import GraphEngine

Pixels = npt.NDArray[np.uint8]

THREADS = 16
BACKENDS = ["onnxruntime", "openvino"]


@pytest.fixture(autouse=True)
def hasty() -> Iterator[None]:
    """Threads of Python give way as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def same(verdict: Verdict, expected: Verdict) -> bool:
    assert verdict.map is not None
    assert expected.map is not None
    return verdict.score == expected.score and bool((verdict.map == expected.map).all())


def at_once(work: Callable[[int], object], count: int = THREADS) -> list[object]:
    """What ``work`` gives or raises in so many threads that begin together."""
    gate = threading.Barrier(count)

    def run(number: int) -> object:
        gate.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return [future.result(120) for future in [pool.submit(run, number) for number in range(count)]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_get_the_verdicts_of_their_own_frames(pristine: Path, frames: Pixels, backend: str) -> None:
    with Detector.open(pristine, backend=backend) as detector:
        expected = [detector(pixels) for pixels in frames]
        assert len({verdict.score for verdict in expected}) == len(frames)

        def judge(number: int) -> int:
            order = np.random.default_rng(number).integers(0, len(frames), 60)
            return sum(same(detector(frames[which]), expected[which]) for which in order)

        assert at_once(judge) == [60] * THREADS


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_event_loop_may_hand_frames_to_its_threads(pristine: Path, frames: Pixels, backend: str) -> None:
    async def judge(detector: Detector) -> list[Verdict]:
        return await asyncio.gather(*(asyncio.to_thread(detector, pixels) for pixels in frames))

    with Detector.open(pristine, backend=backend) as detector:
        expected = [detector(pixels) for pixels in frames]
        assert all(map(same, asyncio.run(judge(detector)), expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_may_share_a_detector_that_remembers_nothing(
    pristine: Path, frames: Pixels, backend: str
) -> None:
    class Given:
        """Frames from memory."""

        uri, count = "memory", len(frames)

        def __init__(self, order: npt.NDArray[np.int64]) -> None:
            self._left = iter(enumerate(order))

        def __iter__(self) -> Given:
            return self

        def __next__(self) -> Frame:
            index, which = next(self._left)
            return Frame(frames[which], index, self.uri, 0.0, 0.0)

        def close(self) -> None: ...

    with Detector.open(pristine, backend=backend) as detector:
        expected = [detector(pixels).score for pixels in frames]

        def judge(number: int) -> bool:
            order = np.random.default_rng(number).permutation(len(frames))
            results = [one for one in detector.stream(Given(order)) if isinstance(one, Result)]
            return [one.verdict.score for one in results] == [expected[which] for which in order]

        assert at_once(judge, 4) == [True] * 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_clocks_are_those_of_the_calling_thread(pristine: Path, frames: Pixels, backend: str) -> None:
    with Detector.open(pristine, backend=backend) as detector:
        engine = detector.engine
        assert isinstance(engine, GraphEngine)

        def clocks(number: int) -> bool:
            del number
            before = engine.stages_ms
            detector(frames[0])
            mine = engine.stages_ms
            threading.Event().wait(0.05)
            return not before and set(mine) == {"copy_in", "infer", "copy_out"} and mine is engine.stages_ms

        assert all(at_once(clocks, 8))


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_waits_for_who_is_inside_and_refuses_the_rest(
    pristine: Path, frames: Pixels, backend: str
) -> None:
    detector = Detector.open(pristine, backend=backend)
    expected = detector(frames[0])
    begun = threading.Event()

    def judge(number: int) -> str:
        if number == 0:
            assert begun.wait(30)
            detector.close()
            return "closed"
        for _ in range(100_000):
            try:
                assert same(detector(frames[0]), expected)
            except EngineError as error:
                return str(error)
            begun.set()
        return "never closed"

    closed, *refused = map(str, at_once(judge, 8))
    assert closed == "closed"
    assert all(text.endswith("is closed") for text in refused)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fork_is_told_to_open_its_own(pristine: Path, frames: Pixels, backend: str) -> None:
    with Detector.open(pristine, backend=backend) as detector:
        detector(frames[0])
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: that is what is tested
            child = os.fork()
        if child == 0:
            try:
                detector(frames[0])
            except EngineError as error:
                os.write(writing, str(error).encode())
            detector.close()
            os._exit(0)
        os.close(writing)
        assert os.waitpid(child, 0)[1] == 0
        with os.fdopen(reading) as told:
            assert "opened before this process was forked: open it in the process that uses it" in told.read()
        assert detector(frames[0]).score is not None


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickles_and_copies_say_what_to_do(pristine: Path, copied: Callable[[object], object]) -> None:
    with Detector.open(pristine) as detector:
        for one in (detector, detector.engine):
            with pytest.raises(EngineError, match="open the bundle in the process that uses it"):
                copied(one)


def test_what_remembers_a_stream_refuses_a_second_one(tmp_path: Path, rng: np.random.Generator) -> None:
    bundle = make_object_bundle(tmp_path / "bundle", height=64, width=80)
    pixels = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)

    class Endless:
        """A camera."""

        uri, count = "camera", None

        def __iter__(self) -> Endless:
            return self

        def __next__(self) -> Frame:
            return Frame(pixels, 0, self.uri, 0.0, 0.0)

        def close(self) -> None: ...

    with Detector.open(bundle.path) as detector:
        stream = detector.stream(Endless())
        next(stream)
        with pytest.raises(
            InputError, match="another stream, and remembers the frames of one: open a detector"
        ):
            detector(pixels)
        with pytest.raises(InputError, match="another stream"):
            next(detector.stream(Endless()))
        stream.close()
        detector(pixels)
