"""Cameras as sources: the same colours by whatever way a stream comes, and ends that are said."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from definitions.fake_camera import FakeCamera, noisy_scene
from sspcab_edge.errors import EdgeError, SourceError
from sspcab_runtime.sources import open_source
from sspcab_runtime.sources.camera_address import camera_address
from sspcab_runtime.sources.colour import Colour, Converter
from sspcab_runtime.sources.gst import read_caps
from sspcab_runtime.sources.live import open_stream
from sspcab_runtime.sources.streams import StreamOptions

av = pytest.importorskip("av", reason="PyAV is not installed: no cameras")

Pixels = npt.NDArray[np.uint8]
_MATRICES = {"bt601": 5, "bt709": 1}
_RANGES = {"limited": 1, "full": 2}
_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def patches(height: int, width: int) -> Pixels:
    """A colourful picture of large patches, which survives subsampling."""
    rng = np.random.default_rng(8)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.repeat(np.repeat(small, height // 6, 0), width // 8, 1)


def to_yuv(rgb: Pixels, matrix: str, extent: str) -> tuple[Pixels, Pixels, Pixels]:
    """Y'CbCr 4:2:0 from the definition (ITU-R BT.601, BT.709)."""
    red_weight, blue_weight = _WEIGHTS[matrix]
    red, green, blue = (rgb[..., channel].astype(np.float64) / 255 for channel in range(3))
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma_b, chroma_r = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    scale, offset, chroma = (219, 16, 224) if extent == "limited" else (255, 0, 255)
    planes = (luma * scale + offset, chroma_b[::2, ::2] * chroma + 128, chroma_r[::2, ::2] * chroma + 128)
    y, u, v = (np.clip(np.round(plane), 0, 255).astype(np.uint8) for plane in planes)
    return y, u, v


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a lossless H.264 clip of the patches, with colour tags or without."""

    def write(matrix: str, extent: str, *, tagged: bool, height: int = 240, width: int = 320) -> Path:
        path = tmp_path / f"{matrix}-{extent}-{tagged}-{height}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            if tagged:
                stream.codec_context.colorspace = _MATRICES[matrix]
                stream.codec_context.color_range = _RANGES[extent]
                stream.codec_context.color_primaries = 1 if matrix == "bt709" else 6
                stream.codec_context.color_trc = 1 if matrix == "bt709" else 6
            planes = to_yuv(patches(height, width), matrix, extent)
            for _ in range(30):
                frame = av.VideoFrame(width, height, "yuv420p")
                for plane, values in zip(frame.planes, planes, strict=True):
                    row = np.zeros((plane.height, plane.line_size), np.uint8)
                    row[:, : plane.width] = values
                    plane.update(row.tobytes())
                if tagged:
                    frame.colorspace, frame.color_range = _MATRICES[matrix], _RANGES[extent]
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


def first(source: str, **options: Any) -> tuple[Pixels, Colour]:
    """The first frame of a stream, and what its colours are taken for."""
    stream = open_stream(camera_address(source), StreamOptions(**options))
    try:
        converter = Converter(av, options.get("assumed", "auto"))
        converter.colour = stream.colour
        pixels = converter.rgb(next(iter(stream)))
        assert converter.colour is not None
        return pixels, converter.colour
    finally:
        stream.close()


def inside(pixels: Pixels) -> Pixels:
    """The middles of the patches, where chroma subsampling changes nothing."""
    height, width = pixels.shape[0] // 6, pixels.shape[1] // 8
    return pixels[height // 2 :: height, width // 2 :: width]


@pytest.mark.parametrize("extent", ["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_colours_by_ffmpeg_and_gstreamer(clip: Callable[..., Path], matrix: str, extent: str) -> None:
    path = clip(matrix, extent, tagged=True)
    by_ffmpeg, colour = first(str(path))
    assert matrix in colour.words
    assert extent in colour.words
    wanted = inside(patches(240, 320)).astype(int)
    assert np.abs(inside(by_ffmpeg).astype(int) - wanted).max() <= 3
    again, _ = first(str(path))
    assert np.array_equal(by_ffmpeg, again), "a reconnect changes nothing"
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 is not installed: GStreamer's colours are not compared")
    try:
        by_gst, _ = first(f"gst:filesrc location={path} ! matroskademux ! h264parse ! avdec_h264", open_s=10)
    except SourceError as error:
        if "avdec_h264" in str(error) or "no element" in str(error):
            pytest.skip("gstreamer1.0-libav is not installed: GStreamer's colours are not compared")
        raise
    worst = int(np.abs(by_gst.astype(int) - by_ffmpeg.astype(int)).max())
    print(f"{matrix} {extent}: GStreamer and FFmpeg differ by {worst} levels at most")
    assert worst == 0


@pytest.mark.parametrize(("height", "width", "expected"), [(240, 320, "bt601"), (720, 960, "bt709")])
def test_what_is_assumed(clip: Callable[..., Path], height: int, width: int, expected: str) -> None:
    path = clip(expected, "limited", tagged=False, height=height, width=width)
    pixels, colour = first(str(path))
    assert colour.words == f"{expected} limited (assumed: the stream states nothing)"
    assert np.abs(inside(pixels).astype(int) - inside(patches(height, width)).astype(int)).max() <= 3
    other, forced = first(str(path), assumed="bt601-full")
    assert forced.words.startswith("bt601 full")
    assert not np.array_equal(pixels, other)


def test_caps_that_gstreamer_prints() -> None:
    caps = "width=(int)640, height=(int)480, colorimetry=(string)1:3:5:1, framerate=(fraction)30/1"
    line = f"/GstPipeline:pipeline0/GstIdentity:sspcab.GstPad:src: caps = video/x-raw, {caps}\n"
    found = read_caps(line)
    assert found is not None
    assert found[:3] == (640, 480, 30.0)
    assert found[3].words == "bt709 full (by GStreamer)"
    assert read_caps("nothing of the kind") is None


def test_a_test_pattern_by_gstreamer() -> None:
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 is not installed")
    stream = open_stream(
        camera_address("gst:videotestsrc num-buffers=5 ! video/x-raw,width=322,height=241"), StreamOptions()
    )
    reading = iter(stream)
    frames = [next(reading) for _ in range(5)]
    with pytest.raises(SourceError, match="ended"):
        next(reading)
    stream.close()
    assert (frames[0].width, frames[0].height) == (322, 241)
    with pytest.raises(SourceError, match="does not start"):
        open_stream(camera_address("gst:nosuchelement"), StreamOptions())
    with pytest.raises(SourceError, match="allowed 1000"):
        open_stream(camera_address("gst:videotestsrc"), StreamOptions(max_pixels=1000))


def test_a_mjpeg_camera() -> None:
    scene = noisy_scene(96, 128)
    camera = FakeCamera(scene)
    try:
        stream = open_stream(
            camera_address(camera.uri), StreamOptions(user="me", password="it", read_s=1.0, open_s=1.0)
        )
        converter = Converter(av)
        pixels = converter.rgb(next(iter(stream)))
        assert camera.authorization is None, "no login is sent unasked"
        assert np.abs(pixels.astype(int) - scene(1)).mean() < 6
        camera.mode = "freeze"
        begin = time.monotonic()
        with pytest.raises(SourceError, match="no whole image"):
            list(stream)
        assert time.monotonic() - begin < 3
        stream.close()
        camera.mode = "fine"
        source = open_source(camera.uri)
        assert next(source).pixels.shape == (96, 128, 3)
        source.close()
    finally:
        camera.kill()


def test_nobody_there() -> None:
    for uri in ("http://127.0.0.1:9/x", "rtsp://127.0.0.1:9/x", "v4l2:///dev/video97"):
        with pytest.raises(EdgeError) as caught:
            open_source(uri)
        assert "\n" not in str(caught.value)


def test_a_pipeline_with_a_login_is_no_words_of_a_command() -> None:
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("gst-launch-1.0 is not installed")
    frames = []
    for name in ("plain", "token=Zx9geheim"):
        pattern = f"gst:videotestsrc num-buffers=3 name={name} ! video/x-raw,width=322,height=240"
        stream = open_stream(camera_address(pattern), StreamOptions())
        reading = iter(stream)
        frames.append(np.stack([next(reading).to_ndarray() for _ in range(3)]))
        with pytest.raises(SourceError, match="ended") as caught:
            next(reading)
        assert "geheim" not in str(caught.value)
        stream.close()
    assert np.array_equal(frames[0], frames[1])
    for broken in ("videotestsrc user-pw=Zx9geheim", "rtspsrc location=rtsp://a:Zx9geheim@127.0.0.1:9/x"):
        with pytest.raises(SourceError, match=r"does not start: .*(no property|link|open)") as caught:
            open_stream(camera_address(f"gst:{broken} ! decodebin"), StreamOptions())
        assert "geheim" not in str(caught.value)


def test_a_film_beside_a_camera_is_let_go_of(clip: Callable[..., Path]) -> None:
    """With messages of FFmpeg sent to Python, its threads want Python's lock while closing waits for them."""
    camera = FakeCamera(noisy_scene(96, 128))
    path = clip("bt601", "limited", tagged=True)
    try:
        for opened in (camera.uri, str(path), str(path)):
            stream = open_stream(camera_address(opened), StreamOptions(open_s=2.0))
            next(iter(stream))
            stream.close()
    finally:
        camera.kill()
