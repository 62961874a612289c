"""Half-written files are refused, and files of several images are never judged by their first alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from definitions.turned_images import turned_tiff
from sspcab_edge.errors import PictureError
from sspcab_edge.image_chunks import START_OF_SCAN, jpeg_segments, tiff_directories
from sspcab_edge.image_files import as_stored, count_images, lacks_end
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


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".ppm", ".pgm"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_half_files_that_no_decoder_takes_are_refused(
    tmp_path: Path, pixels: Pixels, suffix: str, share: float
) -> None:
    data = encoded(suffix, pixels[..., 0] if suffix == ".pgm" else pixels)
    path = tmp_path / f"half{suffix}"
    path.write_bytes(data)
    decode_picture(path)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(PictureError, match=r"half\.\w+ "):
        decode_picture(path)


def test_a_tiff_that_was_cut_between_its_pages_is_not_its_first(tmp_path: Path, pixels: Pixels) -> None:
    path = tmp_path / "pages.tif"
    assert cv2.imwritemulti(str(path), [pixels, pixels[::-1], pixels])
    data = path.read_bytes()
    places = [one.place for one in tiff_directories(data)]
    assert len(places) == 3
    for cut in (places[1] - 1, places[1], places[1] + 20, places[2], len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(PictureError, match=r"pages\.tif (ends before its image does|cannot be decoded)"):
            decode_picture(path)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits"])
def test_a_tiff_that_lost_its_colours_is_refused(
    tmp_path: Path, pixels: Pixels, compression: str | None
) -> None:
    """Its palette comes last; without it decoders make up one."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no palette")
    path = tmp_path / "palette.tif"
    image.fromarray(pixels).convert("P").save(path, compression=compression)
    data = path.read_bytes()
    assert decode_picture(path).pixels.shape == pixels.shape
    for lost in (2, 20, 200, 1000):
        path.write_bytes(data[:-lost])
        with pytest.raises(
            PictureError, match=r"palette\.tif (ends before its image does|cannot be decoded)"
        ):
            decode_picture(path)


TAILS = {
    "nothing": b"",
    "zeros": b"\0" * 300,
    "filling": b"\xff" * 7,
    "a second end": b"\xff\xd9",
    "a line end": b"\r\n",
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("bottom", ["noise", "mid-grey", "all mid-grey"])
@pytest.mark.parametrize("way", [way for way in WAYS if "JPEG" in way])
def test_no_good_jpeg_is_refused(tmp_path: Path, pixels: Pixels, way: str, bottom: str, tail: str) -> None:
    """Mid-grey is what decoders give for what is missing; here it is what was photographed."""
    path = tmp_path / "good.jpg"
    for height, width in ((40, 60), (17, 33), (8, 8), (1, 1)):
        image = pixels[:height, :width].copy()
        if bottom != "noise":
            image[0 if bottom == "all mid-grey" else height // 2 :] = 128
        data = encoded(".jpg", image, *WAYS[way][1])
        path.write_bytes(data + TAILS[tail])
        assert np.array_equal(
            decode_picture(path).pixels, np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), 1))[..., ::-1]
        )
        for filling in (b"\xff\xff\xff", b"\0" * 40):
            path.write_bytes(data[:-2] + filling + b"\xff\xd9" + TAILS[tail])
            assert decode_picture(path).pixels.shape == (height, width, 3)
        path.write_bytes(data + TAILS[tail] + encoded(".jpg", pixels[:7, :9]))  # as the preview of a phone
        assert decode_picture(path).pixels.shape == (height, width, 3)


@pytest.mark.parametrize("way", ["JPEG", "JPEG with restarts"])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("grey", [False, True])
def test_an_end_that_was_put_behind_half_a_jpeg_does_not_help(
    tmp_path: Path, pixels: Pixels, way: str, share: float, grey: bool
) -> None:
    data = encoded(".jpg", pixels[..., 0] if grey else pixels, *WAYS[way][1])
    path = tmp_path / "half.jpg"
    path.write_bytes(data[: int(share * len(data))] + b"\xff\xd9")
    assert not lacks_end(path.read_bytes())
    with pytest.raises(PictureError, match=r"half\.jpg ends before its image does"):
        decode_picture(path)


