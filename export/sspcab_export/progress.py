"""Progress of an export on stderr: a line per stage, a counter on terminals, notes as they come."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["ConsoleProgress"]


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
        """Print a line of its own."""
        self._write(f"\r\x1b[K  {text}\n" if self._live else f"  {text}\n")

    def finish(self) -> None:
        """End the last stage."""
        if self._stage is not None:
            line = f"{self._stage} ({time.monotonic() - self._began:.1f} s)\n"
            self._write(f"\r\x1b[K{line}" if self._live else line)
            self._stage = None

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
