"""Half-written files are refused, and files of several images are never judged by their first alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import PictureError
from sspcab_edge.image_files import count_images, lacks_end
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.printable import one_line, printable

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(suffix: str, pixels: Pixels, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, options)[1].tobytes())


WAYS = {
    "JPEG": (".jpg", ()),
    "progressive JPEG": (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "JPEG with restarts": (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    "PNG": (".png", ()),
    "WebP": (".webp", ()),
    "lossless WebP": (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_half_written_is_refused(
    tmp_path: Path, pixels: Pixels, way: str, share: float
) -> None:
    suffix, options = WAYS[way]
    data = encoded(suffix, pixels, *options)
    assert not lacks_end(data)
    assert not lacks_end(data + b"\0" * 300), "padding behind the end is none of the image"
    path = tmp_path / f"half{suffix}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(PictureError, match=r"half\.\w+ ends before its image does, it is half written"):
        decode_picture(path)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(pixels: Pixels) -> None:
    small, large = encoded(".jpg", pixels[:8, :8]), encoded(".jpg", pixels)
    app1 = b"\xff\xe1" + (len(small) + 8).to_bytes(2, "big") + b"Exif\0\0" + small
    whole = large[:2] + app1 + large[2:]
    assert not lacks_end(whole + b"\0")
    assert b"\xff\xd9" in whole[: len(whole) // 2]
    assert lacks_end(whole[: len(whole) - 200])


def test_pages_of_a_tiff_are_counted_and_copies_are_not(tmp_path: Path, pixels: Pixels) -> None:
    path = tmp_path / "pages.tif"
    assert cv2.imwritemulti(str(path), [pixels, pixels[::-1]])
    assert count_images(path.read_bytes()) == 2
    with pytest.raises(PictureError, match=r"holds 2 images .* none of them is judged: save each as a file"):
        decode_picture(path)
    data = bytearray(encoded(".tif", pixels))
    assert count_images(bytes(data)) == 1
    copied = bytearray(path.read_bytes())
    second = copied.rfind(b"\xfe\x00\x04\x00\x01\x00\x00\x00")
    if second > 0:  # NewSubfileType of the second page: a smaller copy of the first
        copied[second + 8] = 1
        assert count_images(bytes(copied)) == 1


def test_frames_of_animations_are_counted(tmp_path: Path, pixels: Pixels) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no animation to read")
    frames = [image.fromarray(np.roll(pixels, 9 * n, 1)) for n in range(3)]
    for suffix in (".png", ".webp"):
        path = tmp_path / f"moving{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
        assert count_images(path.read_bytes()) == 3
        with pytest.raises(PictureError, match="holds 3 images"):
            decode_picture(path)
        frames[0].save(path)
        assert count_images(path.read_bytes()) == 1
        decode_picture(path)


@pytest.mark.parametrize(
    "start", [b"II*\0", b"MM\0*", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"\xff\xd8"]
)
def test_any_bytes_have_an_answer(start: bytes) -> None:
    random = np.random.default_rng(3)
    for _ in range(300):
        data = start + random.integers(0, 256, random.integers(0, 200), dtype=np.uint8).tobytes()
        assert count_images(data) >= 1
        assert lacks_end(data) in (True, False)


def test_names_are_escaped_and_texts_stay_in_one_line() -> None:
    assert printable("good/päß 1.png") == "good/päß 1.png"
    assert printable("a\nb\x1b[2J\udcff.png") == r"a\nb\x1b[2J\xff.png"
    assert one_line("first\n  second\x1b") == r"first second\x1b"
