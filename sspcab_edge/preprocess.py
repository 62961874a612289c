"""Pictures in, graph inputs out: decoding, conversion to 8-bit RGB, resizing with a pinned filter.

Everything here is the same on the workstation and on the device, because a resize kernel or a colour order
that differs between the two changes scores (the most frequent complaint about exported detectors).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded, in pixels (10000x10000)."""

# OpenCV reads this limit once, when it is imported; it then refuses larger pictures from their header alone.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

import cv2  # noqa: E402

from sspcab_edge.bit_depth import BitDepth, largest_value, upper_8_bits  # noqa: E402
from sspcab_edge.errors import InputError, PictureError  # noqa: E402
from sspcab_edge.front_end_spec import Preprocess, ResizeFilter  # noqa: E402
from sspcab_edge.image_chunks import file_kind  # noqa: E402
from sspcab_edge.image_files import as_stored, count_images, lacks_end, with_other_end  # noqa: E402
from sspcab_edge.orientation import orientation, upright  # noqa: E402
from sspcab_edge.printable import printable  # noqa: E402
from sspcab_edge.resampling import antialias_linear, pil_cubic, pil_linear  # noqa: E402

__all__ = [
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "Picture",
    "decode_picture",
    "prepare",
    "resize",
]

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".dib", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
_MAX_FILE_BYTES = 1024 * 1024 * 1024
_MISSING = 128  # of JPEG: what coefficients of zero are
_JPEG_FLAGS = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        converted: What had to be converted, in words, or None.
        used: Of a file with 16 bits per channel, all values of its colours or-ed: their highest and lowest
            bits in use are its own. None for 8 bits.
    """

    pixels: Pixels
    converted: str | None = None
    used: int | None = None


def decode_picture(path: Path, bit_depth: BitDepth = 16) -> Picture:
    """Read a picture file as 8-bit RGB, upright.

    Grey becomes three equal channels, 16 bits become 8 by dropping the low byte, alpha is dropped: what
    ``cv2.imread`` does, which the training code of DRAEM used. The orientation that JPEG, PNG, WebP and TIFF
    files state is applied, with every version of OpenCV.

    Args:
        path: The file.
        bit_depth: How many bits are in use where it has 16 per channel: ``value >> (bit_depth - 8)`` is
            what becomes of one. See :mod:`sspcab_edge.bit_depth`.

    Raises:
        PictureError: Not readable, not a picture, empty, half written, of several images, larger than
            :data:`MAX_PIXELS`, or with values that ``bit_depth`` does not hold.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise PictureError(f"{printable(path)} is larger than {_MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot read {printable(path)}: {error.strerror}") from error
    if not data:
        raise PictureError(f"{printable(path)} is empty, expected a picture")
    kind = file_kind(data)
    if kind is None:
        raise PictureError(
            f"{printable(path)} cannot be decoded: by its content it is no JPEG, PNG, TIFF, WebP, BMP, PGM "
            "or PPM file; save it as one of these"
        )
    if lacks_end(data):
        raise PictureError(_half_written(path))
    images = count_images(data)
    if images > 1:
        raise PictureError(
            f"{printable(path)} holds {images} images (pages or frames of an animation), expected one, and "
            "none of them is judged: save each as a file of its own"
        )
    raw = _decode(as_stored(data), path)
    if kind == "JPEG" and _ends_early(data, raw, path):
        raise PictureError(_half_written(path))
    return _to_rgb(upright(raw, orientation(data)), path, bit_depth)


def _decode(data: bytes, path: Path) -> npt.NDArray[Any]:
    """The pixels as they are stored."""
    jpeg = file_kind(data) == "JPEG"
    flags = _JPEG_FLAGS if jpeg else cv2.IMREAD_UNCHANGED  # which applies no EXIF orientation
    try:
        raw = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise PictureError(_undecodable(path)) from error
    if raw is None or raw.size == 0:
        raise PictureError(_undecodable(path))
    if raw.shape[0] * raw.shape[1] > MAX_PIXELS:
        raise PictureError(
            f"{printable(path)} has {raw.shape[1]}x{raw.shape[0]} pixels, expected at most {MAX_PIXELS}: "
            "scale it down"
        )
    return np.asarray(raw)


