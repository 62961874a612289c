"""One line of progress on stderr, where that is a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]

_INTERVAL_S = 0.1


class Progress:
    """A line that is rewritten in place and gone in the end; silent where ``stream`` is no terminal."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._shown = False
        self._last_s = float("-inf")
        self._terminal = self._stream.isatty()

    def update(self, done: int, total: int | None, detail: str = "") -> None:
        """Show how far it is, at most ten times a second."""
        now_s = time.monotonic()
        if not self._terminal or now_s - self._last_s < _INTERVAL_S:
            return
        self._last_s = now_s
        share = str(done) if total is None else f"{done}/{total}"
        self._stream.write(f"\r\x1b[K{self._label} {share} {detail}".rstrip())
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
