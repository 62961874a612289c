"""Progress of an export: who is told, and how the command prints it on stderr."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

__all__ = ["ConsoleProgress", "Progress", "Silent"]


class Progress(Protocol):
    """Told what is happening; the command line prints it, a library call may ignore it."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def step(self, done: int, total: int) -> None:
        """So much of the stage is done."""

    def note(self, text: str) -> None:
        """Something the user should know; it also stands in the report."""


class Silent:
    """Says nothing."""

    def stage(self, text: str) -> None:
        """Ignore it."""

    def step(self, done: int, total: int) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""


class ConsoleProgress:
    """Prints stages with the seconds they took; the counter only where it can be overwritten."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._began = time.monotonic()
        self._stage: str | None = None

    def stage(self, text: str) -> None:
        """Finish the stage before and begin a new one."""
        self.finish()
        self._stage, self._began = text, time.monotonic()
        if self._live:
            self._write(f"\r\x1b[K{text} ...")

    def step(self, done: int, total: int) -> None:
        """Update the counter."""
        if self._live and self._stage is not None:
            self._write(f"\r\x1b[K{self._stage} ... {done}/{total}")

    def note(self, text: str) -> None:
        """Print a line of its own, behind the stage that it belongs to."""
        self.finish()
        self._write(f"  {text}\n")

    def finish(self) -> None:
        """End the last stage."""
        if self._stage is not None:
            line = f"{self._stage} ({time.monotonic() - self._began:.1f} s)\n"
            self._write(f"\r\x1b[K{line}" if self._live else line)
            self._stage = None

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
