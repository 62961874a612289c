"""From Y'CbCr to RGB, the same on every device and by every way a stream comes.

H.264 and its like store Y'CbCr. The same numbers become different RGB under BT.601 and BT.709, and under
limited and full range: ten levels and more, enough to move scores. So the conversion is chosen here, once
per stream from its first frame, and never left to a default:

* matrix: what the stream says; where it says nothing, BT.709 for 720 lines and more, else BT.601;
* range: what the stream says; where it says nothing, limited, except for formats that are full by
  definition (``yuvj...``, grey);
* arithmetic: libswscale with accurate rounding, full chroma interpolation and bit-exact kernels, to planar
  RGB. That is within one level of the definition on every CPU. Its defaults are up to three levels off,
  with another result per instruction set, and converting straight to packed RGB with the same care takes
  seven times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.orientation import upright
from sspcab_runtime.sources.display import display_orientation, is_turned

__all__ = ["Assumed", "Colour", "Converter"]

Assumed = Literal["auto", "bt601", "bt709", "bt601-full", "bt709-full"]
"""What a stream that does not state its own colours is taken for."""

_HD_LINES = 720
# AVColorSpace of a frame -> SWS_CS of libswscale
_BT709, _BT601 = 1, 5
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
_NAMES = {_BT709: "bt709", 4: "fcc", _BT601: "bt601", 7: "smpte240m", 9: "bt2020"}
_LIMITED, _FULL = 1, 2
_FULL_RANGE_FORMATS = ("yuvj", "gray", "gbr", "rgb", "bgr", "argb", "abgr", "pal8")
_RGB_FORMATS = ("gbr", "rgb", "bgr", "argb", "abgr", "pal8")
# SWS_BILINEAR | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INT
_SCALER = 0x2 | 0x40000 | 0x80000 | 0x2000


@dataclass(frozen=True, slots=True)
class Colour:
    """How the Y'CbCr of one stream becomes RGB.

    Attributes:
        matrix: In libswscale's numbers.
        range: 1 limited, 2 full, as in libav.
        words: For people: what it is, and why.
    """

    matrix: int
    range: int
    words: str

    @classmethod
    def of(cls, frame: Any, assumed: Assumed = "auto") -> Colour:
        """What a decoded PyAV frame states, and for what it does not, what is ``assumed``."""
        if frame.format.name.startswith(_RGB_FORMATS):
            return cls(_BT601, _FULL, "rgb")
        guess = _BT709 if frame.height >= _HD_LINES else _BT601
        guessed_range = _FULL if frame.format.name.startswith(_FULL_RANGE_FORMATS) else _LIMITED
        if assumed != "auto":
            guess = _BT709 if assumed.startswith("bt709") else _BT601
            guessed_range = _FULL if assumed.endswith("full") else guessed_range
        matrix = _MATRICES.get(int(frame.colorspace))
        stated = int(frame.color_range) if int(frame.color_range) in (_LIMITED, _FULL) else None
        name = _NAMES[guess if matrix is None else matrix]
        extent = "full" if (guessed_range if stated is None else stated) == _FULL else "limited"
        why = {
            (True, True): "stated by the stream",
            (True, False): "matrix stated by the stream, range assumed",
            (False, True): "range stated by the stream, matrix assumed",
            (False, False): "assumed: the stream states nothing",
        }[(matrix is not None, stated is not None)]
        return cls(
            guess if matrix is None else matrix,
            guessed_range if stated is None else stated,
            f"{name} {extent} ({why})",
        )


class Converter:
    """Frames of one stream to RGB.

    Args:
        av: The PyAV module.
        assumed: What holds where the stream states nothing.
    """

    def __init__(self, av: Any, assumed: Assumed = "auto") -> None:
        self._assumed = assumed
        self._reformatter = av.video.reformatter.VideoReformatter()
        self.colour: Colour | None = None

    def rgb(self, frame: Any, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of a PyAV frame, upright; in ``out`` where given.

        The first frame decides on the colours of all.
        """
        if self.colour is None:
            self.colour = Colour.of(frame, self._assumed)
        planar = self._reformatter.reformat(
            frame,
            format="gbrp",
            src_colorspace=self.colour.matrix,
            dst_colorspace=self.colour.matrix,
            src_color_range=self.colour.range,
            dst_color_range=_FULL,
            interpolation=_SCALER,
        )
        turned = display_orientation(frame)
        green, blue, red = (
            upright(
                np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width],
                turned,
            )
            for plane in planar.planes
        )
        return np.asarray(cv2.merge([red, green, blue], out), dtype=np.uint8)

    @staticmethod
    def size(frame: Any) -> tuple[int, int]:
        """(height, width) of a frame that is upright."""
        turned = is_turned(display_orientation(frame))
        return (frame.width, frame.height) if turned else (frame.height, frame.width)
