"""A video file that stands for a camera: at its own pace, over and over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.film import Film
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["LoopedFilm"]

_BEHIND_S = 1.0
"""Who is later than this does not hurry after what is lost."""


class LoopedFilm:
    """The whole frames of a film, without end. A film that was cut off is begun anew like one that ended.

    Args:
        path: The file.
        options: See :class:`~sspcab_runtime.sources.streams.StreamOptions`.

    Raises:
        SourceError: It cannot be opened, or its frames are larger than allowed.
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, path: Path, options: StreamOptions) -> None:
        self._av, self._path, self._max_pixels = import_av(), path, options.max_pixels
        self._film = Film(self._av, path, self._max_pixels)
        self.codec, self.fps, self.colour = self._film.codec, self._film.fps, None
        self.bad = 0

    def __iter__(self) -> Iterator[Any]:
        start, shown = time.monotonic(), 0
        interval_s = 1 / (self.fps or 25.0)
        while True:
            before = shown
            for frame in self._once():
                wait_s = start + shown * interval_s - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
                elif wait_s < -_BEHIND_S:
                    start -= wait_s
                shown += 1
                if frame is None:
                    self.bad += 1
                else:
                    yield frame
            if shown == before:
                raise SourceError(f"{self._path} has no frames")
            self._film.close()
            self._film = Film(self._av, self._path, self._max_pixels)

    def close(self) -> None:
        """Release the file."""
        self._film.close()

    def _once(self) -> Iterator[Any | None]:
        """The film once; a last None, where its end is missing."""
        given = 0
        try:
            for frame in self._film.frames():
                given += 1
                yield frame
        except SourceError:
            if not given:
                raise
            yield None
