"""Image files as bytes: whether all of the image is there, and how many images there are.

Nothing is decoded. Decoders differ in what they make of half a file: some give grey for what is missing, some
refuse it by version. And most read the first of several images alone.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from sspcab_edge.image_chunks import (
    END_OF_IMAGE,
    ORIENTATION,
    START_OF_SCAN,
    Directory,
    file_kind,
    jpeg_segments,
    png_chunks,
    riff_chunks,
    tiff_directories,
)

__all__ = ["as_stored", "count_images", "lacks_end", "tiff_page", "with_other_end"]

_SEQUENTIAL: Final = frozenset({0xC0, 0xC1, 0xC5, 0xC9, 0xCD})
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_APPLICATION: Final = range(0xE0, 0xF0)
_MAP: Final = re.compile(rb"ns\.adobe\.com/hdr-gain-map|iso:ts:21496|com:apple:photo:20\d\d:aux")
"""What maps of gain and depth are called: by Adobe and Google, by ISO 21496-1, by Apple."""

_BETWEEN: Final = re.compile(rb"(?:[\0\r\n]|\xff(?!\xd8\xff))*")
"""Filling between JPEG files that were joined."""

_COEFFICIENTS: Final = 64
_OTHER_END: Final = b"".join(bytes(range(16, 144)) + bytes((0xFF, 0xD0 + number)) for number in range(8))
"""Data and restarts that go on with a scan which wants more, and are passed over by one that does not."""

_OF_PIXELS: Final = frozenset({258, 273, 279, 320, 324, 325, 338, 339, 347, 529, 532})
"""Tags of TIFF: bits, where the pixels lie, colours, tables of JPEG."""

_SUBFILE: Final = 254  # NewSubfileType: bit 0 a smaller copy, bit 2 a transparency mask
_OLD_SUBFILE: Final = 255  # SubfileType: 2 a smaller copy
_HEADER: Final = re.compile(
    rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:(?:\s|#[^\n]*\n)+(\d{1,5}))?\s"
)


def lacks_end(data: bytes) -> bool:
    """Whether a JPEG, PNG, WebP or TIFF file stops before its end, as one that is half written does.

    A progressive JPEG that ends, but lacks scans, counts; of TIFF, one whose directories lead behind its end.
    What else is cut no version of OpenCV decodes.
    """
    kind = file_kind(data)
    if kind == "JPEG":
        return not _jpeg_is_whole(data)
    if kind == "PNG":
        return b"IEND" not in data[-1024:] and not any(name == b"IEND" for name, _ in png_chunks(data))
    if kind == "WebP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return kind == "TIFF" and _tiff_is_cut(data)


def count_images(data: bytes) -> int:
    """How many images a file holds: pages of a TIFF, frames of an animated PNG or WebP, joined JPEG or PGM.

    Smaller copies and masks that lie in a TIFF beside its image are none; nor is what phones put behind the
    image of a JPEG: previews, maps of depth and gain, films.
    """
    kind = file_kind(data)
    if kind == "TIFF":
        return max(1, sum(_is_page(one) for one in tiff_directories(data)))
    if kind == "PNG":
        return _png_images(data)
    if kind == "WebP":
        return max(1, sum(name == b"ANMF" for name, _ in riff_chunks(data)))
    if kind == "JPEG":
        return _jpeg_images(data)
    return _pnm_images(data) if kind == "PGM or PPM" else 1


def as_stored(data: bytes) -> bytes:
    """The file for a decoder that is to give the pixels of its one image as they are stored.

    Of TIFF, decoders read the first image, which may be a smaller copy, and turn it by its orientation tag in
    ways that depend on their version and on the kind of pixels. So the image comes first here and has no
    orientation. All other files are given back as they are.
    """
    page = tiff_page(data)
    if page is None:
        return data
    order, big = ("<" if data[:2] == b"II" else ">"), 43 in data[2:4]
    first, form = (8, f"{order}Q") if big else (4, f"{order}I")
    lies = page.numbers.get(ORIENTATION)
    if struct.unpack_from(form, data, first)[0] == page.place and (lies is None or lies.value == 1):
        return data
    changed = bytearray(data)
    struct.pack_into(form, changed, first, page.place)
    if lies is not None:
        struct.pack_into(lies.form, changed, lies.place, 1)
    return bytes(changed)


def tiff_page(data: bytes) -> Directory | None:
    """The directory of the first image of a TIFF file that is no copy of another; None for other files."""
    directories = list(tiff_directories(data)) if file_kind(data) == "TIFF" else []
    return next((one for one in directories if _is_page(one)), directories[0] if directories else None)


def with_other_end(jpeg: bytes) -> bytes:
    """A whole JPEG file with data between its last scan and its end.

    Decoders pass them over, unless the scan ended too early: then they are taken for the rest of the image,
    and it changes.
    """
    end = next(one.place for one in jpeg_segments(jpeg) if one.marker == END_OF_IMAGE)
    while jpeg[end - 1] == 0xFF:  # filling, which belongs to the marker behind it
        end -= 1
    return jpeg[:end] + _OTHER_END + jpeg[end:]


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end of the image is there, and in front of it all scans that are needed.

    Those of a progressive one send every bit of every coefficient (ITU-T T.81, G.1.1.1). An encoder might
    leave out the last bits; those in use do not, and an image that lacks some is a coarse one.
    """
    left: dict[int, list[bool]] = {}
    progressive = False
    for one in jpeg_segments(data):
        content = one.content
        if one.marker == END_OF_IMAGE:
            return not any(any(lacking) for lacking in left.values())
        if one.marker in _SEQUENTIAL | _PROGRESSIVE and len(content) >= 6:
            progressive = one.marker in _PROGRESSIVE
            left = {name: [True] * _COEFFICIENTS for name in content[6 : 6 + 3 * content[5] : 3]}
        if one.marker == START_OF_SCAN and content:
            names = content[1 : 1 + 2 * content[0] : 2]
            rest = content[1 + 2 * content[0] :]
            first, last, bits = rest[:3] if progressive and len(rest) >= 3 else (0, 63, 0)
            for name in names:
                if bits & 15 == 0 and name in left:
                    left[name][first : last + 1] = [False] * len(left[name][first : last + 1])
    return False


