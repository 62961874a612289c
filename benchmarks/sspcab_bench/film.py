"""What stands for a camera: pictures of the parity pack, moving, as H.264 that cameras send, or as JPEGs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_bench.inputs import pack_files
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import MissingPackageError, OutputError, PictureError

__all__ = ["make_film", "make_pictures"]

_HOLD_S = 1.0
_PAN = 2
"""Pixels from one frame to the next."""

_QUALITY = 90


def make_film(bundle: Bundle, path: Path, *, width: int, height: int, fps: float, seconds: float) -> None:
    """Write a Matroska film: H.264 high profile, no B-frames, a key frame every two seconds, BT.709 limited.

    Each picture of the pack is shown for a second and pans by two pixels a frame.

    Raises:
        BundleError: There are no pictures.
        PictureError: One cannot be read.
        MissingPackageError: PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingPackageError("av", "video", "films for cameras") from error
    files = pack_files(bundle)
    frames, hold = round(fps * seconds), max(1, round(fps * _HOLD_S))
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "bf": "0", "g": str(max(1, round(2 * fps)))}
        canvas = np.empty((0, 0, 3), np.uint8)
        for number in range(frames):
            if number % hold == 0:
                canvas = _enlarged(files[number // hold % len(files)], width + _PAN * hold, height)
            left = number % hold * _PAN
            pixels = np.ascontiguousarray(canvas[:, left : left + width])
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def make_pictures(bundle: Bundle, folder: Path, *, width: int, height: int, count: int) -> None:
    """Write pictures of the pack as JPEGs of quality 90, each enlarged to ``width`` x ``height`` pixels.

    Raises:
        BundleError: There are no pictures.
        PictureError: One cannot be read.
        OutputError: One cannot be written.
    """
    files = pack_files(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = _enlarged(files[number % len(files)], width, height)
        path = folder / f"{number:04}.jpg"
        if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
            raise OutputError(f"cannot write {path}")


def _enlarged(file: Path, width: int, height: int) -> npt.NDArray[np.uint8]:
    picture = cv2.imread(str(file))
    if picture is None:
        raise PictureError(f"{file} cannot be decoded")
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
