"""Compressed frames as bytes: whether other frames are made from one, and whether one is missing before it.

Byte streams with start codes alone, as transport streams carry them. Nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["FrameCounter", "is_unused"]

_PREFIX: Final = b"\0\0\1"
_SLICES: Final = frozenset({1, 2, 5})
_IDR, _SPS = 5, 7
_HIGH: Final = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 138, 139, 244})
_HEAD: Final = 64
_H265_SLICES: Final = 32
_MPEG2_PICTURE, _MPEG4_PICTURE = 0x00, 0xB6


def is_unused(codec: str, data: bytes) -> bool:
    """Whether no other frame is made from a frame: H.264 and H.265 say so, B frames of older codecs are.

    Args:
        codec: As FFmpeg names it; for those not known here, False.
        data: One compressed frame.
    """
    if codec == "h264":
        used = [unit[0] >> 5 & 3 for unit in _units(data) if unit[0] & 31 in _SLICES]  # 7.3.1: nal_ref_idc
        return bool(used) and not any(used)
    if codec == "hevc":  # ITU-T H.265, 7.4.2.2, of the lowest sub-layer: cameras write no other
        heads = [(unit[0] >> 1 & 63, unit[1] & 7) for unit in _units(data) if len(unit) > 1]
        slices = [(kind, layer) for kind, layer in heads if kind < _H265_SLICES]
        return bool(slices) and all(kind < 16 and not kind % 2 and layer == 1 for kind, layer in slices)
    if codec in ("mpeg1video", "mpeg2video"):
        kinds = [unit[2] >> 3 & 7 for unit in _units(data) if len(unit) > 2 and unit[0] == _MPEG2_PICTURE]
        return bool(kinds) and all(kind == 3 for kind in kinds)  # ISO/IEC 13818-2, 6.3.9
    if codec == "mpeg4":
        kinds = [unit[1] >> 6 for unit in _units(data) if len(unit) > 1 and unit[0] == _MPEG4_PICTURE]
        return bool(kinds) and all(kind == 2 for kind in kinds)  # ISO/IEC 14496-2, 6.3.5
    return False


class FrameCounter:
    """Follows ``frame_num`` of H.264 (ITU-T H.264, 7.4.3): it rises after each frame that others use.

    Frames are put in one after the other, in the order of decoding.
    """

    def __init__(self) -> None:
        self._bits: int | None = None
        self._colour_planes = False
        self._expected: int | None = None

    def follows(self, data: bytes) -> bool:
        """Whether surely no frame that others are made from is missing before this one."""
        number = used = None
        first = False
        for unit in _units(data):
            kind = unit[0] & 31
            if kind == _SPS:
                self._read_parameters(_Bits(unit[1:_HEAD]))
            elif kind in _SLICES:
                used, first = bool(unit[0] >> 5 & 3), kind == _IDR
                number = self._read_number(_Bits(unit[1:_HEAD]))
                break
        expected, self._expected = self._expected, None
        if number is None or self._bits is None:
            return False
        self._expected = (number + 1) % (1 << self._bits) if used else number
        return first or number == expected

    def _read_parameters(self, bits: _Bits) -> None:
        """Of the sequence (7.3.2.1.1), as far as the numbers of frames need them."""
        self._bits = None
        try:
            profile = bits.fixed(8)
            bits.fixed(16)
            bits.golomb()
            self._colour_planes = False
            if profile in _HIGH:
                if bits.golomb() == 3:
                    self._colour_planes = bool(bits.fixed(1))
                bits.golomb()
                bits.golomb()
                bits.fixed(1)
                if bits.fixed(1):
                    return  # scaling lists stand before what is looked for
            self._bits = bits.golomb() + 4
        except EOFError:
            return

    def _read_number(self, bits: _Bits) -> int | None:
        """``frame_num`` in the header of a slice (7.3.3)."""
        if self._bits is None:
            return None
        try:
            for _ in range(3):
                bits.golomb()
            if self._colour_planes:
                bits.fixed(2)
            return bits.fixed(self._bits)
        except EOFError:
            return None


class _Bits:
    """Numbers in the head of a unit, without the bytes that keep start codes out (7.3.1)."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def fixed(self, bits: int) -> int:
        """An unsigned number of so many bits.

        Raises:
            EOFError: There are fewer.
        """
        if bits > self._left:
            raise EOFError
        self._left -= bits
        return self._value >> self._left & ((1 << bits) - 1)

    def golomb(self) -> int:
        """An unsigned Exp-Golomb number (9.1).

        Raises:
            EOFError: It does not end.
        """
        zeros = 0
        while not self.fixed(1):
            zeros += 1
        return (1 << zeros) - 1 + self.fixed(zeros)


def _units(data: bytes) -> Iterator[bytes]:
    """What follows each start code, as far as heads reach."""
    place = data.find(_PREFIX)
    while 0 <= place < len(data) - len(_PREFIX):
        begin = place + len(_PREFIX)
        place = data.find(_PREFIX, begin)
        yield data[begin : min(begin + _HEAD, place if place >= 0 else len(data))]
