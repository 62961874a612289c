"""The newest frame of a camera: what comes too fast is dropped and counted, nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.newest import Newest


@dataclass(frozen=True)
class _Shot:
    number: int
    width: int = 64
    height: int = 48


class _Stream:
    """Gives a frame when it is told to, and waits for ever otherwise."""

    def __init__(self) -> None:
        self._given = threading.Semaphore(0)
        self._end: BaseException | None = None
        self._ended = False

    def give(self, frames: int) -> None:
        for _ in range(frames):
            self._given.release()

    def end(self, error: BaseException | None = None) -> None:
        self._end, self._ended = error, True
        self._given.release()

    def __iter__(self) -> Iterator[_Shot]:
        number = 0
        while True:
            self._given.acquire()
            if self._ended:
                if self._end is not None:
                    raise self._end
                return
            yield _Shot(number)
            number += 1


def _until(newest: Newest, received: int) -> None:
    end = time.monotonic() + 10
    while newest.received < received:
        assert time.monotonic() < end
        time.sleep(0.002)


def _taken(newest: Newest) -> int | None:
    received = newest.take()
    return None if received is None else received.index


def test_what_comes_at_once_is_given_whole_and_the_newest_after_that() -> None:
    stream = _Stream()
    newest = Newest(stream, "test")
    stream.give(12)
    _until(newest, 12)
    assert [_taken(newest) for _ in range(12)] == list(range(12))
    time.sleep(0.4)  # 12 frames in 0.4 s are no burst any more
    stream.give(1)
    assert _taken(newest) == 12
    stream.give(5)
    _until(newest, 18)
    assert _taken(newest) == 17
    assert (newest.received, newest.dropped) == (18, 4)
    stream.end()
    assert _taken(newest) is None
    assert newest.stop(5)


def test_a_burst_has_a_limit() -> None:
    stream = _Stream()
    newest = Newest(stream, "test")
    stream.give(30)
    _until(newest, 30)
    assert _taken(newest) == 29
    assert newest.dropped == 29
    stream.end()
    assert newest.stop(5)


def test_the_last_frame_is_given_and_then_the_error() -> None:
    stream = _Stream()
    newest = Newest(stream, "test")
    stream.give(1)
    _until(newest, 1)
    stream.end(SourceError("the camera was lost"))
    assert _taken(newest) == 0
    for _ in range(2):
        with pytest.raises(SourceError, match="was lost"):
            newest.take()


def test_stopping_counts_what_waits_and_wakes_whoever_takes() -> None:
    stream = _Stream()
    newest = Newest(stream, "test")
    found: list[int | None] = []
    taker = threading.Thread(target=lambda: found.append(_taken(newest)))
    taker.start()
    assert not newest.stop(0.05), "it waits for the camera"
    taker.join(5)
    assert found == [None]
    stream.give(1)
    assert newest.stop(5)
    assert (newest.received, newest.dropped) == (0, 0)
    other = Newest(stream, "test")
    stream.give(3)
    _until(other, 3)
    stream.end()
    assert other.stop(5)
    assert (other.received, other.dropped) == (3, 3)


def test_clocks_say_when_a_frame_came() -> None:
    stream = _Stream()
    newest = Newest(stream, "test")
    stream.give(1)
    _until(newest, 1)
    time.sleep(0.1)
    received = newest.take()
    assert received is not None
    assert time.monotonic() - received.monotonic_s >= 0.1
    assert abs(received.wall_s - time.time()) < 5
    stream.end()
    assert newest.stop(5)