def _ends_early(jpeg: bytes, raw: npt.NDArray[Any], path: Path) -> bool:
    """Whether the last scan stops before the image does, though the end of the image is marked.

    Decoders give the same mid-grey for all that is missing. So an image whose last block is of it, away from
    the blocks before, is decoded again with more data at its end, which leave a whole one as it is.
    """
    rows, columns = ((side - 1) % 8 // 2 + 1 for side in raw.shape[:2])
    return bool(np.all(raw[-rows:, -columns:] == _MISSING)) and not np.array_equal(
        raw, _decode(with_other_end(jpeg), path)
    )


def _half_written(path: Path) -> str:
    return f"{printable(path)} ends before its image does, it is half written: copy it again"


def _undecodable(path: Path) -> str:
    return (
        f"{printable(path)} cannot be decoded: it is damaged, no picture, or larger than {MAX_PIXELS} "
        "pixels; remove it or save it again"
    )


def _to_rgb(raw: npt.NDArray[Any], path: Path, bit_depth: BitDepth) -> Picture:
    notes = []
    used = None
    opaque = True
    if raw.dtype == np.uint16:
        if raw.ndim == 3 and raw.shape[2] in (2, 4):
            raw, opaque = raw[..., :-1], False  # alpha is of the file's 16 bits, whatever the camera has
        used = int(np.bitwise_or.reduce(raw, axis=None))
        if used > largest_value(bit_depth):
            raise PictureError(
                f"{printable(path)} holds values up to {int(raw.max())}, expected at most "
                f"{largest_value(bit_depth)} ({bit_depth} bits in use): check the camera's pixel format, or "
                "export again with --bit-depth"
            )
        raw = upper_8_bits(raw, bit_depth)
        notes.append("16-bit to 8-bit" if bit_depth == 16 else f"16-bit ({bit_depth} in use) to 8-bit")
    if raw.dtype != np.uint8:
        raise PictureError(f"{printable(path)} has {raw.dtype} pixels, expected 8 or 16 bits per channel")
    if raw.ndim == 2:
        raw = raw[..., None]
    channels = raw.shape[2]
    if channels in (2, 4) or not opaque:
        notes.append("alpha dropped")
    if channels in (1, 2):
        notes.append("grey to RGB")
        rgb = np.repeat(raw[..., :1], 3, axis=2)
    elif channels in (3, 4):
        rgb = cv2.cvtColor(raw, cv2.COLOR_BGRA2RGB if channels == 4 else cv2.COLOR_BGR2RGB)
    else:
        raise PictureError(f"{printable(path)} has {channels} channels, expected 1 to 4")
    return Picture(np.ascontiguousarray(rgb, dtype=np.uint8), ", ".join(notes) or None, used)


def prepare(pixels: Pixels, spec: Preprocess) -> Pixels:
    """One frame as the graph wants it: (height, width, 3) uint8 RGB.

    Raises:
        InputError: ``pixels`` is not (H, W, 3) uint8.
    """
    if pixels.dtype == np.uint16 and pixels.ndim == 3 and pixels.shape[2] == 3:
        raise InputError(
            f"frame is {tuple(pixels.shape)} uint16, expected uint8 RGB: keep the upper 8 of the bits in "
            f"use, here (frame >> {spec.bit_depth - 8}).astype(np.uint8)"
        )
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise InputError(
            f"frame is {tuple(pixels.shape)} {pixels.dtype}, expected (H, W, 3) uint8 RGB: convert it first"
        )
    return resize(pixels, spec)


def resize(pixels: Pixels, spec: Preprocess) -> Pixels:
    """Resize (H, W, 3) uint8 with the pinned filter; a frame of the right size passes unchanged."""
    if pixels.shape[:2] == (spec.height, spec.width):
        return np.ascontiguousarray(pixels)
    return _FILTERS[spec.resize](pixels, spec.height, spec.width)


def _opencv_linear(pixels: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


_FILTERS: dict[ResizeFilter, Callable[[Pixels, int, int], Pixels]] = {
    "opencv-linear": _opencv_linear,
    "antialias-linear": antialias_linear,
    "pil-cubic": pil_cubic,
    "pil-linear": pil_linear,
}
"""Name in manifests -> what it does to (H, W, 3) uint8 for a height and a width."""
