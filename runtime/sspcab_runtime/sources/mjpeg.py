"""MJPEG over HTTP: a JPEG per part of a multipart answer that does not end.

The connection is our own, so that redirects, credentials, sizes and deadlines are. Only whole, small enough
JPEGs reach a decoder.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["MjpegStream", "jpeg_size"]

_MOST_BYTES = 16 * 2**20
"""Of one JPEG."""
_MOST_LINE, _MOST_LINES = 1024, 32
_CHUNK = 65536
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class MjpegStream:
    """Frames of a camera that answers HTTP with ``multipart/x-mixed-replace``.

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
        self._av.logging.set_level(self._av.logging.PANIC)
        self.bad = 0
        self.codec, self.fps, self.colour = "mjpeg", None, None
        self._buffer = b""
        headers = {"Accept": "multipart/x-mixed-replace", "Connection": "close"}
        if options.user is not None:
            login = f"{options.user}:{options.password or ''}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(
                host, port, timeout=options.open_s, context=ssl.create_default_context()
            )
            if scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=options.open_s)
        )
        try:
            self._connection.request("GET", path, headers=headers)
            self._answer = self._connection.getresponse()
            self._boundary = self._check()
            if self._connection.sock is not None:
                self._connection.sock.settimeout(options.read_s)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise SourceError(f"{display} cannot be opened: {_words(error)}") from None
        except SourceError:
            self._connection.close()
            raise

    def __iter__(self) -> Iterator[Any]:
        decoder = self._av.CodecContext.create("mjpeg", "r")
        decoder.options = {"err_detect": "explode", "max_pixels": str(self._max_pixels)}
        while True:
            data = self._part()
            size = jpeg_size(data)
            if size is None:
                self.bad += 1
                continue
            if size[0] * size[1] > self._max_pixels:
                raise SourceError(
                    f"{self._name} has frames of {size[0]}x{size[1]} pixels, allowed {self._max_pixels}"
                )
            try:
                frames = decoder.decode(self._av.Packet(data))
            except self._av.error.FFmpegError:
                self.bad += 1
                continue
            yield from frames

    def close(self) -> None:
        """Hang up."""
        self._answer.close()
        self._connection.close()

    def _check(self) -> bytes:
        """The boundary between parts."""
        status = self._answer.status
        if status == 401:
            raise SourceError(f"{self._name} wants a user and a password (401)")
        if status != 200:
            hint = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise SourceError(f"{self._name} answers {status}, expected 200{hint}")
        kind = self._answer.getheader("Content-Type", "")
        found = re.search(r'multipart/x-mixed-replace.*boundary="?([^";\s]{1,100})', kind, re.IGNORECASE)
        if found is None:
            raise SourceError(
                f"{self._name} gives {kind[:60] or 'nothing'!r}, expected multipart/x-mixed-replace"
            )
        return b"--" + found.group(1).encode("latin-1", "replace").removeprefix(b"--")

    def _part(self) -> bytes:
        """The next part's body, whole.

        Raises:
            SourceError: The connection is lost, or the part is larger than any JPEG may be.
        """
        until = time.monotonic() + self._read_s
        for _ in range(_MOST_LINES):
            line = self._line(until)
            if line.strip().startswith(self._boundary):
                break
        else:
            raise SourceError(f"{self._name} sends no boundary between pictures")
        length = None
        for _ in range(_MOST_LINES):
            line = self._line(until).strip()
            if not line:
                break
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        if length is not None:
            if length > _MOST_BYTES:
                raise SourceError(
                    f"{self._name} sends a picture of {length} bytes, expected at most {_MOST_BYTES}"
                )
            while len(self._buffer) < length:
                self._more(until)
            data, self._buffer = self._buffer[:length], self._buffer[length:]
            return data
        while (end := self._buffer.find(b"\r\n" + self._boundary)) < 0:
            if len(self._buffer) > _MOST_BYTES:
                raise SourceError(f"{self._name} sends a picture of more than {_MOST_BYTES} bytes")
            self._more(until)
        data, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return data

    def _line(self, until: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MOST_LINE:
                raise SourceError(f"{self._name} sends no boundary between pictures")
            self._more(until)
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line

    def _more(self, until: float) -> None:
        if time.monotonic() > until:
            raise SourceError(f"{self._name} gave no whole picture within {self._read_s:g} s")
        try:
            data = self._answer.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self._name} was lost: {_words(error)}") from None
        if not data:
            raise SourceError(f"{self._name} ended")
        self._buffer += data


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG by its header; None where it is none, or is cut off."""
    if not data.startswith(b"\xff\xd8") or not data.rstrip(b"\0\r\n").endswith(b"\xff\xd9"):
        return None
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or type(error).__name__
