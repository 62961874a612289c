"""A bounded queue between two threads that either end can close."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Channel"]

_T = TypeVar("_T")


class Channel(Generic[_T]):
    """Items in order from one thread to another, at most ``room`` of them waiting.

    The sender calls :meth:`finish` when nothing more comes; the receiver calls :meth:`abandon` when it wants
    nothing more. Whoever waits wakes up at once.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._abandoned = False

    def put(self, item: _T) -> bool:
        """Wait for room and add ``item``; False when the receiver has gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or len(self._items) < self._room)
            if self._abandoned:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def __iter__(self) -> Channel[_T]:
        return self

    def __next__(self) -> _T:
        """Wait for the next item; stops when the sender has finished and all is read, or after abandon."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished or self._abandoned)
            if self._abandoned or not self._items:
                raise StopIteration
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nothing more is wanted; what waits is dropped."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()
