"""Pictures and videos as sources: order, conversions, and what is wrong with bad ones."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.datasets import read_dataset
from sspcab_edge.errors import EdgeError, MissingPackageError, OptionError, PictureError, SourceError
from sspcab_edge.protocols import Frame, Source
from sspcab_runtime.fit import fit
from sspcab_runtime.sources import SOURCES, open_source

Pixels = npt.NDArray[np.uint8]
Save = Callable[[str, npt.NDArray[np.generic]], Path]

BT601, BT709, SMPTE170M, UNSPECIFIED = 5, 1, 6, 2
LIMITED, FULL = 1, 2


def read_all(uri: object) -> list[Frame]:
    with closing(open_source(str(uri))) as source:
        return list(source)


# Pictures


def test_a_folder_gives_its_pictures_in_order(folder: Path) -> None:
    with closing(open_source(str(folder))) as source:
        assert source.count == 12
        assert source.uri == str(folder)
        got = list(source)
    assert [frame.index for frame in got] == list(range(12))
    paths = [str(frame.path) for frame in got]
    assert paths == sorted(paths)
    assert paths[0].endswith("early/000.png")
    for frame in got:
        expected = cv2.imread(str(frame.path))
        assert expected is not None
        assert np.array_equal(frame.pixels, expected[..., ::-1]), "RGB, unchanged"
        assert frame.source == str(folder)
        assert frame.converted is None
    assert all(a.monotonic_s <= b.monotonic_s for a, b in itertools.pairwise(got))


@pytest.mark.parametrize("form", ["{0}", "file://{0}", "FILE://{0}", "file://localhost{0}", "images://{0}"])
def test_every_way_to_name_a_folder(folder: Path, form: str) -> None:
    assert len(read_all(form.format(folder))) == 12


def test_a_single_picture_and_percent_encoding(folder: Path, save: Save, frames: Pixels) -> None:
    path = save("with space/a b%.png", frames[0][..., ::-1])
    assert len(read_all(path)) == 1
    encoded = str(path).replace("%", "%25").replace(" ", "%20")
    assert np.array_equal(read_all(f"file://{encoded}")[0].pixels, frames[0])


def test_conversions_are_told(save: Save, rng: np.random.Generator) -> None:
    deep = rng.integers(0, 2**16, (9, 7, 3), dtype=np.uint16)
    alpha = rng.integers(0, 256, (9, 7, 4), dtype=np.uint8)
    grey = rng.integers(0, 256, (9, 7), dtype=np.uint8)
    for name, pixels, converted, expected in (
        ("deep.png", deep, "16-bit to 8-bit", (deep >> 8)[..., ::-1]),
        ("alpha.png", alpha, "alpha dropped", alpha[..., 2::-1]),
        ("grey.png", grey, "grey to RGB", np.repeat(grey[..., None], 3, 2)),
        ("deep_grey.png", deep[..., 0], "16-bit to 8-bit, grey to RGB", np.repeat(deep[..., :1] >> 8, 3, 2)),
    ):
        (frame,) = read_all(save(name, pixels))
        assert frame.converted == converted, name
        assert frame.pixels.dtype == np.uint8
        assert np.array_equal(frame.pixels, expected), name


def test_a_bad_picture_does_not_stop_the_others(folder: Path) -> None:
    bad = folder / "early" / "002.png"
    bad.write_bytes(bad.read_bytes()[:40])
    got: list[int] = []
    errors: list[PictureError] = []
    with closing(open_source(str(folder))) as source:
        while True:
            try:
                got.append(next(source).index)
            except PictureError as error:
                errors.append(error)
            except StopIteration:
                break
    assert got == [0, *range(2, 12)], "the bad one has its index too"
    assert [error.path for error in errors] == [str(bad)]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, with right checksums and an end."""
    import struct
    import zlib

    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = zlib.compress(b"\0" * 100)
    idat = b"IDAT" + data
    return (
        b"\x89PNG\r\n\x1a\n"
        + body
        + struct.pack(">I", len(data))
        + idat
        + struct.pack(">I", zlib.crc32(idat))
        + struct.pack(">I", 0)
        + b"IEND"
        + struct.pack(">I", zlib.crc32(b"IEND"))
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, expected a picture"),
        (b"no picture at all", "cannot be decoded"),
        (png_header(0, 0), "cannot be decoded"),
        (png_header(20000, 20000), "cannot be decoded: .* larger than 100000000 pixels"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "ends before its image does, it is half written: copy it again"),
    ],
    ids=["empty", "text", "0x0", "20000x20000", "jpeg"],
)
def test_pictures_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with closing(open_source(str(path))) as source, pytest.raises(PictureError, match=message):
        next(source)


