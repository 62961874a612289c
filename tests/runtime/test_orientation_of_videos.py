"""Films that say how they are to be shown: run, daemon and export see them upright."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

av = pytest.importorskip("av", reason="av is not installed: no videos")

from definitions.films import interlaced_film, walk, write_film  # noqa: E402
from definitions.turned_images import seen, turned_jpeg  # noqa: E402
from sspcab_export.footage import find_footage  # noqa: E402
from sspcab_export.progress import Silent  # noqa: E402
from sspcab_runtime.sources import open_source  # noqa: E402
from sspcab_runtime.sources.camera_address import camera_address  # noqa: E402
from sspcab_runtime.sources.colour import Converter  # noqa: E402
from sspcab_runtime.sources.live import open_stream  # noqa: E402
from sspcab_runtime.sources.streams import StreamOptions  # noqa: E402

Pixels = npt.NDArray[np.uint8]

ONE, MINUS = 1 << 16, -(1 << 16)
MATRICES: dict[str, tuple[tuple[int, int, int, int], Callable[[Pixels], Pixels]]] = {
    "as it is": ((ONE, 0, 0, ONE), lambda upright: upright),
    "a quarter turn": ((0, ONE, MINUS, 0), lambda upright: np.rot90(upright)),
    "half a turn": ((MINUS, 0, 0, MINUS), lambda upright: np.rot90(upright, 2)),
    "three quarters": ((0, MINUS, ONE, 0), lambda upright: np.rot90(upright, 3)),
    "mirrored": ((MINUS, 0, 0, ONE), lambda upright: upright[:, ::-1]),
    "upside down": ((ONE, 0, 0, MINUS), lambda upright: upright[::-1]),
    "transposed": ((0, ONE, ONE, 0), lambda upright: upright.swapaxes(0, 1)),
    "transposed across": ((0, MINUS, MINUS, 0), lambda upright: np.rot90(upright.swapaxes(0, 1), 2)),
}
"""a, b, c, d of the matrix in the track header; and the stored pixels that they make upright."""


def film(path: Path, kind: str, frames: list[Pixels]) -> Path:
    """Without loss, stored as the matrix wants it."""
    matrix, stored = MATRICES[kind]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264rgb", rate=25)
        stream.height, stream.width = stored(frames[0]).shape[:2]
        stream.pix_fmt = "rgb24"
        stream.options = {"qp": "0", "preset": "ultrafast"}
        for pixels in frames:
            shown = np.ascontiguousarray(stored(pixels))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value.to_bytes(4, "big", signed=True) for value in matrix)
    data[place : place + 20] = a + b + bytes(4) + c + d
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("kind", MATRICES)
def test_every_reader_sees_it_upright(kind: str, tmp_path: Path) -> None:
    """To the bit: what ``sspcab-run`` and the export read, and what the daemon's camera does."""
    frames = walk(3, size=(48, 64), walkers=1)
    path = film(tmp_path / "film.mp4", kind, frames)
    with closing(open_source(str(path))) as source:
        seen = [frame.pixels for frame in source]
    assert len(seen) == 3
    for pixels, expected in zip(seen, frames, strict=True):
        np.testing.assert_array_equal(pixels, expected)
    with closing(open_stream(camera_address(str(path)), StreamOptions())) as stream:
        converter = Converter(av)
        for expected, frame in zip(frames, stream, strict=False):
            assert converter.size(frame) == expected.shape[:2]
            out = np.zeros_like(expected)
            converter.rgb(frame, out)
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("lies", [1, 3, 6, 8])
def test_exif_in_motion_jpeg_is_honoured(lies: int) -> None:
    """PyAV cannot list what lies beside such frames."""
    pixels = walk(1, size=(48, 64))[0][..., ::-1]
    plain, turned = (av.CodecContext.create("mjpeg", "r") for _ in range(2))
    (stored,) = plain.decode(av.Packet(turned_jpeg(pixels, 1)))
    (frame,) = turned.decode(av.Packet(turned_jpeg(pixels, lies)))
    converter = Converter(av)
    expected = seen(converter.rgb(stored), lies)
    assert converter.size(frame) == expected.shape[:2]
    np.testing.assert_array_equal(converter.rgb(frame), expected)


def test_decoders_can_be_closed_at_any_time(tmp_path: Path) -> None:
    """A message of a thread of FFmpeg must not wait for whom waits for the thread."""
    path = tmp_path / "film.mp4"
    write_film(path, walk(5))
    program = (
        "import sys; from pathlib import Path\n"
        "from sspcab_runtime.sources.looped import LoopedFilm\n"
        "from sspcab_runtime.sources.streams import StreamOptions\n"
        "for _ in range(1000):\n"
        "    film = LoopedFilm(Path(sys.argv[1]), StreamOptions())\n"
        "    next(iter(film))\n"
        "    film.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_interlaced_video_is_named(tmp_path: Path) -> None:
    path = interlaced_film(tmp_path / "film.ts")
    with closing(open_source(str(path))) as source:
        assert {frame.converted for frame in source} == {
            "interlaced video, with both fields of a frame in it"
        }
    said: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    find_footage(path, Listening())
    assert said == ["4 frames of film.ts converted: interlaced video, with both fields of a frame in it"]
