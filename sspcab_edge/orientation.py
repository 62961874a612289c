"""How images lie: the orientation of JPEG, PNG, WebP and TIFF files, read and applied here alone.

OpenCV applies it by version, by format and by flag: that of WebP from 5.0 on, and with ``IMREAD_UNCHANGED``,
which images with alpha need, that of TIFF alone. So it is told to leave all files as they are stored.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

import numpy.typing as npt

from sspcab_edge.image_chunks import (
    ORIENTATION,
    START_OF_SCAN,
    Directory,
    file_kind,
    jpeg_segments,
    png_chunks,
    riff_chunks,
    tiff_directories,
)
from sspcab_edge.image_files import tiff_page

__all__ = ["orientation", "upright"]

_APP1: Final = 0xE1
_EXIF: Final = b"Exif\0"
_MOST_BYTES: Final = 1 << 20
_RAW_PROFILE: Final = re.compile(rb"Raw profile type (?:exif|APP1)\0")
_HEXADECIMAL: Final = re.compile(rb"\n[^\n]*\n\s*\d+\n([0-9A-Fa-f\s]+)")


def orientation(data: bytes) -> int:
    """The orientation of an image file, 1 to 8 (CIPA DC-008, 4.6.4; TIFF 6.0, section 8); 1 without any."""
    found = 1
    if (directory := _first_directory(data)) is not None:
        found = directory.value(ORIENTATION, 1)
    return found if 1 <= found <= 8 else 1


def upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Stored pixels (H, W) or (H, W, C) as they are to be looked at; a view of the same memory.

    Seen upright, the image as it is stored is 2: mirrored left to right, 3: turned by half, 4: mirrored top
    to bottom; from 5 on its rows are columns.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _first_directory(data: bytes) -> Directory | None:
    """What a file says of its image beside the pixels, where it does."""
    kind = file_kind(data)
    if kind == "TIFF":
        return tiff_page(data)
    exif = {"JPEG": _exif_of_jpeg, "PNG": _exif_of_png, "WebP": _exif_of_webp}.get(kind or "", _none)(data)
    if exif is None:
        return None
    return next(tiff_directories(exif[6:] if exif[:5] == _EXIF else exif), None)


def _none(data: bytes) -> None:
    """Other files hold no EXIF."""


def _exif_of_jpeg(data: bytes) -> bytes | None:
    for one in jpeg_segments(data):
        if one.marker == _APP1 and one.content.startswith(_EXIF):
            return one.content
        if one.marker == START_OF_SCAN:
            break
    return None


def _exif_of_png(data: bytes) -> bytes | None:
    """The chunk for it; or text, as ImageMagick and ExifTool wrote it before there was one."""
    text = None
    for name, content in png_chunks(data):
        if name == b"eXIf":
            return bytes(content)
        if text is None and name in (b"tEXt", b"zTXt") and (found := _RAW_PROFILE.match(content)):
            text = _raw_profile(name, bytes(content[found.end() :]))
    return text


def _raw_profile(name: bytes, content: bytes) -> bytes | None:
    """Bytes written in hexadecimal digits, behind a line with their kind and one with their number."""
    if name == b"zTXt":
        try:
            content = zlib.decompressobj().decompress(content[1:], _MOST_BYTES)
        except zlib.error:
            return None
    found = _HEXADECIMAL.match(content)
    digits = b"".join(found[1].split()) if found else b""
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode()) or None


def _exif_of_webp(data: bytes) -> bytes | None:
    return next((bytes(content) for name, content in riff_chunks(data) if name == b"EXIF"), None)
