"""The capture processes of one camera, one after another: started, watched, killed, started again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sspcab_runtime.daemon.children import Child
from sspcab_runtime.daemon.config import CameraConfig
from sspcab_runtime.daemon.loop import Loop
from sspcab_runtime.daemon.messages import (
    Captured,
    Ended,
    FromCapture,
    GeometryMessage,
    Opened,
    Release,
    StartCapture,
    Stop,
)
from sspcab_runtime.daemon.slots import Geometry, Slots, make_slots
from sspcab_runtime.daemon.waits import Waits
from sspcab_runtime.daemon.wire import WireClosed

__all__ = ["Capture", "Connection"]

_LOG = logging.getLogger(__name__)

_MODULE = "sspcab_runtime.daemon.capture"
_START_S = 10.0
"""For Python and FFmpeg to load, before the camera's own deadlines begin."""
_GRACE_S = 2.0
"""A capture process keeps its deadlines itself; it is killed where it is so much later."""


@dataclass(eq=False)
class Connection:
    """One connection to a camera, and the shared memory of its frames, which goes when both sides let go.

    Attributes:
        fd: Of the memory, for workers.
        geometry: How it is cut.
        slots: This process's view.
        opened: What the camera said, once it did.
    """

    fd: int
    geometry: Geometry
    slots: Slots
    opened: Opened | None = None

    def close(self) -> None:
        """Let go of the memory here."""
        self.slots.close()
        os.close(self.fd)


class Capture:
    """What the supervisor does about one camera's process.

    Args:
        name: Of the camera.
        config: Its table.
        password: Its secret.
        files: Folder of ``file`` sources.
        reference: File of its reference view.
        slots: How many frames may be under way.
        loop: Where its messages are watched for.
        waits: Between connections.
        opened: Called with the connection when a camera answered.
        captured: Called with connection and message for every frame.
        lost: Called with the connection that ended, a reason and a message.
    """

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        password: str | None,
        files: str,
        reference: str | None,
        slots: int,
        loop: Loop,
        waits: Waits,
        opened: Callable[[Connection], None],
        captured: Callable[[Connection, Captured], None],
        lost: Callable[[Connection, str, str], None],
    ) -> None:
        self._name, self._config, self._password = name, config, password
        self._files, self._reference = files, reference
        self._geometry = Geometry(count=slots, max_pixels=config.max_pixels)
        self._loop, self._waits = loop, waits
        self._opened, self._captured, self._lost = opened, captured, lost
        self._child: Child[Any] | None = None
        self._connection: Connection | None = None
        self._heard_s = 0.0
        self._start_s = 0.0
        self.connections = 0

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._child is None else self._child.pid

    def tick(self, now: float) -> None:
        """Start what is due, and end what is overdue."""
        if self._child is None:
            if now >= self._start_s:
                self._start(now)
            return
        assert self._connection is not None
        config = self._config
        if self._connection.opened is None:
            if now - self._heard_s > _START_S + config.open_s + _GRACE_S:
                self._end(now, "timeout", f"no answer within {config.open_s:g} s")
            return
        silent_s = now - self._heard_s
        if config.integrity.stall_s and silent_s > config.integrity.stall_s:
            self._end(now, "stalled", f"no frame for {config.integrity.stall_s:g} s")
        elif silent_s > config.read_s + max(config.integrity.stall_s, _GRACE_S):
            self._end(now, "timeout", f"the capture process is silent for {silent_s:.0f} s")

    def well(self) -> None:
        """Frames of this camera are being scored: its next loss is a new one."""
        self._waits.reset()

    def release(self, connection: Connection, slot: int) -> None:
        """A frame is done with."""
        if connection is self._connection and self._child is not None:
            self._child.send(Release(slot=slot))

    def stop(self) -> None:
        """End the process, asking first; nothing is reported any more."""
        if self._child is not None:
            self._child.send(Stop())
            self._loop.bury(self._child, kill=False)
            self._child = None
        self._connection = None
        self._start_s = float("inf")

    def _start(self, now: float) -> None:
        geometry = self._geometry
        try:
            fd = make_slots(f"sspcab-{self._name}", geometry)
        except OSError as error:
            self._start_s = now + self._waits.next()
            _LOG.error("camera %s: no shared memory: %s", self._name, error.strerror)
            return
        self._connection = Connection(fd, geometry, Slots(fd, geometry))
        try:
            self._child = Child(_MODULE, FromCapture)  # type: ignore[arg-type]
        except OSError as error:
            self._end(now, "timeout", f"no process: {error.strerror}")
            return
        self.connections += 1
        self._heard_s = now
        self._loop.watch_child(f"camera {self._name}", self._child, self._readable)
        start = StartCapture(
            camera=self._name,
            config=self._config,
            password=self._password,
            geometry=GeometryMessage(
                count=geometry.count, max_pixels=geometry.max_pixels, max_map=geometry.max_map
            ),
            files=self._files,
            reference=self._reference,
        )
        self._child.send(start, (fd,))

    def _readable(self) -> None:
        from time import monotonic

        while self._child is not None:
            child, connection = self._child, self._connection
            assert connection is not None
            try:
                message, fds = child.wire.receive()
            except BlockingIOError:
                return
            except WireClosed as error:
                self._end(monotonic(), "lost", f"its capture process ended: {error}")
                return
            for fd in fds:
                os.close(fd)
            now = self._heard_s = monotonic()
            if isinstance(message, Opened):
                connection.opened = message
                self._opened(connection)
            elif isinstance(message, Captured):
                self._captured(connection, message)
            elif isinstance(message, Ended):
                self._end(now, message.reason, message.message)

    def _end(self, now: float, reason: str, message: str) -> None:
        connection = self._connection
        if self._child is not None:
            self._loop.bury(self._child)
        self._child = self._connection = None
        if reason == "size" or (reason == "stalled" and connection is not None and connection.opened):
            self._start_s = now  # the camera is there: what ended is this way of reading it
        else:
            self._start_s = now + self._waits.next()
        if connection is not None:
            self._lost(connection, reason, message)
