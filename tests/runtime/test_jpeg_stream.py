"""JPEG images found in what cameras send: every one whole, wherever reads end, and nothing without bounds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.jpeg_stream import JpegImage, jpeg_images

Dialect = Callable[[Sequence[bytes]], bytes]


def scene(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(seed: int, *settings: int) -> bytes:
    done, data = cv2.imencode(".jpg", scene(seed), [cv2.IMWRITE_JPEG_QUALITY, 90, *settings])
    assert done
    return data.tobytes()


def with_thumbnail(seed: int) -> bytes:
    """With a whole JPEG, its end-of-image included, inside of APP1, as cameras write EXIF."""
    data, inner = plain(seed), plain(seed + 1)
    body = b"Exif\0\0" + inner
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def by_pillow(seed: int) -> bytes:
    """Progressive: several scans, tables between them."""
    file = io.BytesIO()
    Image.fromarray(scene(seed)).save(
        file, "JPEG", progressive=True, quality=85, comment=b"\xff\xd9\xff\xd8\xff"
    )
    return file.getvalue()


IMAGES = [
    plain(0), plain(1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1), with_thumbnail(2), by_pillow(3),
    plain(4, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), plain(5),
]  # fmt: skip


def head(length: int | None = None, end: bytes = b"\r\n") -> bytes:
    lines = [b"Content-Type: image/jpeg", *([] if length is None else [b"CONTENT-LENGTH: %d" % length])]
    return end.join([*lines, b"", b""])


MARK = b"--b0undary"


def parts(images: Sequence[bytes], length: Callable[[int], int | None], end: bytes = b"\r\n") -> bytes:
    return b"".join(MARK + b"\r\n" + head(length(len(data))) + data + end for data in images)


DIALECTS: dict[str, Dialect] = {
    "as it should be": lambda all: parts(all, int),
    "no length": lambda all: parts(all, lambda _: None) + MARK + b"--\r\n",
    "no first boundary": lambda all: b"".join(head(len(j)) + j + b"\r\n" + MARK + b"\r\n" for j in all),
    "another each time": lambda all: b"".join(b"--%08d\r\n" % n + head() + j for n, j in enumerate(all)),
    "no line end": lambda all: parts(all, lambda _: None, b""),
    "line feeds": lambda all: b"".join(MARK + b"\n" + head(None, b"\n") + j + b"\n" for j in all),
    "too long": lambda all: parts(all, lambda length: length + 2),
    "too short": lambda all: parts(all, lambda length: length // 2),
    "no bytes": lambda all: parts(all, lambda _: 0),
    "huge": lambda all: parts(all, lambda _: 10**30),
    "padded": lambda all: parts(all, lambda _: None, b"\xff" * 6 + b"\0" * 50 + b"\r\n"),
    "a short boundary": lambda all: parts(all, int).replace(MARK, b"--b"),
    "bare images": b"".join,
    "padded bare images": lambda all: b"".join(j + b"\xff\0" * 10 for j in all),
}


def reader(data: bytes, sizes: Iterator[int]) -> Callable[[], bytes]:
    """Reads of so many bytes."""
    at = 0

    def read() -> bytes:
        nonlocal at
        got = data[at : at + next(sizes)]
        at += len(got)
        return got

    return read


def of(size: int) -> Iterator[int]:
    while True:
        yield size


def found(data: bytes, size: int = 4096, most_bytes: int = 2**20) -> list[JpegImage | None]:
    return list(jpeg_images("camera", reader(data, of(size)), MARK, most_bytes))


@pytest.mark.parametrize("size", [1, 7, 65536])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_image_of_every_dialect(dialect: str, size: int) -> None:
    images = found(DIALECTS[dialect](IMAGES), size)
    assert [image and image.data for image in images] == IMAGES
    assert {(image.width, image.height) for image in images if image} == {(32, 24)}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(DIALECTS)), st.lists(st.integers(1, 600), min_size=1, max_size=40))
def test_reads_end_anywhere(dialect: str, sizes: list[int]) -> None:
    data = DIALECTS[dialect](IMAGES)

    def repeated() -> Iterator[int]:
        while True:
            yield from sizes

    assert [image and image.data for image in jpeg_images("camera", reader(data, repeated()))] == IMAGES


@pytest.mark.parametrize("dialect", ["as it should be", "no length", "line feeds", "too long", "bare images"])
def test_an_image_is_given_with_its_last_byte(dialect: str) -> None:
    data = DIALECTS[dialect](IMAGES[:2])
    end = data.index(IMAGES[0]) + len(IMAGES[0])
    given: list[bytes] = [data[:end]]

    def read() -> bytes:
        assert given, "nothing more is waited for"
        return given.pop()

    first = next(jpeg_images("camera", read))
    assert first is not None
    assert first.data == IMAGES[0]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["as it should be", "no length", "no first boundary", "line feeds", "too long"]),
    st.integers(0, len(IMAGES) - 1),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_an_image_that_is_cut_off_is_counted_and_no_other_is_touched(
    dialect: str, which: int, share: float
) -> None:
    cut = list(IMAGES)
    cut[which] = cut[which][: max(3, int(len(cut[which]) * share))]
    images = found(DIALECTS[dialect](cut))
    assert [image.data for image in images if image] == IMAGES[:which] + IMAGES[which + 1 :]
    assert images.count(None) >= 1


def test_a_preview_behind_an_image_in_its_part_is_left_out() -> None:
    small = cv2.imencode(".jpg", scene(9, 8, 8))[1].tobytes()
    data = parts([image + small for image in IMAGES], int)
    assert [image and image.data for image in found(data)] == IMAGES


def test_two_sizes_in_one_image_are_damage() -> None:
    at = IMAGES[0].index(b"\xff\xc0")
    length = 2 + int.from_bytes(IMAGES[0][at + 2 : at + 4], "big")
    frame = bytearray(IMAGES[0][at : at + length])
    frame[5:9] = b"\xff\xff\xff\xff"
    assert found(IMAGES[0][:at] + bytes(frame) + IMAGES[0][at:]) == [None]


def test_bounds() -> None:
    endless = IMAGES[0][:-2] + b"\x55" * 3000
    with pytest.raises(SourceError, match="camera sends an image of more than 2000 bytes"):
        found(endless, 100, most_bytes=2000)
    with pytest.raises(SourceError, match="camera sends no JPEG images"):
        list(jpeg_images("camera", lambda: b"<html>" * 1000))
    segments = b"\xff\xd8" + b"\xff\xe0\xff\xff" * 2 + b"\xff" * 200_000
    with pytest.raises(SourceError, match="of more than 100000 bytes"):
        found(segments, 4096, most_bytes=100_000)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda\0\x08", b"\xff\xe1\0\0"]),
            st.sampled_from([MARK + b"\r\n", IMAGES[0]]),
        ),
        max_size=30,
    ),
    st.integers(1, 500),
)  # fmt: skip
def test_whatever_comes_ends(pieces: list[bytes], size: int) -> None:
    data = b"".join(pieces)
    for image in found(data, size):
        assert image is None or (
            image.data in data and image.data[:2] + image.data[-2:] == b"\xff\xd8\xff\xd9"
        )
