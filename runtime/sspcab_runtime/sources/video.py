"""Video files, decoded by PyAV (FFmpeg) with the colour conversion pinned: see ``colour``.

The display rotation that phones write is applied, as the EXIF orientation of pictures is.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import MissingPackageError, SourceError
from sspcab_edge.protocols import Frame
from sspcab_runtime.sources.colour import Converter

__all__ = ["Video", "import_av"]

_OLDEST_MAJOR = 17
"""PyAV before 17 takes the range of the source as an argument, and ignores it."""


def import_av() -> Any:
    """The ``av`` module (PyAV), new enough to honour a colour range.

    Raises:
        MissingPackageError: It is not installed, or too old.
    """
    try:
        av = importlib.import_module("av")
    except ModuleNotFoundError as error:
        raise MissingPackageError("av", "video", "video") from error
    if int(str(av.__version__).split(".")[0]) < _OLDEST_MAJOR:
        raise MissingPackageError(f"av {_OLDEST_MAJOR} or newer", "video", "video (an older one is there)")
    return av


class Video:
    """The frames of a video file, in display order.

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
        self._av = import_av()
        self._index = 0
        with self._errors("cannot be opened as a video (nor is it a picture, by its suffix)"):
            # a playlist or session description could otherwise make FFmpeg open sockets
            self._container = self._av.open(
                f"file:{path}", metadata_errors="ignore", options={"protocol_whitelist": "file"}
            )
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{path} holds no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._converter = Converter(self._av)
        self._frames = self._decode()

    @property
    def count(self) -> int | None:
        """How many frames the file says it holds, where it does."""
        return self._stream.frames or None

    def __iter__(self) -> Video:
        return self

    def __next__(self) -> Frame:
        """The next frame.

        Raises:
            SourceError: The video is damaged, or ends before the end that it states.
        """
        pixels = next(self._frames)
        index = self._index
        self._index += 1
        return Frame(
            pixels=pixels, index=index, source=self.uri, monotonic_s=time.monotonic(), wall_s=time.time()
        )

    def close(self) -> None:
        """Release the file and the decoder."""
        self._frames.close()
        self._container.close()

    def _decode(self) -> Generator[npt.NDArray[np.uint8], None, None]:
        end_s = 0.0
        whole = True
        with self._errors("is damaged"):
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    whole = False
                    break
                for frame in packet.decode():
                    end_s = max(end_s, self._end_s(frame))
                    yield self._rgb(frame)
            if not whole:
                for frame in self._stream.codec_context.decode(None):
                    yield self._rgb(frame)
        stated_s = self._stated_end_s()
        if stated_s is not None and end_s < stated_s:
            whole = False
        if not whole or self._lacks_bytes():
            raise SourceError(f"{self._path} ends too early, after {self._index} frames: it was cut off")
        if self._index == 0:
            raise SourceError(f"{self._path} holds no frames")

    def _rgb(self, frame: Any) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright."""
        if frame.is_corrupt:
            raise SourceError(f"{self._path} is damaged: frame {self._index} cannot be decoded whole")
        rgb = self._converter.rgb(frame)
        quarter_turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, quarter_turns), dtype=np.uint8)

    def _end_s(self, frame: Any) -> float:
        if frame.pts is None:
            return 0.0
        return float(frame.pts * frame.time_base)

    def _stated_end_s(self) -> float | None:
        """When the last frame must start at the latest, in seconds; None where the file does not say."""
        if "matroska" not in self._container.format.name:
            return None
        duration_s = _clock_s(self._stream.metadata.get("DURATION", ""))
        if duration_s is None and len(self._container.streams) == 1 and self._container.duration:
            duration_s = self._container.duration / 1e6
        rate = self._stream.average_rate
        if duration_s is None or not rate:
            return None
        return duration_s - 2.5 / float(rate)

    def _lacks_bytes(self) -> bool:
        """Whether the file's own index points behind its end."""
        size = self._path.stat().st_size
        return any(entry.pos + entry.size > size for entry in self._stream.index_entries)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn FFmpeg's errors into a SourceError that says ``what`` is wrong with the file."""
        try:
            yield
        except self._av.error.FFmpegError as error:
            where = f" after {self._index} frames" if self._index else ""
            raise SourceError(f"{self._path} {what}{where}: {error.strerror}") from error


def _clock_s(text: str) -> float | None:
    """Seconds of ``HH:MM:SS.fraction``, or None where it is none."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
