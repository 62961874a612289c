"""Image files as bytes: whether their end is there, and how many images they hold; nothing is decoded.

Decoders differ in what they make of half a file: some give grey for what is missing, some refuse it by
version. And most read the first of several images alone.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["count_images", "lacks_end"]

_JPEG: Final = b"\xff\xd8"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_TIFF: Final = {b"II*\0": "<", b"MM\0*": ">"}
_MOST_PAGES: Final = 65536
_SUBFILE: Final = 254  # NewSubfileType: bit 0 a smaller copy, bit 2 a transparency mask
_RESTARTS: Final = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})


def lacks_end(data: bytes) -> bool:
    """Whether a JPEG, PNG, WebP or BMP file stops before its end, as one that is half written does."""
    if data.startswith(_JPEG):
        return not _jpeg_ends(data)
    if data.startswith(_PNG):
        return b"IEND" not in data[-1024:] and not any(kind == b"IEND" for kind, _ in _png_chunks(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def count_images(data: bytes) -> int:
    """How many images a file holds: pages of a TIFF, frames of an animated PNG or WebP; 1 for all others.

    Smaller copies and masks that lie in a TIFF beside its image are none.
    """
    if data[:4] in _TIFF:
        return _tiff_pages(data, _TIFF[data[:4]])
    if data.startswith(_PNG):
        for kind, content in _png_chunks(data):
            if kind == b"acTL" and len(content) >= 4:
                return max(1, int.from_bytes(content[:4], "big"))
            if kind == b"IDAT":
                return 1
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return max(1, sum(kind == b"ANMF" for kind in _riff_chunks(data)))
    return 1


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end-of-image marker is there; that of a thumbnail inside does not count (ITU-T T.81, B)."""
    if data.endswith(b"\xff\xd9"):
        return True
    place = 2
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            return False
        marker = data[place + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF:
            place += 1
        elif marker in _RESTARTS:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of every whole chunk."""
    chunks, place = [], len(_PNG)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if place + 12 + length > len(data):
            break
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + min(length, 64)]))
        place += 12 + length
    return chunks


def _riff_chunks(data: bytes) -> list[bytes]:
    """Kind of every chunk of a WebP file."""
    kinds, place = [], 12
    while place + 8 <= len(data):
        kinds.append(data[place : place + 4])
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return kinds


def _tiff_pages(data: bytes, order: str) -> int:
    """Directories that hold an image of their own (TIFF 6.0, sections 2 and 8)."""
    pages = 0
    seen: set[int] = set()
    (place,) = struct.unpack_from(f"{order}I", data, 4) if len(data) >= 8 else (0,)
    while place and place not in seen and place + 2 <= len(data) and len(seen) < _MOST_PAGES:
        seen.add(place)
        (entries,) = struct.unpack_from(f"{order}H", data, place)
        end = place + 2 + 12 * entries
        if end + 4 > len(data):
            break
        kind = 0
        for number in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHII", data, place + 2 + 12 * number)
            if tag == _SUBFILE:
                kind = value
        pages += not kind & 0b101
        (place,) = struct.unpack_from(f"{order}I", data, end)
    return max(1, pages)
