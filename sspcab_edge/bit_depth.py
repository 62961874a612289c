"""Images of 16 bits per channel: how many of them are in use, and how they become 8.

Cameras of 10, 12 and 14 bits write files of 16: with their values as they are (0 to 4095), or shifted up so
that the low bits are zero. Shifted ones, and those that use all 16, become 8 bits by dropping the low byte,
which is what ``cv2.imread`` does; of the others the upper 8 of the bits in use are kept.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

__all__ = ["BIT_DEPTHS", "BitDepth", "depth_that_holds", "largest_value", "upper_8_bits"]

BitDepth = Literal[8, 10, 12, 14, 16]
BIT_DEPTHS: Final[tuple[BitDepth, ...]] = get_args(BitDepth)


def largest_value(bits: BitDepth) -> int:
    """The largest value of so many bits."""
    return (1 << bits) - 1


def depth_that_holds(value: int) -> BitDepth:
    """The least depth that cameras have whose values go up to ``value`` (0 to 65535)."""
    return next(bits for bits in BIT_DEPTHS if value <= largest_value(bits))


def upper_8_bits(values: npt.NDArray[Any], bits: BitDepth) -> npt.NDArray[np.uint8]:
    """``values >> (bits - 8)`` of uint16 that are no larger than :func:`largest_value`, as uint8."""
    return np.asarray(values >> np.uint16(bits - 8), dtype=np.uint8)
