"""Image files that lie on a side and say so: EXIF and TIFF written byte by byte."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
"""Orientation -> where the first row and the first column of the stored image are to be seen (TIFF 6.0)."""


def seen(stored: Pixels, orientation: int) -> Pixels:
    """What is to be seen of an image that is stored so, pixel by pixel."""
    rows, columns = stored.shape[:2]
    first_row, first_column = SIDES[orientation]
    upright = first_row in ("top", "bottom")
    height, width = (rows, columns) if upright else (columns, rows)
    image = np.empty((height, width, *stored.shape[2:]), stored.dtype)

    def put(side: str, number: int) -> tuple[str, int]:
        """The coordinate that a row or column with this number counts, and its value."""
        if side in ("top", "bottom"):
            return "y", number if side == "top" else height - 1 - number
        return "x", number if side == "left" else width - 1 - number

    for row in range(rows):
        for column in range(columns):
            at = dict((put(first_row, row), put(first_column, column)))
            image[at["y"], at["x"]] = stored[row, column]
    return image


def stored(image: Pixels, orientation: int) -> Pixels:
    """How an image has to be stored to be seen as it is."""
    return seen(image, {6: 8, 8: 6}.get(orientation, orientation))


def exif(orientation: int, order: str = ">") -> bytes:
    """A directory of TIFF with the orientation alone."""
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def turned_jpeg(pixels: Pixels, orientation: int, order: str = ">") -> bytes:
    """A JPEG file; ``pixels`` are BGR or grey, as OpenCV has them."""
    data = bytes(cv2.imencode(".jpg", pixels)[1])
    content = b"Exif\0\0" + exif(orientation, order)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG file with one more chunk behind its header."""
    return png[:33] + chunk(kind, content) + png[33:]


def turned_png(pixels: npt.NDArray[np.generic], orientation: int, order: str = ">") -> bytes:
    """A PNG file with the chunk for EXIF."""
    data = bytes(cv2.imencode(".png", pixels)[1])  # type: ignore[arg-type]
    return with_chunk(data, b"eXIf", exif(orientation, order))


def raw_profile(orientation: int) -> bytes:
    """EXIF as text, as ImageMagick writes it into PNG files."""
    content = b"Exif\0\0" + exif(orientation)
    digits = content.hex().encode()
    lines = b"\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return b"\nexif\n" + b"%8d\n" % len(content) + lines + b"\n"


def turned_webp(pixels: Pixels, orientation: int, order: str = ">") -> bytes:
    """A lossless WebP file in the extended form that holds EXIF."""
    simple = bytes(cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])[1])
    start = 30 if simple[12:16] == b"VP8X" else 12
    image = simple[start:] if b"EXIF" not in simple else simple[start : simple.index(b"EXIF")]
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in (pixels.shape[1], pixels.shape[0]))
    content = exif(orientation, order)
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + sides + image
    chunks += b"EXIF" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def turned_tiff(
    pixels: npt.NDArray[np.generic], orientation: int, order: str = "<", rows: int = 7, copy: bool = False
) -> bytes:
    """An uncompressed TIFF file of several strips; ``copy`` puts a smaller copy of it first.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16; BGR as OpenCV has them.
        orientation: Of the image and of its copy.
        order: Of bytes.
        rows: Of one strip.
        copy: Whether there is a copy.
    """
    data = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 0)
    link = 4
    for page in [pixels[::2, ::2], pixels] if copy else [pixels]:
        rgb = page[..., ::-1] if page.ndim == 3 else page
        plain = np.ascontiguousarray(rgb).astype(f"{order}u{rgb.dtype.itemsize}")
        channels = page.shape[2] if page.ndim == 3 else 1
        places, sizes = [], []
        for start in range(0, len(plain), rows):
            strip = plain[start : start + rows].tobytes()
            places.append(len(data))
            sizes.append(len(strip))
            data += strip + b"\0" * (len(strip) % 2)
        lists = {}
        for tag, values in ((258, [8 * page.dtype.itemsize] * channels), (273, places), (279, sizes)):
            lists[tag] = (len(data), values)
            data += struct.pack(f"{order}{len(values)}I" if tag != 258 else f"{order}{channels}H", *values)
            data += b"\0" * (len(data) % 2)
        short = {256: page.shape[1], 257: page.shape[0], 259: 1, 262: 2 if channels == 3 else 1}
        short |= {274: orientation, 277: channels, 278: rows}
        entries = []
        if copy and page is not pixels:
            entries.append(struct.pack(f"{order}HHII", 254, 4, 1, 1))
        for tag in sorted({*short, *lists}):
            if tag in short:
                entries.append(struct.pack(f"{order}HHIHH", tag, 3, 1, short[tag], 0))
                continue
            place, values = lists[tag]
            kind = 3 if tag == 258 else 4
            if len(values) == 1:
                packed = struct.pack(f"{order}{'HH' if kind == 3 else 'I'}", values[0], *([0] * (kind == 3)))
            else:
                packed = struct.pack(f"{order}I", place)
            entries.append(struct.pack(f"{order}HHI", tag, kind, len(values)) + packed)
        data = data[:link] + struct.pack(f"{order}I", len(data)) + data[link + 4 :]
        data += struct.pack(f"{order}H", len(entries)) + b"".join(entries)
        link = len(data)
        data += b"\0\0\0\0"
    return data


WRITERS = {".jpg": turned_jpeg, ".png": turned_png, ".webp": turned_webp, ".tif": turned_tiff}
"""Suffix -> what writes such a file from pixels, an orientation and an order of bytes."""
