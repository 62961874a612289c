"""The pipeline: order, real overlap, bounded look-ahead, errors, and no thread left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from sspcab_edge.errors import EngineError, InputError, PictureError, SourceError
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Frame, FrontEnd, Request, Verdict
from sspcab_edge.testing import FakeEngine, brightness
from sspcab_runtime.channel import Channel
from sspcab_runtime.pipeline import DEPTH, Failure, Parts, Result, stream

LONG_S = 10.0
"""More than anything here needs; a test that waits so long has failed."""

Item = Frame | Exception


def frame(index: int) -> Frame:
    pixels = np.full((4, 4, 3), index % 256, dtype=np.uint8)
    return Frame(pixels, index, "made", time.monotonic(), time.time())


class ListSource:
    """Frames or errors from a list; runs ``before(index)`` ahead of each."""

    uri = "made"

    def __init__(self, items: list[Item], before: Callable[[int], None] = lambda index: None) -> None:
        self.items = items
        self.given = 0
        self._before = before

    @property
    def count(self) -> int | None:
        return len(self.items)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self.given == len(self.items):
            raise StopIteration
        index = self.given
        self._before(index)
        self.given += 1
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        pass


class Plain:
    """A front-end that passes frames on; warms up on the first ``skip``, or asks ``late`` frames later."""

    remembers = True

    def __init__(self, skip: int = 0, late: int = 0) -> None:
        self.skip = skip
        self.late = late
        self.seen: list[Frame] = []

    def push(self, frame: Frame) -> Request | None:
        self.seen.append(frame)
        if len(self.seen) <= self.late:
            return None
        if self.late:
            about = self.seen[-1 - self.late]
            return Request({"frames": about.pixels[None]}, frame=about)
        if frame.index < self.skip:
            return Request({})
        if frame.pixels.ndim != 3:
            raise InputError("frame is flat")
        return Request({"frames": frame.pixels[None]})

    def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict:
        if not outputs:
            return Verdict(None, 0.5, None)
        score = float(outputs["score"][0])
        return Verdict(score, 0.5, score > 0.5)

    def reset(self) -> None:
        pass


def parts(
    function: Callable[[Mapping[str, Array]], Mapping[str, Array]] = brightness,
    front_end: FrontEnd | None = None,
) -> Parts:
    return Parts(FakeEngine(4, 4, function), Plain() if front_end is None else front_end, 0.5)


def several(
    function: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    count: int,
    front_end: FrontEnd | None = None,
) -> Parts:
    """Engines that must never be asked twice at a time."""

    def alone() -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
        busy = threading.Lock()

        def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            assert busy.acquire(blocking=False), "an engine is for one thread at a time"
            try:
                return function(inputs)
            finally:
                busy.release()

        return run

    first, *others = (FakeEngine(4, 4, alone()) for _ in range(count))
    return Parts(first, Plain() if front_end is None else front_end, 0.5, tuple(others))


def frames_of(count: int) -> list[Item]:
    return [frame(index) for index in range(count)]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Every test here must leave no thread of the pipeline."""
    yield
    gc.collect()
    assert workers() == []


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sspcab")]


def test_results_are_right_and_in_order() -> None:
    results = list(stream(parts(), ListSource(frames_of(200))))
    assert len(results) == 200
    for index, result in enumerate(results):
        assert isinstance(result, Result)
        assert result.frame.index == index
        assert result.verdict.score == pytest.approx(index / 255, abs=1e-6)
        assert result.verdict.anomalous is (index / 255 > 0.5)


def test_every_stage_has_its_clock() -> None:
    (result,) = stream(parts(), ListSource(frames_of(1)))
    assert isinstance(result, Result)
    assert list(result.stages_ms) == ["decode", "prepare", "infer", "finish"]
    assert result.latency_ms == pytest.approx(sum(result.stages_ms.values()))


