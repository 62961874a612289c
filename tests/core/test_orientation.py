"""Images come upright out of the decoder, whatever says how they lie and whatever OpenCV makes of it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.turned_images import (
    SIDES,
    WRITERS,
    exif,
    raw_profile,
    seen,
    turned_jpeg,
    turned_png,
    turned_tiff,
    turned_webp,
    with_chunk,
)
from sspcab_edge.datasets.masks import read_mask
from sspcab_edge.orientation import orientation
from sspcab_edge.preprocess import decode_picture

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def pixels() -> Pixels:
    """(H, W, 3) BGR that are the same in no orientation."""
    return np.random.default_rng(0).integers(0, 256, (40, 27, 3), dtype=np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("lies", SIDES)
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_orientation_of_every_format_is_applied(
    tmp_path: Path, pixels: Pixels, suffix: str, lies: int, order: str
) -> None:
    path = tmp_path / f"image{suffix}"
    path.write_bytes(WRITERS[suffix](pixels, 1, order))
    plain = decode_picture(path).pixels
    if suffix != ".jpg":
        assert np.array_equal(plain, pixels[..., ::-1])
    path.write_bytes(WRITERS[suffix](pixels, lies, order))
    decoded = decode_picture(path).pixels
    assert np.array_equal(decoded, seen(plain, lies))
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("lies", SIDES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_it_does_not_depend_on_the_kind_of_pixels(
    tmp_path: Path, lies: int, dtype: type, channels: int
) -> None:
    shape = (12, 20, channels) if channels > 1 else (12, 20)
    stored: npt.NDArray[Any] = (
        np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    )
    writers = {".png": turned_png} if channels == 4 else {".png": turned_png, ".tif": turned_tiff}
    for suffix, write in writers.items():
        path = tmp_path / f"image{suffix}"
        path.write_bytes(write(stored, lies))
        eight = (stored >> 8 if dtype == np.uint16 else stored).astype(np.uint8)
        rgb = np.repeat(eight[..., None], 3, axis=2) if channels == 1 else eight[..., 2::-1]
        assert np.array_equal(decode_picture(path).pixels, seen(rgb, lies))


@pytest.mark.parametrize("lies", SIDES)
def test_grey_jpeg_is_turned_too(tmp_path: Path, pixels: Pixels, lies: int) -> None:
    path = tmp_path / "grey.jpg"
    path.write_bytes(turned_jpeg(pixels[..., 0], lies))
    plain = cv2.imdecode(np.frombuffer(turned_jpeg(pixels[..., 0], 1), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode_picture(path).pixels, seen(np.asarray(plain, np.uint8), lies))


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_strips_and_copies_of_a_tiff_change_nothing(
    tmp_path: Path, pixels: Pixels, rows: int, copy: bool
) -> None:
    for lies in SIDES:
        path = tmp_path / "image.tif"
        path.write_bytes(turned_tiff(pixels, lies, rows=rows, copy=copy))
        assert np.array_equal(decode_picture(path).pixels, seen(pixels[..., ::-1], lies))


def test_of_a_tag_that_is_there_twice_the_first_counts(tmp_path: Path, pixels: Pixels) -> None:
    data = turned_tiff(pixels, 6, rows=40)
    rows = struct.pack("<HHI", 278, 3, 1)  # may be absent where there is one strip
    path = tmp_path / "image.tif"
    path.write_bytes(
        data.replace(rows + data[data.index(rows) + 8 :][:4], struct.pack("<HHIHH", 274, 3, 1, 1, 0))
    )
    assert np.array_equal(decode_picture(path).pixels, seen(pixels[..., ::-1], 6))


@pytest.mark.parametrize("packed", [False, True])
def test_exif_as_text_in_a_png_counts(tmp_path: Path, pixels: Pixels, packed: bool) -> None:
    plain = bytes(cv2.imencode(".png", pixels)[1])
    name, text = b"Raw profile type exif\0", raw_profile(8)
    data = (
        with_chunk(plain, b"zTXt", name + b"\0" + zlib.compress(text))
        if packed
        else with_chunk(plain, b"tEXt", name + text)
    )
    path = tmp_path / "image.png"
    path.write_bytes(data)
    assert np.array_equal(decode_picture(path).pixels, seen(pixels[..., ::-1], 8))
    path.write_bytes(with_chunk(data, b"eXIf", exif(3)))
    assert np.array_equal(decode_picture(path).pixels, seen(pixels[..., ::-1], 3)), "the chunk for it wins"


def test_a_mask_is_turned_as_its_own_file_says(tmp_path: Path) -> None:
    mask = np.zeros((30, 50), np.uint8)
    mask[3:7, 30:45] = 255
    (tmp_path / "mask.png").write_bytes(turned_png(mask, 6))
    assert np.array_equal(read_mask(tmp_path / "mask.png"), seen(mask, 6) > 0)


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_changes_nothing(tmp_path: Path, pixels: Pixels, value: int) -> None:
    for suffix, write in WRITERS.items():
        data = write(pixels, value)
        assert orientation(data) == 1
        path = tmp_path / f"image{suffix}"
        path.write_bytes(data)
        assert decode_picture(path).pixels.shape == (40, 27, 3)


def test_what_pillow_writes_is_read(tmp_path: Path, pixels: Pixels) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: nothing to read")
    for suffix in WRITERS:
        for lies in SIDES:
            tags = image.Exif()
            tags[0x0112] = lies
            path = tmp_path / f"image{suffix}"
            options = {"lossless": True} if suffix == ".webp" else {}
            image.fromarray(pixels).save(path, exif=tags.tobytes(), **options)
            assert orientation(path.read_bytes()) == lies
            if suffix != ".jpg":
                assert np.array_equal(decode_picture(path).pixels, seen(pixels, lies))


@given(st.binary(max_size=80), st.integers(0, 3), st.integers(0, 60))
def test_damaged_exif_is_never_more_than_no_orientation(junk: bytes, kind: int, place: int) -> None:
    tiny = np.zeros((2, 2, 3), np.uint8)
    writers = (turned_jpeg, turned_png, turned_webp, turned_tiff)
    data = writers[kind](tiny, 6)
    assert 1 <= orientation(data[:place] + junk + data[place + len(junk) :]) <= 8
    assert 1 <= orientation(data[: len(data) - place]) <= 8
