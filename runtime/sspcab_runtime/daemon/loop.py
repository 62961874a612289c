"""The supervisor's loop: descriptors to watch, calls from other threads, children to bury. One thread."""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sspcab_runtime.daemon.children import Child

__all__ = ["Loop"]

_LOG = logging.getLogger(__name__)

_STDERR_BYTES = 4096
_LINE = 400


class Loop:
    """Callbacks by descriptor, run one at a time by :meth:`turn`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._dying: list[tuple[Child[Any], float]] = []
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever there is something to read."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def forget(self, fd: int) -> None:
        """Watch a descriptor no longer; before it is closed."""
        self._selector.unregister(fd)

    def post(self, call: Callable[[], None]) -> None:
        """From any thread or signal handler: have ``call`` run by the loop's thread, soon."""
        self._calls.append(call)
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            return  # the pipe is full: the loop will wake anyway

    def watch_child(self, name: str, child: Child[Any], readable: Callable[[], None]) -> None:
        """Watch a child's wire, and log what it writes to stderr as ``name``'s."""
        self.watch(child.wire.fileno(), readable)
        self.watch(child.stderr, lambda: self._stderr(name, child))

    def bury(self, child: Child[Any], *, kill: bool = True) -> None:
        """Have done with a child: forget and close its descriptors, kill it, and reap it when it is dead."""
        for fd in (child.wire.fileno(), child.stderr):
            if fd in self._selector.get_map():
                self.forget(fd)
        child.close()
        if kill:
            child.kill()
        self._dying.append((child, time.monotonic()))

    @property
    def dying(self) -> int:
        """Children that were buried and are not reaped yet."""
        return len(self._dying)

    def reap(self, grace_s: float) -> None:
        """Reap who is dead; kill who was asked to end ``grace_s`` ago and did not."""
        now = time.monotonic()
        left = []
        for child, since in self._dying:
            if child.exited() is None:
                if now - since > grace_s:
                    child.kill()
                left.append((child, since))
        self._dying = left

    def turn(self, timeout_s: float) -> None:
        """Wait for something to do, for so long at most, and do it."""
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            if key.fd in self._selector.get_map():  # a callback before may have closed it
                key.data()
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def close(self) -> None:
        """Give back the loop's own descriptors."""
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _woken(self) -> None:
        os.read(self._wake_read, 4096)

    def _stderr(self, name: str, child: Child[Any]) -> None:
        try:
            data = os.read(child.stderr, _STDERR_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.forget(child.stderr)
            return
        for line in data.decode("utf-8", "replace").splitlines():
            if line.strip():
                _LOG.warning("%s: %s", name, line[:_LINE])
