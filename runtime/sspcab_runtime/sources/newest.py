"""Frames of a camera by a thread that always reads, so that whoever is slow gets the newest.

A camera that nobody reads from keeps its frames in the network's buffers: what is read next is old, and ever
older. Here every frame is read when it comes, and what was not asked for is dropped and counted.

What comes at once when a camera is opened is given whole, in its order, up to a limit: a recording that is
sent over HTTP, which ends as it began, is none that runs away.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Newest", "Received"]

_BURST_FRAMES: Final = 16
_BURST_PIXELS: Final = 32_000_000
_BURST_FPS: Final = 100.0
_BURST_SLACK_S: Final = 0.1
"""A burst is faster than this many frames a second, but for this time in all."""


@dataclass(frozen=True, slots=True)
class Received:
    """A frame, when it came and which it is of those that came.

    Attributes:
        frame: As the stream gave it.
        index: From 0, those that were dropped included.
        monotonic_s: When it was received. Also ``wall_s``, by the wall clock.
    """

    frame: Any
    index: int
    monotonic_s: float
    wall_s: float


class Newest:
    """Reads a stream in a thread of its own until that ends.

    Args:
        frames: Of the stream; what it raises is raised by :meth:`take` when all is taken.
        name: Of the thread.
    """

    def __init__(self, frames: Iterable[Any], name: str) -> None:
        self._frames = frames
        self._changed = threading.Condition()
        self._waiting: deque[Received] = deque()
        self._error: BaseException | None = None
        self._ended = self._wanted_no_more = False
        self._first_s: float | None = None
        self._burst = True
        self.received = self.dropped = 0
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        self._thread.start()

    def take(self) -> Received | None:
        """Wait for a frame that was not taken yet: the newest, but for the burst; None after the last.

        Raises:
            BaseException: What ended the stream.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended or self._wanted_no_more)
            if self._waiting and not self._wanted_no_more:
                return self._waiting.popleft()
            if self._error is not None and not self._wanted_no_more:
                raise self._error
            return None

    def stop(self, wait_s: float) -> bool:
        """Want no more; whether the thread ended within ``wait_s`` seconds: then the stream may be closed."""
        with self._changed:
            self._wanted_no_more = True
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if not self._put(frame):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever takes
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, frame: Any) -> bool:
        now = time.monotonic()
        with self._changed:
            if self._wanted_no_more:
                return False
            self._first_s = now if self._first_s is None else self._first_s
            received = Received(frame, self.received, now, time.time())
            self.received += 1
            self._burst = self._burst and self._is_burst(now - self._first_s, frame)
            if not self._burst:
                self.dropped += len(self._waiting)
                self._waiting.clear()
            self._waiting.append(received)
            self._changed.notify_all()
            return True

    def _is_burst(self, elapsed_s: float, frame: Any) -> bool:
        fast = elapsed_s <= self.received / _BURST_FPS + _BURST_SLACK_S
        room = len(self._waiting) < min(_BURST_FRAMES, _BURST_PIXELS // (frame.width * frame.height) + 1)
        return fast and room