def test_clocks_show_where_time_goes() -> None:
    def slow(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        time.sleep(0.25)
        return brightness(inputs)

    source = ListSource(frames_of(4), before=lambda index: time.sleep(0.01))
    for result in stream(parts(slow), source):
        assert isinstance(result, Result)
        assert result.stages_ms["infer"] >= 249
        assert 9 <= result.stages_ms["decode"] < 200, "waiting for the engine is no part of decoding"
        assert result.latency_ms < 480, "nor of the latency, though a frame waits for two others"


def test_decoding_goes_on_while_the_engine_works() -> None:
    """The engine holds frame 0 until frame 1 was decoded; one after the other this would never end."""
    decoded = threading.Event()

    def waits(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if inputs["frames"].max() == 0:
            assert decoded.wait(LONG_S), "frame 1 was not decoded while the engine worked on frame 0"
        return brightness(inputs)

    source = ListSource(frames_of(3), before=lambda index: decoded.set() if index == 1 else None)
    assert len(list(stream(parts(waits), source))) == 3


def test_the_engine_works_while_the_caller_does() -> None:
    """The caller holds result 0 until the engine has begun frame 1."""
    begun = threading.Event()

    def tells(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if inputs["frames"].max() == 1:
            begun.set()
        return brightness(inputs)

    results = stream(parts(tells), ListSource(frames_of(3)))
    next(results)
    assert begun.wait(LONG_S), "the engine did not begin frame 1 while the caller had result 0"
    assert len(list(results)) == 2


def test_look_ahead_is_bounded() -> None:
    """With a stuck engine no more frames are decoded than the queue, the engine and one hand hold."""
    stuck = threading.Event()
    ahead = threading.Event()
    most = DEPTH + 2

    def holds(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        assert stuck.wait(LONG_S)
        return brightness(inputs)

    source = ListSource(frames_of(50), before=lambda index: ahead.set() if index == most - 1 else None)
    results = stream(parts(holds), source)
    reader = threading.Thread(target=next, args=(results,))
    reader.start()
    assert ahead.wait(LONG_S)
    time.sleep(0.05)
    assert source.given == most
    stuck.set()
    reader.join(LONG_S)
    results.close()


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_early_stops_the_threads(taken: int) -> None:
    source = ListSource(frames_of(10_000))
    with closing(stream(parts(), source)) as results:
        for _ in range(taken):
            next(results)
    assert workers() == []
    assert source.given <= taken + 2 * DEPTH + 3


def test_closing_stops_an_engine_that_waits_for_room() -> None:
    """The caller takes one result and no more: queues fill up, everybody waits, and close() wakes them."""
    full = threading.Event()
    calls = 0

    def counts(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        nonlocal calls
        calls += 1
        if calls == DEPTH + 2:
            full.set()
        return brightness(inputs)

    results = stream(parts(counts), ListSource(frames_of(100)))
    next(results)
    assert full.wait(LONG_S)
    start = time.perf_counter()
    results.close()
    assert time.perf_counter() - start < 1
    assert workers() == []


def test_forgetting_the_generator_stops_the_threads() -> None:
    results = stream(parts(), ListSource(frames_of(1000)))
    next(results)
    del results
    gc.collect()
    assert workers() == []


def test_an_exception_of_the_caller_stops_the_threads() -> None:
    def use() -> None:
        with closing(stream(parts(), ListSource(frames_of(1000)))) as results:
            for _ in results:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert workers() == []


def test_a_bad_picture_keeps_its_place() -> None:
    bad = PictureError("x.png cannot be decoded")
    bad.path = "x.png"
    items: list[Item] = [frame(0), bad, frame(2)]
    first, failure, last = stream(parts(), ListSource(items))
    assert isinstance(first, Result)
    assert isinstance(last, Result)
    assert failure == Failure("x.png", bad)
    assert (first.frame.index, last.frame.index) == (0, 2)


@pytest.mark.parametrize("good", [0, 1, 7])
def test_a_lost_source_is_raised_after_what_it_gave(good: int) -> None:
    items: list[Item] = [*frames_of(good), SourceError("the cable is out"), frame(99)]
    got: list[Result | Failure] = []
    with pytest.raises(SourceError, match="the cable is out"):
        got.extend(stream(parts(), ListSource(items)))
    assert len(got) == good


@pytest.mark.parametrize("good", [0, 3])
def test_an_engine_that_fails_is_raised_after_what_it_gave(good: int) -> None:
    def breaks(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if inputs["frames"].max() == good:
            raise EngineError("out of memory")
        return brightness(inputs)

    source = ListSource(frames_of(1000))
    got: list[Result | Failure] = []
    with pytest.raises(EngineError, match="out of memory"):
        got.extend(stream(parts(breaks), source))
    assert len(got) == good
    assert source.given < 20


def test_a_front_end_that_refuses_a_frame_is_raised() -> None:
    flat = Frame(np.zeros((4, 4), dtype=np.uint8), 1, "made", 0.0, 0.0)
    with pytest.raises(InputError, match="frame is flat"):
        list(stream(parts(), ListSource([frame(0), flat])))


def test_a_frame_that_does_not_show_the_scene_is_a_failure_and_others_go_on() -> None:
    class Covered(Plain):
        def push(self, frame: Frame) -> Request | None:
            if frame.index == 1:
                raise PictureError("the lens is covered")
            return super().push(frame)

    results = list(stream(parts(front_end=Covered()), ListSource(frames_of(3))))
    assert [isinstance(result, Failure) for result in results] == [False, True, False]


def test_a_large_request_is_run_in_several_calls_and_their_times_add_up() -> None:
    sizes: list[int] = []

    def counts(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        sizes.append(len(inputs["frames"]))
        return {"score": inputs["frames"].reshape(len(inputs["frames"]), -1).max(axis=1).astype(np.float32)}

    class Many(Plain):
        def push(self, frame: Frame) -> Request | None:
            tiles = np.stack([np.full((4, 4, 3), number, np.uint8) for number in range(7)])
            return Request({"frames": tiles}, batch=3, context="seven")

        def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict:
            assert context == "seven"
            assert outputs["score"].tolist() == list(range(7))
            return Verdict(float(outputs["score"].max()), 0.5, True)

    (result,) = list(stream(parts(counts, Many()), ListSource(frames_of(1))))
    assert isinstance(result, Result)
    assert result.verdict.score == 6.0
    assert sizes == [3, 3, 1]


def test_a_verdict_that_cannot_be_made_is_raised() -> None:
    class Refuses(Plain):
        def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict:
            raise EngineError("not finite")

    with pytest.raises(EngineError, match="not finite"):
        list(stream(parts(front_end=Refuses()), ListSource(frames_of(500))))


def test_errors_that_are_nobodys_plan_arrive_too() -> None:
    def breaks(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream(parts(breaks), ListSource(frames_of(5))))


def test_warming_up_gives_verdicts_without_scores() -> None:
    built = parts(front_end=Plain(skip=2))
    results = [r for r in stream(built, ListSource(frames_of(4))) if isinstance(r, Result)]
    assert [r.verdict.score is None for r in results] == [True, True, False, False]
    assert results[0].verdict == Verdict(None, 0.5, None)
    assert "infer" not in results[0].stages_ms
    assert isinstance(built.engine, FakeEngine)
    assert built.engine.calls == 2


def test_an_empty_source_gives_nothing() -> None:
    assert list(stream(parts(), ListSource([]))) == []


# Several engines


@pytest.mark.parametrize("streams", [2, 3, 7])
def test_streams_keep_the_order(streams: int) -> None:
    delays = np.random.default_rng(3).uniform(0, 0.004, 256)

    def uneven(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        time.sleep(delays[int(inputs["frames"].max())])
        return brightness(inputs)

    built = several(uneven, streams)
    results = list(stream(built, ListSource(frames_of(120))))
    assert len(results) == 120
    for index, result in enumerate(results):
        assert isinstance(result, Result)
        assert result.frame.index == index
        assert result.verdict.score == pytest.approx(index / 255, abs=1e-6)
    calls = [engine.calls for engine in built.engines if isinstance(engine, FakeEngine)]
    assert sum(calls) == 120
    assert min(calls) > 0


@pytest.mark.parametrize("streams", [2, 5])
def test_streams_work_at_the_same_time(streams: int) -> None:
    """Nobody goes on before all engines are at work; one after the other this would break the barrier."""
    together = threading.Barrier(streams)

    def waits(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        together.wait(LONG_S)
        return brightness(inputs)

    assert len(list(stream(several(waits, streams), ListSource(frames_of(4 * streams))))) == 4 * streams


def test_an_idle_engine_takes_the_next_frame() -> None:
    """Frame 0 holds its engine until frame 3 is done, which the other one has to do."""
    done = threading.Event()

    def uneven(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        index = int(inputs["frames"].max())
        if index == 0:
            assert done.wait(LONG_S)
        if index == 3:
            done.set()
        return brightness(inputs)

    results = list(stream(several(uneven, 2), ListSource(frames_of(5))))
    assert [result.frame.index for result in results if isinstance(result, Result)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("streams", [2, 4])
def test_look_ahead_of_streams_is_bounded(streams: int) -> None:
    stuck = threading.Event()
    ahead = threading.Event()
    most = DEPTH + 1 + streams

    def holds(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        assert stuck.wait(LONG_S)
        return brightness(inputs)

    source = ListSource(frames_of(50), before=lambda index: ahead.set() if index == most - 1 else None)
    results = stream(several(holds, streams), source)
    reader = threading.Thread(target=next, args=(results,))
    reader.start()
    assert ahead.wait(LONG_S)
    time.sleep(0.05)
    assert source.given == most
    stuck.set()
    reader.join(LONG_S)
    results.close()


@pytest.mark.parametrize("bad", [0, 1, 10])
def test_a_failure_in_one_stream_stops_all(bad: int) -> None:
    """What came before it is given, though frames after it may have been done first."""

    def breaks(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if inputs["frames"].max() == bad:
            time.sleep(0.02)
            raise EngineError("out of memory")
        return brightness(inputs)

    source = ListSource(frames_of(1000))
    got: list[Result | Failure] = []
    with pytest.raises(EngineError, match="out of memory"):
        got.extend(stream(several(breaks, 3), source))
    assert [item.frame.index for item in got if isinstance(item, Result)] == list(range(bad))
    assert source.given < bad + 20
    assert workers() == []


@pytest.mark.parametrize("taken", [0, 1, 9])
def test_closing_streams_early(taken: int) -> None:
    """What no engine has begun is dropped."""

    def slow(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        time.sleep(0.02)
        return brightness(inputs)

    built = several(slow, 3)
    source = ListSource(frames_of(10_000))
    with closing(stream(built, source)) as results:
        for _ in range(taken):
            next(results)
    assert workers() == []
    assert source.given <= taken + DEPTH + 4
    calls = sum(engine.calls for engine in built.engines if isinstance(engine, FakeEngine))
    time.sleep(0.05)
    assert calls == sum(engine.calls for engine in built.engines if isinstance(engine, FakeEngine))


def test_a_lost_source_is_raised_after_what_streams_gave() -> None:
    items: list[Item] = [*frames_of(7), SourceError("the cable is out")]
    got: list[Result | Failure] = []
    with pytest.raises(SourceError, match="the cable is out"):
        got.extend(stream(several(brightness, 3), ListSource(items)))
    assert len(got) == 7


def test_a_front_end_that_looks_ahead_is_late_and_says_so() -> None:
    built = parts(front_end=Plain(late=2))
    results = [r for r in stream(built, ListSource(frames_of(5))) if isinstance(r, Result)]
    assert [r.frame.index for r in results] == [0, 1, 2]
    assert all(r.stages_ms["look_ahead"] >= 0 for r in results)
    assert all(r.latency_ms == pytest.approx(sum(r.stages_ms.values())) for r in results)


def test_streams_keep_the_place_of_bad_pictures_and_of_warming_up() -> None:
    items: list[Item] = [frame(0), frame(1), PictureError("bad"), frame(3), frame(4)]
    built = several(brightness, 2, Plain(skip=2))
    kinds = [
        "bad" if isinstance(item, Failure) else item.verdict.score is not None
        for item in stream(built, ListSource(items))
    ]
    assert kinds == [False, False, "bad", True, True]


def test_a_channel_wakes_whoever_waits() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.put(1)
    put: list[bool] = []
    sender = threading.Thread(target=lambda: put.append(channel.put(2)))
    sender.start()
    channel.abandon()
    sender.join(LONG_S)
    assert put == [False]
    assert list(channel) == []

    waiting: Channel[int] = Channel(1)
    received: list[int] = []
    receiver = threading.Thread(target=lambda: received.extend(waiting))
    receiver.start()
    assert waiting.put(7)
    waiting.finish()
    receiver.join(LONG_S)
    assert received == [7]


class LiveList(ListSource):
    """Counts as a camera does; ``taken`` frames were asked for."""

    received = dropped = 0

    def stop(self) -> None:
        """Nothing waits."""


@pytest.mark.parametrize("engines", [1, 3])
def test_of_a_camera_nothing_is_taken_before_it_can_be_judged(engines: int) -> None:
    """So many frames are under way at most, from asking for one to its verdict."""
    given, most = 0, 0
    source = LiveList([frame(index) for index in range(24)])

    def slow(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        nonlocal most
        time.sleep(0.01)
        most = max(most, source.given - given)
        return brightness(inputs)

    judged = several(slow, engines) if engines > 1 else parts(slow)
    for number, result in enumerate(stream(judged, source)):
        given = number + 1
        assert isinstance(result, Result)
        assert result.frame.index == number
    assert given == 24
    assert most <= engines + 1  # the caller has taken a verdict and not counted it yet


def test_a_caller_may_leave_a_camera() -> None:
    results = stream(parts(), LiveList([frame(index) for index in range(24)]))
    next(results)
    results.close()


def test_after_a_gap_nothing_is_remembered() -> None:
    """The frame with the gap is the first that the front-end sees after forgetting."""
    seen: list[int | str] = []

    class Remembering(Plain):
        def push(self, frame: Frame) -> Request | None:
            seen.append(frame.index)
            return super().push(frame)

        def reset(self) -> None:
            seen.append("forgotten")

    frames = [frame(0), frame(1), replace(frame(2), gap=True), frame(3)]
    assert len(list(stream(parts(front_end=Remembering()), ListSource(list(frames))))) == 4
    assert seen == [0, 1, "forgotten", 2, 3]