def _jpeg_images(data: bytes) -> int:
    """Files of one size that follow each other, as in a recording of Motion JPEG, or of a stereo camera.

    A map of gain or depth for the image before is none, whatever its size.
    """
    if data.find(b"\xff\xd8\xff", 2) < 0:
        return 1
    images, start, first = 0, 0, None
    while data[start : start + 3] == b"\xff\xd8\xff":
        end, size = None, None
        for one in jpeg_segments(data, start):
            if images and one.marker in _APPLICATION and _MAP.search(one.content):
                return images
            if one.marker in _SEQUENTIAL | _PROGRESSIVE:
                size = one.content[1:5]
            if one.marker == END_OF_IMAGE:
                end = one.place + 2
        if end is None or (first is not None and size != first):
            break
        images, first = images + 1, size
        found = _BETWEEN.match(data, end)
        start = end if found is None else found.end()
    return max(1, images)


def _tiff_is_cut(data: bytes) -> bool:
    """Whether a further directory, or values that make the pixels what they are, lie behind the end."""
    directories = list(tiff_directories(data))
    if not directories:
        return False
    following = directories[-1].following
    if following is None or (following and all(following != one.place for one in directories)):
        return True
    return any(end > len(data) for one in directories for tag, end in one.ends.items() if tag in _OF_PIXELS)


def _png_images(data: bytes) -> int:
    """Frames of an animation; and the image in front, where that is none of them."""
    stated, controls, still = 0, 0, False
    for name, content in png_chunks(data):
        if name == b"acTL" and len(content) >= 4:
            stated = int.from_bytes(content[:4], "big")
        elif name == b"fcTL":
            controls += 1
        elif name == b"IDAT" and not controls:
            still = True
            if not stated:
                return 1
    return max(1, max(stated, controls) + still) if stated else 1


def _is_page(one: Directory) -> bool:
    return not one.value(_SUBFILE, 0) & 0b101 and one.value(_OLD_SUBFILE, 1) != 2


def _pnm_images(data: bytes) -> int:
    """Binary files that were joined; text holds one image (the specification of Netpbm)."""
    images, place = 0, 0
    while (found := _HEADER.match(data, place)) is not None and found[1] in b"456":
        images += 1
        width, height = int(found[2]), int(found[3])
        if found[1] == b"4":
            place = found.end(3) + 1 + (width + 7) // 8 * height
        else:
            sample = 2 if int(found[4] or 0) > 255 else 1
            place = found.end() + width * height * sample * (3 if found[1] == b"6" else 1)
        while data[place : place + 1].isspace():
            place += 1
    return max(1, images)