@pytest.mark.parametrize(
    ("uri", "kind", "message"),
    [
        ("ftp://camera/1", SourceError, "expected a path, or one of file://, images://, rtsp://"),
        ("/nowhere/at/all", SourceError, "/nowhere/at/all does not exist, expected a picture, a folder"),
        ("file://host/x.png", OptionError, "names the host 'host': write file:///absolute/path"),
        ("/dev/null", SourceError, "is neither a file nor a folder"),
        ("images:///nowhere", PictureError, "/nowhere is not a folder of images"),
    ],
)  # fmt: skip
def test_uris_that_name_nothing(uri: str, kind: type[EdgeError], message: str) -> None:
    with pytest.raises(kind, match=message):
        open_source(uri)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="holds no images"):
        open_source(str(tmp_path))


def test_homes_and_escapes_are_read_in_one_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder.rename(tmp_path / "our images 100%25")
    named = (
        "~/our images 100%25",
        "images://~/our%20images%20100%2525",
        f"file://{tmp_path}/our images 100%2525",
    )
    for uri in named:
        assert len(read_all(uri)) == 12
        assert fit(bundle_path, uri, threshold=0.5).manifest.decision.normal is not None
        with pytest.raises(PictureError, match="our images 100%25 does not have the layout mvtec"):
            read_dataset(uri, "mvtec")


def test_what_else_lies_in_a_folder_of_images_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(read_all(folder)) == 12
    assert caplog.text == ""
    for name in ("a.heic", "early/b.mp4"):
        (folder / name).touch()
    assert len(read_all(f"images://{folder}")) == 12
    assert f"{folder}: images of other kinds and videos left out: 1 .heic, 1 .mp4" in caplog.text


@pytest.mark.parametrize("name", ["image", "image.jfif", "image.jpg_large", "image.1"])
@pytest.mark.parametrize("kind", [".png", ".jpg", ".tif"])
def test_an_image_is_one_whatever_its_name_says(folder: Path, tmp_path: Path, name: str, kind: str) -> None:
    """As a video it would have other colours, and would lie as it is stored."""
    pixels = cv2.imread(str(next(folder.rglob("*.png"))))
    assert pixels is not None
    assert cv2.imwrite(str(tmp_path / f"image{kind}"), pixels)
    wanted = read_all(tmp_path / f"image{kind}")[0].pixels
    (tmp_path / f"image{kind}").rename(tmp_path / name)
    (frame,) = read_all(tmp_path / name)
    assert frame.path == str(tmp_path / name)
    assert np.array_equal(frame.pixels, wanted)


@pytest.mark.parametrize(
    ("name", "head"), [("a.heic", b""), ("a.AVIF", b""), ("a.dng", b"II*\0"), ("a", b"\0\0\0\x1cftypheic")]
)
def test_still_images_are_not_taken_for_videos(tmp_path: Path, name: str, head: bytes) -> None:
    (tmp_path / name).write_bytes(head + bytes(90))
    with pytest.raises(SourceError, match="is an image of a kind that is not read: save it as PNG, TIFF or"):
        open_source(str(tmp_path / name))


def test_every_frame_of_a_gif_and_of_motion_jpeg_is_judged(folder: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: no GIF to read")
    images = [image.open(path).convert("RGB") for path in sorted(folder.rglob("*.png"))[:3]]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=40)
    assert len(read_all(tmp_path / "a.gif")) == 3
    jpegs = b"".join(bytes(cv2.imencode(".jpg", np.asarray(one))[1]) for one in images)
    (tmp_path / "a.mjpeg").write_bytes(jpegs)
    assert len(read_all(tmp_path / "a.mjpeg")) == 3
    (tmp_path / "recording").write_bytes(jpegs)
    with pytest.raises(PictureError, match=r"recording holds 3 images .* none of them is judged"):
        read_all(tmp_path / "recording")


