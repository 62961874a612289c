"""The parts that image files are made of, found without decoding: segments, chunks and directories.

All of it takes any bytes: what is cut off or contradicts itself ends the walk.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = [
    "END_OF_IMAGE",
    "ORIENTATION",
    "START_OF_SCAN",
    "Directory",
    "FileKind",
    "Segment",
    "WholeNumber",
    "file_kind",
    "jpeg_segments",
    "png_chunks",
    "riff_chunks",
    "tiff_directories",
]

FileKind = Literal["BMP", "JPEG", "PGM or PPM", "PNG", "TIFF", "WebP"]

END_OF_IMAGE: Final = 0xD9
START_OF_SCAN: Final = 0xDA
ORIENTATION: Final = 0x0112  # the tag of TIFF and EXIF

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNM: Final = re.compile(rb"P[1-6]\s")
_MARKER: Final = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # neither a byte of data, a restart nor filling
_TIFF: Final = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_MOST_ENTRIES: Final = 1 << 20
"""Of all directories together, which a hostile file may lay over each other."""

_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of TIFF whose values are read, and how :mod:`struct` calls them."""

_SIZES: Final = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Type of TIFF -> bytes of a value, where it is not one."""


def file_kind(data: bytes) -> FileKind | None:
    """What an image file is by its first bytes, whatever its name says; None for all that is not decoded."""
    if data.startswith(b"\xff\xd8"):
        return "JPEG"
    if data.startswith(_PNG):
        return "PNG"
    if data[:4] in _TIFF:
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM"):
        return "BMP"
    return "PGM or PPM" if _PNM.match(data) else None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a JPEG file.

    Attributes:
        marker: Second byte of its marker.
        place: Where its marker begins, in bytes.
        content: What follows its length.
    """

    marker: int
    place: int
    content: bytes


def jpeg_segments(data: bytes, start: int = 0) -> Iterator[Segment]:
    """Every whole segment behind the start of the image, which begins at ``start``, to the end of the image.

    Compressed data belong to no segment. What lies in a segment, as a thumbnail does, is not looked into
    (ITU-T T.81, annex B).
    """
    place = start + 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, place = data[found.start() + 1], found.end()
        if marker == END_OF_IMAGE:
            yield Segment(marker, found.start(), b"")
            return
        if marker == 0xD8:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        if length < 2 or place + length > len(data):
            return
        yield Segment(marker, found.start(), data[place + 2 : place + length])
        place += length


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of every whole chunk."""
    view, place = memoryview(data), len(_PNG)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if place + 12 + length > len(data):
            return
        yield data[place + 4 : place + 8], view[place + 8 : place + 8 + length]
        place += 12 + length


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of every chunk of a WebP file; the last may be cut off."""
    view, place = memoryview(data), 12
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], view[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A whole number in a file.

    Attributes:
        value: The number.
        place: Where it begins, in bytes.
        form: How it is written, as :mod:`struct` calls it.
    """

    value: int
    place: int
    form: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of a TIFF file: one page, or a copy of one.

    Attributes:
        place: Where it begins, in bytes.
        numbers: Tag -> the single whole number that it holds; other tags are left out. Of a tag that is there
            twice the first counts, as for libtiff.
        ends: Tag -> where its values end, in bytes, as far as they lie outside of the directory.
        following: Where the next directory begins; 0: there is none; None: the file ends before it is said.
    """

    place: int
    numbers: dict[int, WholeNumber] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    following: int | None = 0

    def value(self, tag: int, otherwise: int) -> int:
        """The number of a tag, or what holds where the tag is absent."""
        return self.numbers[tag].value if tag in self.numbers else otherwise


def tiff_directories(data: bytes | memoryview) -> Iterator[Directory]:
    """The chain of directories of a TIFF or BigTIFF file, or of EXIF (TIFF 6.0, section 2); each once."""
    if bytes(data[:4]) not in _TIFF:
        return
    order, big = _TIFF[bytes(data[:4])]
    offset, count, entry = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
    heads = struct.Struct(f"{order}{entry}")
    room = 8 if big else 4
    place = _number(data, f"{order}{offset}", room)
    seen: set[int] = set()
    total = 0
    while place and place not in seen and total < _MOST_ENTRIES:
        seen.add(place)
        entries = _number(data, f"{order}{count}", place)
        start = place + struct.calcsize(f"{order}{count}")
        end = start + (entries or 0) * heads.size
        if entries is None or end > len(data):
            return
        total += 1 + entries
        found = Directory(place, following=_number(data, f"{order}{offset}", end))
        for number, (tag, kind, values, content) in enumerate(heads.iter_unpack(data[start:end]), start=1):
            if values == 1 and kind in _INTEGERS and struct.calcsize(_INTEGERS[kind]) <= room:
                form = f"{order}{_INTEGERS[kind]}"
                (value,) = struct.unpack_from(form, content)
                place_of_value = start + number * heads.size - room
                found.numbers.setdefault(tag, WholeNumber(value, place_of_value, form))
            elif values * _SIZES.get(kind, 1) > room:
                (at,) = struct.unpack(f"{order}{offset}", content)
                found.ends[tag] = at + values * _SIZES.get(kind, 1)
        yield found
        place = found.following


def _number(data: bytes | memoryview, form: str, place: int) -> int | None:
    """One whole number; None where the file ends before it does."""
    if place + struct.calcsize(form) > len(data):
        return None
    (number,) = struct.unpack_from(form, data, place)
    return int(number)
