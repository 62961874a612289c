"""Decoding and resizing: what the training code did, on every kind of file a camera or a person makes."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.draem_plain import read_rgb
from sspcab_edge.errors import InputError, PictureError
from sspcab_edge.front_end_spec import Preprocess, ResizeFilter
from sspcab_edge.preprocess import decode_picture, prepare, resize


def picture(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """Noise of any channels and depth."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm"])
def test_colour_files_give_what_cv2_imread_gives(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    cv2.imwrite(str(path), picture(20, 31))
    decoded = decode_picture(path)
    np.testing.assert_array_equal(decoded.pixels, read_rgb(path))
    assert decoded.converted is None


@pytest.mark.parametrize(
    ("channels", "dtype", "said"),
    [(1, np.uint8, "grey"), (3, np.uint16, "16-bit"), (4, np.uint8, "alpha"), (1, np.uint16, "16-bit.*grey")],
)
def test_other_kinds_are_converted_as_cv2_imread_does_and_it_is_said(
    tmp_path: Path, channels: int, dtype: type, said: str
) -> None:
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), picture(9, 14, channels, dtype))
    decoded = decode_picture(path)
    np.testing.assert_array_equal(decoded.pixels, read_rgb(path))
    assert decoded.pixels.flags.c_contiguous
    assert decoded.converted is not None
    assert re.search(said, decoded.converted)


def test_grey_jpeg_becomes_three_equal_channels(tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    cv2.imwrite(str(path), picture(16, 16, 1))
    pixels = decode_picture(path).pixels
    assert pixels.shape == (16, 16, 3)
    assert (pixels[..., 0] == pixels[..., 2]).all()


def png_header(width: int, height: int) -> bytes:
    """A PNG that only claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [b"", b"not a picture", png_header(0, 0), png_header(20000, 20000), b"\xff\xd8\xff\xe0truncated"],
    ids=["empty", "text", "0x0", "20000x20000", "truncated"],
)
def test_what_is_no_picture_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=r"bad\.png") as caught:
        decode_picture(path)
    assert "\n" not in str(caught.value)


def test_float_tiff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "float.tiff"
    cv2.imwrite(str(path), np.ones((4, 4), np.float32))
    with pytest.raises(PictureError, match="float32"):
        decode_picture(path)


def spec(height: int, width: int, filter_: ResizeFilter) -> Preprocess:
    """A preprocess of that size."""
    return Preprocess(width=width, height=height, resize=filter_)


@settings(deadline=None, max_examples=40)
@given(*(st.integers(2, 90) for _ in range(4)), st.integers(0, 1000))  # torch is wrong on one column
def test_antialias_resize_is_torchs(h: int, w: int, to_h: int, to_w: int, seed: int) -> None:
    pixels = picture(h, w, seed=seed)
    got = resize(pixels, spec(to_h, to_w, "antialias-linear")).astype(int)
    wide = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float()
    exact = torch.nn.functional.interpolate(wide, (to_h, to_w), mode="bilinear", antialias=True)
    reference = exact[0].permute(1, 2, 0).numpy()
    assert np.abs(got - reference).max() <= 0.502


PILLOWS: dict[ResizeFilter, str] = {"pil-cubic": "BICUBIC", "pil-linear": "BILINEAR"}


@pytest.mark.parametrize("name", PILLOWS)
def test_pil_resize_is_pillows_bit_for_bit(name: ResizeFilter) -> None:
    """500 sizes and contents: noise, edges, flat; larger, smaller, one pixel wide, one side kept."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: nothing to compare with")
    random = np.random.default_rng(20211109)
    for number in range(500):
        most = (12, 60, 300)[number % 3]
        h, w, to_h, to_w = (int(side) for side in random.integers(1, most, 4))
        to_h, to_w = (h if number % 11 == 0 else to_h), (w if number % 13 == 0 else to_w)
        pixels = picture(h, w, seed=number)
        if number % 5 == 0:
            pixels = np.where(pixels > 128, np.uint8(255), np.uint8(0))
        wanted = np.asarray(image.fromarray(pixels).resize((to_w, to_h), image.Resampling[PILLOWS[name]]))
        got = resize(pixels, spec(to_h, to_w, name))
        assert np.array_equal(got, wanted), (h, w, to_h, to_w)


@pytest.mark.parametrize("name", PILLOWS)
@pytest.mark.parametrize("size", [(1080, 1920), (480, 640), (2000, 1500)])
def test_pil_resize_of_camera_frames_is_pillows(size: tuple[int, int], name: ResizeFilter) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: nothing to compare with")
    pixels = picture(*size, seed=3)
    wanted = np.asarray(image.fromarray(pixels).resize((256, 256), image.Resampling[PILLOWS[name]]))
    assert np.array_equal(resize(pixels, spec(256, 256, name)), wanted)


def test_pillow_resizes_with_cubic_weights_where_no_filter_is_named() -> None:
    """As ``Image.open(path).resize((256, 256))`` in public CutPaste code does."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: nothing to compare with")
    pixels = picture(70, 110)
    wanted = np.asarray(image.fromarray(pixels).resize((64, 48)))
    assert np.array_equal(resize(pixels, spec(48, 64, "pil-cubic")), wanted)


def test_opencv_resize_is_opencvs() -> None:
    pixels = picture(70, 110)
    expected = cv2.resize(pixels, (64, 48))
    np.testing.assert_array_equal(resize(pixels, spec(48, 64, "opencv-linear")), expected)


def test_the_two_filters_differ_when_shrinking() -> None:
    pixels = picture(256, 256)
    a, b = resize(pixels, spec(64, 64, "opencv-linear")), resize(pixels, spec(64, 64, "antialias-linear"))
    assert np.abs(a.astype(int) - b).mean() > 10


def test_a_frame_of_the_right_size_passes_unchanged() -> None:
    pixels = picture(32, 40)
    np.testing.assert_array_equal(prepare(pixels, spec(32, 40, "antialias-linear")), pixels)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
    ids=["grey", "alpha", "float"],
)
def test_frames_of_another_kind_are_refused(frame: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected .H, W, 3. uint8"):
        prepare(frame, spec(4, 4, "opencv-linear"))