def test_a_progressive_jpeg_that_lacks_scans_is_refused(tmp_path: Path, pixels: Pixels) -> None:
    """Each scan refines the image; without the later ones decoders give a coarse one and no error."""
    data = encoded(
        ".jpg", np.asarray(cv2.GaussianBlur(pixels, (0, 0), 2), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1
    )
    scans = [one.place for one in jpeg_segments(data) if one.marker == START_OF_SCAN]
    assert len(scans) > 5
    path = tmp_path / "coarse.jpg"
    for scan in scans[1:]:
        path.write_bytes(data[:scan] + b"\xff\xd9")
        with pytest.raises(PictureError, match=r"coarse\.jpg ends before its image does"):
            decode_picture(path)


def test_what_an_image_is_says_its_content_and_not_its_name(tmp_path: Path, pixels: Pixels) -> None:
    """Versions of OpenCV differ in what else they decode, and of a GIF some give the first frame."""
    path = tmp_path / "image.png"
    path.write_bytes(encoded(".jpg", pixels))
    assert decode_picture(path).pixels.shape == (40, 60, 3)
    for start in (b"GIF89a", b"\0\0\0\x20ftypavif", b"\0\0\0\x0cjP  \r\n\x87\n", b"#?RADIANCE\n", b"v/1\x01"):
        path.write_bytes(start + b"\0" * 50)
        with pytest.raises(
            PictureError, match=r"by its content it is no JPEG, PNG, TIFF, WebP, BMP, PGM or PPM"
        ):
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
    assert count_images(encoded(".tif", pixels)) == 1
    assert count_images(turned_tiff(pixels, 1, copy=True)) == 1


def app1(content: bytes) -> bytes:
    return b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content


def test_both_images_of_a_stereo_camera_count(tmp_path: Path, pixels: Pixels) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no MPO to read")
    path = tmp_path / "both.jpg"
    left, right, preview = (image.fromarray(one) for one in (pixels, pixels[::-1].copy(), pixels[::2, ::2]))
    left.save(path, "MPO", save_all=True, append_images=[right])
    with pytest.raises(PictureError, match=r"both\.jpg holds 2 images"):
        decode_picture(path)
    left.save(path, "MPO", save_all=True, append_images=[preview])
    assert decode_picture(path).pixels.shape == (40, 60, 3)


@pytest.mark.parametrize("between", [b"", b"\0\0", b"\r\n", b"\xff\xff"])
def test_a_recording_of_jpegs_is_not_its_first(tmp_path: Path, pixels: Pixels, between: bytes) -> None:
    path = tmp_path / "camera.jpg"
    one, two, small = encoded(".jpg", pixels), encoded(".jpg", pixels[::-1]), encoded(".jpg", pixels[:20])
    for data, images in (
        (one, 1),
        (one + between + two, 2),
        (one + between + two + between + one, 3),
        (one + between + small, 1),
        (one + between + two[:90], 1),
        (one + between + two[:2] + app1(b"http://ns.adobe.com/hdr-gain-map/1.0/") + two[2:], 1),
    ):
        assert count_images(data) == images
        path.write_bytes(data)
        if images == 1:
            assert decode_picture(path).pixels.shape == (40, 60, 3)
        else:
            with pytest.raises(PictureError, match=rf"holds {images} images"):
                decode_picture(path)


def test_files_that_were_joined_are_counted(tmp_path: Path, pixels: Pixels) -> None:
    path = tmp_path / "joined.pgm"
    one, two = encoded(".pgm", pixels[..., 0]), encoded(".ppm", pixels.astype(np.uint16))
    for data, images in ((one, 1), (one + b"\n", 1), (one + two, 2), (two + one + one, 3)):
        assert count_images(data) == images
    path.write_bytes(one + two)
    with pytest.raises(PictureError, match=r"joined\.pgm holds 2 images"):
        decode_picture(path)


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
    "start",
    [
        b"II*\0",
        b"MM\0*",
        b"II+\0\x08\0\0\0",
        b"P5 1 1 9 ",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBP",
        b"\xff\xd8",
    ],
)
def test_any_bytes_have_an_answer(start: bytes) -> None:
    random = np.random.default_rng(3)
    for _ in range(300):
        data = start + random.integers(0, 256, random.integers(0, 200), dtype=np.uint8).tobytes()
        assert count_images(data) >= 1
        assert lacks_end(data) in (True, False)
        assert as_stored(data)[:4] == data[:4]


def test_names_are_escaped_and_texts_stay_in_one_line() -> None:
    assert printable("good/päß 1.png") == "good/päß 1.png"
    assert printable("a\nb\x1b[2J\udcff.png") == r"a\nb\x1b[2J\xff.png"
    assert one_line("first\n  second\x1b") == r"first second\x1b"
