"""MJPEG over HTTP: a JPEG per part of a multipart answer that does not end, in all the dialects of cameras.

Only whole, small enough JPEGs reach a decoder.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.http_camera import HttpAnswer
from sspcab_runtime.sources.jpeg_stream import jpeg_images
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["MjpegStream"]

_UNNAMED: Final = frozenset(
    {"", "application/octet-stream", "video/x-motion-jpeg", "video/mjpeg", "video/x-mjpeg"}
)
"""Types that cameras give besides ``multipart/...``."""
_BOUNDARY: Final = re.compile(r"boundary\s*=\s*\"?([^\";]{1,100})", re.IGNORECASE)


class MjpegStream:
    """Frames of a camera that answers HTTP with images without end, as ``multipart/x-mixed-replace``.

    Args:
        scheme: ``http`` or ``https`` (verified by the system's authorities).
        host: Also ``port`` (None: the scheme's own) and ``path``.
        display: The address for messages.
        options: See :class:`~sspcab_runtime.sources.streams.StreamOptions`.

    Raises:
        SourceError: There is no such camera, or it answers something else (a redirect is not followed).
        MissingPackageError: PyAV is not installed.
    """

    def __init__(
        self, scheme: str, host: str, port: int | None, path: str, display: str, options: StreamOptions
    ) -> None:
        self._name, self._max_pixels, self._read_s = display, options.max_pixels, options.read_s
        self._av = import_av()
        self.bad = 0
        self.codec, self.fps, self.colour = "mjpeg", None, None
        self._until = 0.0
        self._answer = HttpAnswer(scheme, host, port, path, display, options)
        try:
            self._check(self._answer.type)
        except SourceError:
            self._answer.close()
            raise

    def __iter__(self) -> Iterator[Any]:
        decoder = self._av.CodecContext.create("mjpeg", "r")
        decoder.options = {"err_detect": "explode", "max_pixels": str(self._max_pixels)}
        images = jpeg_images(self._name, lambda: self._answer.read(self._until), self._boundary)
        while True:
            self._until = time.monotonic() + self._read_s
            try:
                image = next(images)
            except StopIteration:
                raise SourceError(f"{self._name} ended") from None
            if image is None:
                self.bad += 1
                continue
            if image.width * image.height > self._max_pixels:
                size = f"{image.width}x{image.height}"
                raise SourceError(f"{self._name} has frames of {size} pixels, allowed {self._max_pixels}")
            try:
                frames = decoder.decode(self._av.Packet(image.data))
            except self._av.error.FFmpegError:
                self.bad += 1
                continue
            yield from frames

    def close(self) -> None:
        """Hang up."""
        self._answer.close()

    def _check(self, given: str) -> None:
        kind = given.split(";")[0].strip().lower()
        if kind.startswith("image/"):
            raise SourceError(
                f"{self._name} gives one image ({kind[:60]}), expected a stream of them: take the camera's "
                "address of MJPEG or RTSP"
            )
        announced = _BOUNDARY.search(given)
        self._boundary = b"--" + announced[1].encode("latin-1", "replace").lstrip(b"-") if announced else b""
        if not kind.startswith("multipart/") and kind not in _UNNAMED:
            raise SourceError(f"{self._name} gives {kind[:60]!r}, expected multipart/x-mixed-replace")
