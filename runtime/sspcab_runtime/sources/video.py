"""Video files, decoded by PyAV (FFmpeg) with the colour conversion pinned: see ``colour``."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

from sspcab_edge.errors import MissingPackageError, PictureError
from sspcab_edge.printable import printable
from sspcab_edge.protocols import Frame
from sspcab_runtime.sources.colour import Converter
from sspcab_runtime.sources.film import Film

__all__ = ["Video", "import_av"]

_OLDEST_MAJOR = 17
"""PyAV before 17 takes the range of the source as an argument, and ignores it."""

_GAP_S, _GAP_FRAMES = 1.0, 4
"""A step between frames that is longer than both is a gap."""


def import_av() -> Any:
    """The ``av`` module (PyAV), new enough to honour a colour range, and without a word from FFmpeg.

    Its messages show addresses with passwords. And a decoder's thread that has one for Python waits for
    whoever closes the decoder, who waits for that thread: they hang at every level but None.

    Raises:
        MissingPackageError: It is not installed, or too old.
    """
    try:
        av = importlib.import_module("av")
    except ModuleNotFoundError as error:
        raise MissingPackageError("av", "video", "video") from error
    if int(str(av.__version__).split(".")[0]) < _OLDEST_MAJOR:
        raise MissingPackageError(f"av {_OLDEST_MAJOR} or newer", "video", "video (an older one is there)")
    av.logging.set_level(None)
    return av


class Video:
    """The frames of a video file, in display order, upright.

    Args:
        uri: How the source was named.
        path: The file.

    Raises:
        MissingPackageError: PyAV is not installed.
        SourceError: The file cannot be opened as a video.
    """

    def __init__(self, uri: str, path: Path) -> None:
        self.uri = uri
        self._path = path
        av = import_av()
        self._film = Film(av, path)
        self._converter = Converter(av)
        self._frames = self._film.frames()
        self._index = 0
        self._shown_s: float | None = None
        self._longest_s = max(_GAP_S, _GAP_FRAMES / (self._film.fps or 25.0))

    @property
    def count(self) -> int | None:
        """How many frames the file says it holds, where it does."""
        return self._film.count

    def __iter__(self) -> Video:
        return self

    def __next__(self) -> Frame:
        """The next frame. A damaged one has its index too, and the one after it follows.

        Raises:
            PictureError: This frame is damaged, or made from one that is; iteration may go on.
            SourceError: The file cannot be read any further, or ends before the end that it states.
        """
        frame = next(self._frames)
        index = self._index
        self._index += 1
        if frame is None:
            raise PictureError(
                f"frame {index} of {printable(self._path)} is damaged, or made from one that is"
            )
        return Frame(
            pixels=self._converter.rgb(frame),
            index=index,
            source=self.uri,
            monotonic_s=time.monotonic(),
            wall_s=time.time(),
            converted="interlaced video, with both fields of a frame in it"
            if frame.interlaced_frame
            else None,
            gap=self._is_gap(frame.time),
        )

    def close(self) -> None:
        """Release the file and the decoder."""
        self._film.close()

    def _is_gap(self, shown_s: float | None) -> bool:
        """Whether another recording begins here, or more than a moment is missing."""
        before, self._shown_s = self._shown_s, shown_s
        if before is None or shown_s is None:
            return False
        return not 0 <= shown_s - before <= self._longest_s
