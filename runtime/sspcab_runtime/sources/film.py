"""A video file: its frames in display order, the damaged ones told from the whole ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sspcab_edge.errors import SourceError
from sspcab_edge.printable import printable
from sspcab_runtime.sources.decoding import decode_frames
from sspcab_runtime.sources.transport_stream import Unit, read_units

__all__ = ["Film"]


class Film:
    """The frames of a video file, read once from its beginning.

    A film without damage is decoded by as many threads as there are cores. At the first sign of damage it is
    begun anew with a decoder that tells all that it patches, and what was given already is passed over.

    Args:
        av: The PyAV module.
        path: The file.
        max_pixels: Larger frames are refused; None allows any.

    Raises:
        SourceError: The file cannot be opened as a video, or its frames are too large.
    """

    def __init__(self, av: Any, path: Path, max_pixels: int | None = None) -> None:
        self._av, self._path, self._max_pixels = av, path, max_pixels
        self._name = printable(path)
        self._whole = self._damaged = 0
        self._open()

    @property
    def count(self) -> int | None:
        """How many frames the file says it holds, where it does."""
        return self._stream.frames or None

    @property
    def codec(self) -> str:
        """As FFmpeg names it."""
        return str(self._stream.codec_context.name)

    @property
    def fps(self) -> float | None:
        """Frames a second, where the file says so."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate else None

    def frames(self) -> Iterator[Any | None]:
        """PyAV frames, not upright yet; None for each that is damaged.

        Raises:
            SourceError: The file cannot be read any further, or ends before the end that it states.
        """
        last_s = 0.0
        for frame in self._decode():
            if frame is None:
                self._damaged += 1
            else:
                self._whole += 1
                self._check(frame.width, frame.height)
                last_s = max(last_s, float(frame.time or 0.0))
            yield frame
        stated_s = self._stated_end_s()
        if (stated_s is not None and last_s < stated_s) or self._lacks_bytes():
            raise SourceError(f"{self._name} ends too early, after {self._whole} frames: it was cut off")
        recordings, streams = self._recordings(), self._streams()
        if recordings > 1:
            raise SourceError(
                f"{self._name} holds {recordings} recordings one after the other, and only the first can be "
                f"read, {self._whole} frames: join them with ffmpeg -f concat, or name each file"
            )
        if streams > 1:
            raise SourceError(
                f"{self._name} holds {streams} video streams, and only the first was read, {self._whole} "
                "frames: save each as a file of its own (ffmpeg -map 0:v:1 -c copy)"
            )
        if self._whole + self._damaged == 0:
            raise SourceError(f"{self._name} holds no frames")

    def close(self) -> None:
        """Release the file and the decoder."""
        self._container.close()

    def _open(self) -> None:
        with self._errors("cannot be opened as a video, nor is it an image"):
            # a playlist or session description could otherwise make FFmpeg open sockets
            self._container = self._av.open(
                f"file:{self._path}", metadata_errors="ignore", options={"protocol_whitelist": "file"}
            )
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{self._name} holds no video stream")
        self._stream = self._container.streams.video[0]
        context = self._stream.codec_context
        self._check(context.width, context.height)
        if self._max_pixels is not None:
            context.options = {"max_pixels": str(self._max_pixels)}

    def _decode(self) -> Iterator[Any | None]:
        with self._errors("is damaged"):
            self._stream.thread_type = "AUTO"
            given = 0
            frames = decode_frames(self._av, self._container, self._stream, self._units(), until_damage=True)
            for frame in frames:
                if frame is None:
                    break
                given += 1
                yield frame
            else:
                return
            self._container.close()
            self._open()
            self._stream.codec_context.thread_count = 1  # with several, H.264 does not tell of patches
            frames = decode_frames(self._av, self._container, self._stream, self._units())
            yield from islice(frames, given, None)

    def _units(self) -> Iterable[Unit]:
        """What the file tells of missing packets, where it is of a kind that does."""
        transported = str(self._container.format.name) == "mpegts"
        return read_units(self._path, self._stream.id) if transported else ()

    def _check(self, width: int, height: int) -> None:
        if self._max_pixels is not None and width * height > self._max_pixels:
            raise SourceError(
                f"{self._name} has frames of {width}x{height} pixels, allowed {self._max_pixels}"
            )

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

    def _streams(self) -> int:
        """How many videos there are beside each other; a picture of the cover is none."""
        cover = self._av.stream.Disposition.attached_pic
        return sum(not stream.disposition & cover for stream in self._container.streams.video)

    def _recordings(self) -> int:
        """How many MP4 files were put together in this one; FFmpeg reads the first and stops."""
        if "mp4" not in self._container.format.name:
            return 1
        indices = 0
        with self._path.open("rb") as file:
            while len(head := file.read(16)) >= 8:  # ISO/IEC 14496-12, 4.2: size and type of a box
                size, kind = int.from_bytes(head[:4], "big"), head[4:8]
                if size == 1:
                    size = int.from_bytes(head[8:], "big")
                indices += kind == b"moov"
                if size < 8:  # 0: to the end of the file
                    break
                file.seek(size - len(head), 1)
        return max(1, indices)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn FFmpeg's errors into a SourceError that says ``what`` is wrong with the file."""
        try:
            yield
        except self._av.error.FFmpegError as error:
            where = f" after {self._whole} frames" if self._whole else ""
            raise SourceError(f"{self._name} {what}{where}: {error.strerror}") from error


def _clock_s(text: str) -> float | None:
    """Seconds of ``HH:MM:SS.fraction``, or None where it is none."""
    parts = text.split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
    except ValueError:
        return None
    return hours * 3600 + minutes * 60 + seconds
