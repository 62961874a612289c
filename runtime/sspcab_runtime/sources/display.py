"""How frames of a video are to be shown: the display matrix that phones write beside them."""

from __future__ import annotations

import struct
from typing import Any, Final

__all__ = ["display_orientation", "is_turned"]


_BY_QUARTER_TURNS: Final = (1, 8, 3, 6)
"""Turns to the left -> orientation."""


def display_orientation(frame: Any) -> int:
    """The orientation of a PyAV frame in EXIF's numbers, 1 to 8; angles between count as the nearest.

    The matrix (ISO/IEC 14496-12, 8.3.2) takes a pixel (x, y) to (a x + c y, b x + d y). Where PyAV knows no
    name for something else beside the frame, as for EXIF in Motion JPEG or the views of stereo, it gives the
    angle alone, and a mirror is not seen.
    """
    try:
        side = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        return _BY_QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if side is None:
        return 1
    a, b, _, c, d = struct.unpack_from("=5i", bytes(side))
    if abs(b) > abs(a):
        return {(False, False): 5, (True, False): 6, (True, True): 7, (False, True): 8}[(c < 0, b < 0)]
    return {(False, False): 1, (True, False): 2, (True, True): 3, (False, True): 4}[(a < 0, d < 0)]


def is_turned(orientation: int) -> bool:
    """Whether rows become columns."""
    return orientation >= 5
