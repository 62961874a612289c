"""Events as lines of a file, each on disk before it is acknowledged."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sspcab_edge.local_path import local_path
from sspcab_runtime.daemon.config import JsonLinesConfig
from sspcab_runtime.daemon.events import Event, encode_event
from sspcab_runtime.daemon.sinks.base import SinkWrong

__all__ = ["JsonLinesSink"]


class JsonLinesSink:
    """Appends; a file that is full becomes ``NAME.1``, and what was that is gone.

    A file that somebody moved or removed is made anew.
    """

    window = 100

    def __init__(
        self, name: str, config: JsonLinesConfig, secrets: Callable[[str], str], base: Path, state: Path
    ) -> None:
        self._path = base / local_path(config.path)
        self._most = config.max_mb * 2**20
        self._fd = -1

    def connect(self) -> None:
        """Open the file, if it is not, or is no longer the one of that name.

        Raises:
            SinkWrong: It cannot be written.
        """
        if self._fd >= 0 and self._there():
            return
        self.close()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            flags |= os.O_NONBLOCK  # a pipe that nobody reads is an error, not a wait
            self._fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise SinkWrong(f"{self._path} cannot be written: {error.strerror}") from error

    def deliver(self, events: Sequence[tuple[int, Event]]) -> list[int]:
        """Write all of them, and sync.

        Raises:
            SinkWrong: The disk fails; lines that were written are written again.
        """
        data = b"".join(encode_event(event) + b"\n" for _, event in events)
        try:
            start = os.lseek(self._fd, 0, os.SEEK_END)
            if start and start + len(data) > self._most:
                os.replace(self._path, f"{self._path}.1")
                self.close()
                self.connect()
                start = 0
            if os.write(self._fd, data) != len(data):
                os.ftruncate(self._fd, start)  # no half lines
                raise SinkWrong(f"{self._path} is full")
            os.fdatasync(self._fd)
        except OSError as error:
            self.close()
            raise SinkWrong(f"{self._path} cannot be written: {error.strerror}") from error
        return [row for row, _ in events]

    def _there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except OSError:
            return False

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
