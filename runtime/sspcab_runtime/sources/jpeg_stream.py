"""Whole JPEG images out of a stream of bytes in which cameras put them, between whatever they put there.

What a camera says of its parts (boundary, length, type) is often wrong, and sometimes not said at all. So an
image is found by its own structure (ITU-T T.81, annex B): from start-of-image, over segments by their lengths
and scans by their markers, to end-of-image. It is given as soon as its last byte is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sspcab_edge.errors import SourceError

__all__ = ["MOST_BYTES", "JpegImage", "jpeg_images"]

MOST_BYTES: Final = 16 * 2**20
"""Of one image."""
_MOST_BETWEEN: Final = 2**20
"""Of what stands between two images."""

_START: Final = b"\xff\xd8\xff"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a segment."""
_RESERVED: Final = frozenset({*range(0x02, 0xC0), 0xC8, *range(0xF0, 0xFE)})
"""Markers of no image: a byte of a scan was damaged."""
_TEXTUAL: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
"""Segments that may hold anything, thumbnails with their own start and end among it."""
_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In a scan: neither a stuffed byte nor a restart nor filling."""
_BOUNDARY: Final = re.compile(rb"(?:\A|[\r\n])(--[^\r\n]{2,100}?)(?:--)?\r?\n")
_SHORTEST_BOUNDARY: Final = 6
"""A shorter one could be in an image by chance."""
_HEADER: Final = re.compile(rb"[\r\n]content-(?:type|length)\s*:", re.IGNORECASE)
_LONGEST_HEADER: Final = 24


@dataclass(frozen=True, slots=True)
class JpegImage:
    """One image.

    Attributes:
        data: From start-of-image to end-of-image.
        width: In pixels, by its header. Also ``height``.
    """

    data: bytes
    width: int
    height: int


class _Damaged(Exception):
    """The image is none; ``resume`` is where in the buffer the next may begin."""

    def __init__(self, resume: int) -> None:
        super().__init__(resume)
        self.resume = resume


def jpeg_images(
    name: str, read: Callable[[], bytes], boundary: bytes = b"", most_bytes: int = MOST_BYTES
) -> Iterator[JpegImage | None]:
    """Every image of a stream, None for each that is damaged, until ``read`` gives nothing.

    Where parts have headers, an image that follows another in the same part is left out if its size differs:
    it is a preview.

    Args:
        name: Of the camera, for messages.
        read: The next bytes, as many as there are; none at the end of the stream.
        boundary: What is said to stand before each part, with its dashes. It only tells an image that is cut
            off from its successor.
        most_bytes: A larger image is refused.

    Raises:
        SourceError: An image is too large, or too much stands between two. Also what ``read`` raises.
    """
    scanner = _Scanner(name, read, boundary, most_bytes)
    while scanner.find():
        try:
            image = scanner.image()
        except _Damaged as damage:
            scanner.resume(damage.resume)
            yield None
        except EOFError:
            yield None
            return
        else:
            if image is not None:
                yield image


class _Scanner:
    """A buffer that begins where an image may begin, and grows as it is looked at."""

    def __init__(self, name: str, read: Callable[[], bytes], boundary: bytes, most_bytes: int) -> None:
        self._name, self._read, self._most = name, read, most_bytes
        self._buffer = bytearray()
        self._announced = {boundary} if len(boundary) >= _SHORTEST_BOUNDARY else set()
        self._boundaries = self._announced
        self._headed: bool | None = None
        """Whether a line end stood before the first image: parts have headers."""
        self._fresh = False
        """Whether a part has begun since the last image."""
        self._size = (0, 0)

    def find(self) -> bool:
        """Drop what stands before the next start-of-image; whether there is one."""
        between = 0
        while (at := self._buffer.find(_START)) < 0:
            gone = max(0, len(self._buffer) - 256)  # the end may hold a boundary, or half a start
            between += gone
            if between > _MOST_BETWEEN:
                raise SourceError(f"{self._name} sends no JPEG images: {between} bytes without one")
            self._look(self._buffer[:gone])
            del self._buffer[:gone]
            try:
                self._more()
            except EOFError:
                return False
        self._look(self._buffer[:at])
        del self._buffer[:at]
        if self._headed is None:
            self._headed, self._fresh = self._fresh, True
        return True

    def image(self) -> JpegImage | None:
        """The image at the beginning of the buffer, which is taken out; None where its part had one already.

        Raises:
            _Damaged: It is none.
            EOFError: The stream ends before it does.
        """
        size: tuple[int, int] | None = None
        sound, scan, at = True, False, 2
        while True:
            end = at
            at = self._marker(end)
            sound = sound and (scan or at == end or self._buffer.count(b"\xff", end, at) == at - end)
            marker = self._buffer[at + 1]
            if marker == _SOI:
                raise _Damaged(at)
            if marker == _EOI:
                break
            if marker in _ALONE:
                at += 2
                continue
            if marker in _RESERVED:
                sound = False
                at += 2
                continue
            end = self._segment(at, marker)
            if marker in _FRAMES:
                sound = sound and size is None and end - at >= 10
                size = _pair(self._buffer, at + 7), _pair(self._buffer, at + 5)
            scan = scan or marker == _SOS
            at = end
        if not sound or not scan or size is None or 0 in size:
            raise _Damaged(at + 2)
        data = bytes(self._buffer[: at + 2])
        del self._buffer[: at + 2]
        if self._headed and not self._fresh and size != self._size:
            return None
        self._fresh, self._size = False, size
        return JpegImage(data, *size)

    def resume(self, at: int) -> None:
        """Forget a damaged image, up to where another may begin."""
        del self._buffer[:at]
        self._fresh = True

    def _marker(self, at: int) -> int:
        """Where the next marker is, from ``at`` on."""
        while (found := _MARKER.search(self._buffer, at)) is None:
            self._refuse_boundary(at)
            at = max(at, len(self._buffer) - 1)
            self._more()
        self._refuse_boundary(at, found.start())
        return found.start()

    def _segment(self, at: int, marker: int) -> int:
        """Where the segment at a marker ends."""
        while len(self._buffer) < at + 4:
            self._more()
        length = _pair(self._buffer, at + 2)
        if length < 2:
            raise _Damaged(at + 2)
        begin, end = at + 4, at + 2 + length
        while len(self._buffer) < end:
            self._refuse_boundary(at)
            at = max(at, len(self._buffer))
            self._more()
        self._refuse_boundary(at, end)
        if marker not in _TEXTUAL and (start := self._buffer.find(_START, begin, end)) >= 0:
            raise _Damaged(start)
        return end

    def _refuse_boundary(self, at: int, end: int | None = None) -> None:
        """No boundary and no header stands inside of an image: where one does, the image was cut off."""
        end = len(self._buffer) if end is None else end
        for boundary in self._boundaries:
            found = self._buffer.find(boundary, max(2, at - len(boundary)), end)
            if found >= 0:
                raise _Damaged(found)
        begin = max(2, at - _LONGEST_HEADER)
        if self._buffer.find(b"ontent-", begin, end) >= 0:
            header = _HEADER.search(self._buffer, begin, end)
            if header is not None:
                raise _Damaged(header.start())

    def _more(self) -> None:
        if len(self._buffer) > self._most:
            raise SourceError(f"{self._name} sends an image of more than {self._most} bytes")
        data = self._read()
        if not data:
            raise EOFError
        self._buffer += data

    def _look(self, between: bytearray) -> None:
        """Learn from what stands between two images."""
        self._fresh = self._fresh or b"\n" in between
        found = _BOUNDARY.search(between)
        if found is not None and len(found[1]) >= _SHORTEST_BOUNDARY:
            self._boundaries = {*self._announced, bytes(found[1])}


def _pair(buffer: bytearray, at: int) -> int:
    return int.from_bytes(buffer[at : at + 2], "big")