def test_names_that_cannot_be_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"xxx\.png cannot be read: File name too long"):
        open_source(f"{tmp_path}/{'x' * 300}.png")


def test_every_scheme_of_the_table_opens(folder: Path) -> None:
    for scheme in ("file", "images"):
        assert scheme in SOURCES
        assert len(read_all(f"{scheme}://{folder}")) == 12


# Videos


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Write Y'CbCr frames, one triple of numbers per frame, as a lossless video with colour tags."""
    av = pytest.importorskip("av", reason="av is not installed: no videos")

    def write(
        name: str,
        colours: list[tuple[int, int, int]],
        *,
        size: tuple[int, int] = (64, 48),
        codec: str = "ffv1",
        matrix: int = UNSPECIFIED,
        range_: int = 0,
        options: dict[str, str] | None = None,
        ramp: bool = False,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            if codec == "libx264":
                stream.options = {"qp": "0", "x264-params": "log-level=none"}
            context = stream.codec_context
            context.colorspace, context.color_range = matrix, range_
            for number, triple in enumerate(colours):
                frame = av.VideoFrame(*size, "yuv420p")
                for plane, value in zip(frame.planes, triple, strict=True):
                    plane.update(bytes([value]) * plane.buffer_size)
                if ramp:
                    row = np.linspace(20, 220, frame.planes[0].line_size).astype(np.uint8)
                    frame.planes[0].update(np.tile(row, (frame.planes[0].height, 1)).tobytes())
                frame.pts = number
                frame.colorspace, frame.color_range = matrix, range_
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


def rgb_of(colour: tuple[int, int, int], matrix: int, range_: int) -> npt.NDArray[np.float64]:
    """The definition (ITU-R BT.601 and BT.709), in floating point."""
    red, blue = (0.2126, 0.0722) if matrix == BT709 else (0.299, 0.114)
    offset, luma_span, chroma_span = (0, 255, 255) if range_ == FULL else (16, 219, 224)
    y = (colour[0] - offset) / luma_span
    cb, cr = ((value - 128) / chroma_span for value in colour[1:])
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.asarray(np.clip(np.array([r, g, b]), 0, 1) * 255, dtype=np.float64)


COLOURS = [(120, 100, 180), (60, 150, 110), (200, 128, 128), (235, 128, 128), (16, 128, 128), (90, 90, 90)]


@pytest.mark.parametrize(
    ("size", "matrix", "range_", "seen_matrix", "seen_range"),
    [
        ((64, 48), BT709, LIMITED, BT709, LIMITED),
        ((64, 48), BT709, FULL, BT709, FULL),
        ((64, 48), SMPTE170M, LIMITED, BT601, LIMITED),
        ((64, 48), BT601, FULL, BT601, FULL),
        ((64, 48), UNSPECIFIED, 0, BT601, LIMITED),
        ((64, 720), UNSPECIFIED, 0, BT709, LIMITED),
        ((64, 718), UNSPECIFIED, 0, BT601, LIMITED),
    ],
)
def test_colours_of_a_video_are_those_of_the_definition(
    film: Callable[..., Path],
    size: tuple[int, int],
    matrix: int,
    range_: int,
    seen_matrix: int,
    seen_range: int,
) -> None:
    got = read_all(film("colour.mkv", COLOURS, size=size, matrix=matrix, range_=range_))
    assert len(got) == len(COLOURS)
    for frame, colour in zip(got, COLOURS, strict=True):
        assert frame.pixels.shape == (size[1], size[0], 3)
        expected = rgb_of(colour, seen_matrix, seen_range)
        assert np.abs(frame.pixels - expected).max() <= 1, (colour, frame.pixels[0, 0], expected)
        assert (frame.pixels == frame.pixels[0, 0]).all()


def test_the_order_of_a_videos_frames(film: Callable[..., Path]) -> None:
    shades = [(30 + 5 * i, 128, 128) for i in range(40)]
    path = film("order.mp4", shades, codec="libx264")
    with closing(open_source(str(path))) as source:
        assert source.count == 40
        got = list(source)
    brightness = [int(frame.pixels.mean()) for frame in got]
    assert brightness == sorted(brightness)
    assert len(set(brightness)) == 40
    assert [frame.index for frame in got] == list(range(40))
    assert {frame.path for frame in got} == {None}


def read_whole_frames(source: Source) -> None:
    """Of a film that is cut through one; to its end."""
    ended = False
    while not ended:
        with suppress(PictureError):
            ended = next(source, None) is None


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("start.mp4", "libx264", {"movflags": "faststart"}),
        ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("x.mkv", "libx264", {}),
        ("x.avi", "mpeg4", {}),
        ("x.webm", "libvpx", {}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_video_that_was_cut_off_says_so(
    film: Callable[..., Path], name: str, codec: str, options: dict[str, str], share: float
) -> None:
    rng = np.random.default_rng(3)
    shades = [tuple(int(v) for v in rng.integers(20, 230, 3)) for _ in range(60)]
    path = film(name, shades, codec=codec, options=options)
    assert len(read_all(path)) == 60, "whole, it is fine"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with closing(open_source(str(path))) as source, pytest.raises(SourceError, match=r"cut off|damaged"):
        read_whole_frames(source)


def test_a_video_cut_off_between_two_frames(film: Callable[..., Path]) -> None:
    """No packet is half there; only the file's index knows that more were promised."""
    av = pytest.importorskip("av", reason="av is not installed: no videos")
    path = film("start.mp4", COLOURS * 5, codec="libx264", options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        middle = container.streams.video[0].index_entries[15]
        assert 0 < middle.pos < path.stat().st_size
    path.write_bytes(path.read_bytes()[: middle.pos])
    with closing(open_source(str(path))) as source, pytest.raises(SourceError, match=r"after \d+ frames"):
        for _ in source:
            pass


@pytest.mark.parametrize("content", [b"", b"just some text\n" * 50, bytes(range(256)) * 40])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("av", reason="av is not installed: no videos")
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"x.mp4 cannot be opened as a video"):
        open_source(str(path))


def test_an_mp4_without_its_index(film: Callable[..., Path]) -> None:
    path = film("end.mp4", COLOURS * 10, codec="libx264")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SourceError, match="cannot be opened as a video"):
        open_source(str(path))


def test_a_file_with_sound_only(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="av is not installed: no videos")
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = np.zeros((1, 4096), dtype=np.int16)
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(SourceError, match="holds no video stream"):
        open_source(str(path))


def test_a_playlist_opens_no_connection(tmp_path: Path) -> None:
    """FFmpeg would follow it: the runtime has no network of its own."""
    import socket

    pytest.importorskip("av", reason="av is not installed: no videos")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.3)
        path = tmp_path / "list.m3u8"
        port = listener.getsockname()[1]
        path.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(SourceError):
            read_all(path)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_videos_rotation_is_applied(film: Callable[..., Path]) -> None:
    """A quarter turn clockwise in the track header, as phones write it: x goes down, y to the left."""
    path = film("turned.mp4", [(50, 128, 128)] * 3, codec="libx264", ramp=True)
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd")
    matrix = header + 4 + 4 + 20 + 16
    assert data[matrix : matrix + 4] == b"\0\1\0\0", "version 0: flags, times and layer before the matrix"
    one, minus_one, zero = b"\0\1\0\0", b"\xff\xff\0\0", bytes(4)
    data[matrix : matrix + 20] = zero + one + zero + minus_one + zero
    path.write_bytes(bytes(data))
    got = read_all(path)
    assert [frame.pixels.shape for frame in got] == [(64, 48, 3)] * 3
    down = got[0].pixels.mean(axis=(1, 2))
    assert (np.diff(down) >= 0).all(), "dark on the left has become dark on top"
    assert down[-1] > down[0] + 100
    assert np.ptp(got[0].pixels.mean(axis=(0, 2))) < 2


def test_without_av_a_video_asks_for_it(film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = film("x.mkv", COLOURS)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"av is not installed, .*pip install 'av>=17.1'"):
        open_source(str(path))


def test_an_av_that_ignores_the_colour_range_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV 15.1 and 16.1 take src_color_range and convert full range as limited: seven levels off."""
    old: Any = types.ModuleType("av")
    old.__version__ = "16.1.0"
    monkeypatch.setitem(sys.modules, "av", old)
    path = tmp_path / "x.mkv"
    path.write_bytes(b"x")
    with pytest.raises(MissingPackageError, match="av 17 or newer is not installed"):
        open_source(str(path))
