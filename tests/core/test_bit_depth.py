"""Files of 16 bits per channel: the upper 8 of the bits in use, in every kind of file, and nothing silent."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from sspcab_edge.bit_depth import BIT_DEPTHS, BitDepth, depth_that_holds, largest_value, upper_8_bits
from sspcab_edge.errors import InputError, PictureError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.preprocess import decode_picture, prepare


@pytest.mark.parametrize("bits", BIT_DEPTHS)
def test_every_value_keeps_its_upper_8_bits(bits: BitDepth) -> None:
    values = np.arange(largest_value(bits) + 1, dtype=np.uint16)
    expected = [int(value) // 2 ** (bits - 8) for value in values]
    assert upper_8_bits(values, bits).tolist() == expected
    assert (expected[0], expected[-1]) == (0, 255)


def test_the_depth_is_the_least_that_holds_a_value() -> None:
    edges = {0: 8, 255: 8, 256: 10, 1023: 10, 1024: 12, 4095: 12, 4096: 14, 16383: 14, 16384: 16, 65535: 16}
    assert {value: depth_that_holds(value) for value in edges} == edges
    assert get_args(BitDepth) == BIT_DEPTHS


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
@pytest.mark.parametrize("bits", BIT_DEPTHS)
def test_grey_files_give_the_same_as_8_bit_ones(tmp_path: Path, suffix: str, bits: BitDepth) -> None:
    values = np.random.default_rng(0).integers(0, largest_value(bits) + 1, (9, 14)).astype(np.uint16)
    values[0, 0] = largest_value(bits)
    assert cv2.imwrite(str(tmp_path / f"deep{suffix}"), values)
    deep = decode_picture(tmp_path / f"deep{suffix}", bits)
    np.testing.assert_array_equal(
        deep.pixels, (values >> (bits - 8)).astype(np.uint8)[..., None].repeat(3, 2)
    )
    assert deep.used == largest_value(bits)
    assert deep.converted is not None
    assert "16-bit" in deep.converted


def test_colours_and_alpha_of_12_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (8, 8, 4)).astype(np.uint16)
    values[..., 3] = 65535
    assert cv2.imwrite(str(tmp_path / "alpha.png"), values)
    picture = decode_picture(tmp_path / "alpha.png", 12)
    np.testing.assert_array_equal(picture.pixels, (values[..., 2::-1] >> 4).astype(np.uint8))
    assert picture.used is not None
    assert picture.used <= 4095
    assert picture.converted == "16-bit (12 in use) to 8-bit, alpha dropped"


def test_a_value_beyond_the_depth_is_a_fault_that_names_it(tmp_path: Path) -> None:
    values = np.full((8, 8), 4095, np.uint16)
    values[3, 4] = 4096
    assert cv2.imwrite(str(tmp_path / "bright.png"), values)
    with pytest.raises(
        PictureError, match=r"bright\.png holds values up to 4096, expected at most 4095 .12 bits"
    ):
        decode_picture(tmp_path / "bright.png", 12)
    assert decode_picture(tmp_path / "bright.png", 14).pixels.max() == 64


def test_8_bit_files_are_what_they_were_at_any_depth(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "plain.png"), values)
    plain = decode_picture(tmp_path / "plain.png", 12)
    np.testing.assert_array_equal(plain.pixels, values[..., ::-1])
    assert (plain.used, plain.converted) == (None, None)


def test_frames_of_16_bits_are_refused_with_what_makes_them_8() -> None:
    spec = Preprocess(width=4, height=4, resize="opencv-linear", bit_depth=12)
    with pytest.raises(InputError, match=r"uint16, expected uint8 .* \(frame >> 4\)\.astype\(np\.uint8\)"):
        prepare(np.zeros((4, 4, 3), np.uint16), spec)
