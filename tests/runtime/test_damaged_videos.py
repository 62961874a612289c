"""Videos that a network or a disk damaged: every whole frame is given, and every other one is counted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

av = pytest.importorskip("av", reason="av is not installed: no videos")

from definitions.films import walk  # noqa: E402
from definitions.transport_streams import PACKET, VIDEO, decoded, lose, transport_stream  # noqa: E402
from sspcab_edge.errors import PictureError, SourceError  # noqa: E402
from sspcab_edge.protocols import Frame  # noqa: E402
from sspcab_runtime.sources import open_source  # noqa: E402
from sspcab_runtime.sources.access_units import FrameCounter, is_unused  # noqa: E402
from sspcab_runtime.sources.decoding import decode_frames  # noqa: E402
from sspcab_runtime.sources.film import Film  # noqa: E402
from sspcab_runtime.sources.libav import LibavStream  # noqa: E402
from sspcab_runtime.sources.streams import StreamOptions  # noqa: E402
from sspcab_runtime.sources.transport_stream import read_units  # noqa: E402

Pixels = npt.NDArray[np.uint8]
Command = Callable[..., subprocess.CompletedProcess[str]]
SIZE = (96, 128)

PLAIN = {"g": "12", "bf": "0", "crf": "12", "preset": "veryfast"}
SORTED = {"g": "12", "bf": "3", "crf": "12", "preset": "medium"}
CODINGS = {
    "frames in order": ("libx264", PLAIN),
    "frames made from later ones": ("libx264", SORTED),
    "several slices": ("libx264", {**PLAIN, "x264-params": "slices=4"}),
    "variable length codes": ("libx264", {**PLAIN, "preset": "ultrafast"}),
    "groups that reach back": ("libx264", {**SORTED, "x264-params": "open-gop=1"}),
    "MPEG-2": ("mpeg2video", {"g": "12", "bf": "2"}),
    "MPEG-4 part 2": ("mpeg4", {"g": "12", "bf": "2"}),
}


H265 = "H.265"


def read(path: Path) -> tuple[list[Frame], int]:
    """The whole frames of a film, and how many are damaged."""
    frames, damaged = [], 0
    with closing(open_source(str(path))) as source:
        while True:
            try:
                frames.append(next(source))
            except PictureError:
                damaged += 1
            except StopIteration:
                return frames, damaged


def same(pixels: Pixels, truth: dict[int, Pixels], time: int) -> bool:
    """Whether that frame is to the bit as it should be."""
    return time in truth and np.array_equal(pixels, truth[time])


@pytest.fixture(scope="module")
def coded() -> Callable[[str], tuple[bytes, dict[int, Pixels]]]:
    """A film by its coding, with its frames as they are without damage."""
    made: dict[str, tuple[bytes, dict[int, Pixels]]] = {}
    frames = walk(60, size=SIZE, walkers=3)

    def make(coding: str) -> tuple[bytes, dict[int, Pixels]]:
        if coding not in made:
            codec, options = CODINGS.get(coding, ("libx265", {"g": "12", "x265-params": "log-level=none"}))
            try:
                data = transport_stream(frames, options, codec)
            except (av.error.FFmpegError, ValueError) as error:
                pytest.skip(f"FFmpeg encodes no {coding} here: {error}")
            made[coding] = data, decoded(data)[0]
        return made[coding]

    return make


@pytest.mark.parametrize("coding", CODINGS)
def test_lost_packets(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], coding: str, tmp_path: Path
) -> None:
    """Whole is what is to the bit as without the loss. No other frame is given, and of H.264 hardly one less:
    by chance alone a frame is right though it was made from one that is not."""
    data, truth = coded(coding)
    whole = given = 0
    for seed in range(20):
        path = tmp_path / "lost.ts"
        path.write_bytes(lose(data, 0.02, seed))
        shown, seen = decoded(path.read_bytes())
        right = {time for time, pixels in shown.items() if same(pixels, truth, time)}
        with closing(Film(av, path)) as film:
            frames = list(film.frames())
        got = {frame.pts: frame.to_ndarray(format="gray") for frame in frames if frame is not None}
        wrong = [time for time, pixels in got.items() if not same(pixels, truth, time)]
        assert wrong == [], seed
        assert seen <= len(frames) <= len(truth), seed
        whole += len(right | set(got))
        given += len(got)
    assert whole < 20 * len(truth), "nothing was damaged: this test would show nothing"
    assert given >= (0.98 if CODINGS[coding][0] == "libx264" else 0.9) * whole


@pytest.mark.parametrize("coding", [*CODINGS, H265])
def test_lost_packets_from_the_first_on(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], coding: str, tmp_path: Path
) -> None:
    """Also where the first key frame is cut, and the decoder says nothing, as that of H.265."""
    data, truth = coded(coding)
    path, given = tmp_path / "lost.ts", 0
    for seed in range(20):
        path.write_bytes(lose(data, 0.02, seed, spared=0))
        with closing(Film(av, path)) as film:
            frames = list(film.frames())
        got = {frame.pts: frame.to_ndarray(format="gray") for frame in frames if frame is not None}
        wrong = [time for time, pixels in got.items() if not same(pixels, truth, time)]
        assert wrong == [], seed
        _, seen = decoded(path.read_bytes())
        assert len(frames) <= max(len(truth), seen), "in two pieces it is two frames to FFmpeg, too"
        given += len(got)
    assert 0 < given < 20 * len(truth)


def test_one_lost_packet_of_one_frame(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], tmp_path: Path
) -> None:
    """It and what is made from it fail, up to the next key frame: 12 of 60 at most."""
    data, truth = coded("frames in order")
    path = tmp_path / "lost.ts"
    units = [place for place in range(0, len(data), PACKET) if _starts(data, place)]
    hole = units[24] + 2 * PACKET  # of a key frame, which has many
    assert not _starts(data, hole)
    path.write_bytes(data[:hole] + data[hole + PACKET :])
    frames, damaged = read(path)
    assert damaged == 12
    assert [frame.index for frame in frames] == [*range(24), *range(36, 60)]
    assert len(truth) == 60


def _starts(data: bytes, place: int) -> bool:
    pid = (data[place + 1] & 0x1F) << 8 | data[place + 2]
    return pid == VIDEO and bool(data[place + 1] & 0x40)


def test_a_lost_frame_that_nothing_is_made_from(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], tmp_path: Path
) -> None:
    """All of it is gone, and nobody misses it: no frame fails."""
    data, truth = coded("frames made from later ones")
    path = tmp_path / "whole.ts"
    path.write_bytes(data)
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        packets = [(packet.pts, is_unused("h264", bytes(packet))) for packet in container.demux(stream)]
    number = next(number for number, (_, unused) in enumerate(packets) if unused and number > 20)
    units = [place for place in range(0, len(data), PACKET) if _starts(data, place)]
    kept = [
        data[place : place + PACKET]
        for place in range(0, len(data), PACKET)
        if not units[number] <= place < units[number + 1]
        or (data[place + 1] & 0x1F) << 8 | data[place + 2] != VIDEO
    ]
    path.write_bytes(b"".join(kept))
    frames, damaged = read(path)
    assert damaged == 0
    assert len(frames) == len(truth) - 1


@pytest.mark.parametrize("size", [188, 192, 204])
def test_units_of_packets_of_any_length(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], size: int, tmp_path: Path
) -> None:
    data, truth = coded("frames in order")
    before, after = (b"\0" * 4, b"") if size == 192 else (b"", b"\0" * (size - PACKET))
    path = tmp_path / "x.ts"
    packets = [data[place : place + PACKET] for place in range(0, len(data), PACKET)]
    again = [packet for packet in packets for _ in range(2)]
    for sent in (packets, again):
        path.write_bytes(b"".join(before + packet + after for packet in sent))
        units = list(read_units(path, VIDEO))
        assert sorted(unit.pts for unit in units if unit.pts is not None) == sorted(truth)
        assert not any(unit.holed or unit.after_loss for unit in units)
    path.write_bytes(b"no packets" * 500)
    assert list(read_units(path, VIDEO)) == []


def test_frames_are_counted_by_their_numbers(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], tmp_path: Path
) -> None:
    """Each follows the one before; of what is left out, only frames that others are made from are missed."""
    path = tmp_path / "x.ts"
    path.write_bytes(coded("frames made from later ones")[0])
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        units = [bytes(packet) for packet in container.demux(stream) if packet.size]
    counter = FrameCounter()
    assert all(counter.follows(unit) for unit in units)
    for left_out in range(1, 20):
        counter = FrameCounter()
        seen = [counter.follows(unit) for number, unit in enumerate(units) if number != left_out]
        key = left_out % 12 == 0 or (left_out + 1) % 12 == 0
        assert key or seen[left_out] == is_unused("h264", units[left_out]), left_out
    assert not FrameCounter().follows(b"nothing of the kind")
    assert not is_unused("h264", b"\0\0\1")


def test_joined_recordings(tmp_path: Path) -> None:
    """Of another size, and from its own beginning: all frames of both, and a gap where they meet."""
    first = transport_stream(walk(15, size=SIZE), PLAIN)
    second = transport_stream(walk(10, size=(64, 80), seed=1), PLAIN)
    path = tmp_path / "joined.ts"
    path.write_bytes(first + second)
    frames, damaged = read(path)
    assert damaged == 0
    assert [frame.pixels.shape[:2] for frame in frames] == [SIZE] * 15 + [(64, 80)] * 10
    assert [frame.gap for frame in frames] == [False] * 15 + [True] + [False] * 9


def test_every_damaged_frame_is_said(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], command: Command, pristine: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lost.ts"
    path.write_bytes(lose(coded("frames in order")[0], 0.02, 3))
    frames, damaged = read(path)
    assert damaged
    done = command("sspcab_runtime.cli", pristine, path)
    assert done.returncode == 1, done.stderr
    assert len(done.stdout.splitlines()) == len(frames)
    said = done.stderr.splitlines()
    assert len([line for line in said if "is damaged" in line]) == damaged
    assert said[-1].endswith(f"{damaged} of {len(frames) + damaged} frames could not be judged")


def test_a_film_of_damage_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    data = transport_stream(walk(5, size=SIZE), PLAIN)
    path.write_bytes(data[: 3 * PACKET] + bytes(len(data) - 3 * PACKET))
    with pytest.raises((SourceError, PictureError)):
        read(path)


def test_who_joins_a_stream_counts_no_damage_of_before(
    coded: Callable[[str], tuple[bytes, dict[int, Pixels]]], tmp_path: Path
) -> None:
    """A camera is seen from its next key frame on; what is lost after that is damage."""
    data, truth = coded("frames in order")
    units = [place for place in range(0, len(data), PACKET) if _starts(data, place)]
    tables, joined = data[: units[0]], data[units[5] :]
    hole = units[24] + 2 * PACKET - units[5]
    path = tmp_path / "joined.ts"
    for damage, bad, shown in ((b"", 0, 48), (joined[hole : hole + PACKET], 12, 36)):
        path.write_bytes(tables + (joined[:hole] + joined[hole + PACKET :] if damage else joined))
        stream = LibavStream("x", f"file:{path}", StreamOptions(), format="mpegts", settings={}, lossy=True)
        frames = 0
        with pytest.raises(SourceError, match="ended"):  # noqa: PT012 - that is how a camera ends
            for _ in stream:
                frames += 1
        stream.close()
        assert (frames, stream.bad) == (shown, bad)
    assert len(truth) == 60


@pytest.mark.parametrize(
    ("name", "whole"), [("joined.avi", True), ("joined.mp4", False), ("joined.mov", False)]
)
def test_files_put_together(tmp_path: Path, name: str, whole: bool) -> None:
    """All frames of both, or those of the first and a word on the rest: FFmpeg reads no second MP4."""
    data = b""
    for number, size in enumerate((SIZE, (64, 80))):
        path = tmp_path / f"{number}{Path(name).suffix}"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            for pixels in walk(8, size=size):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        data += path.read_bytes()
    path = tmp_path / name
    path.write_bytes(data)
    if whole:
        frames, damaged = read(path)
        assert (len(frames), damaged) == (16, 0)
    else:
        with pytest.raises(SourceError, match=r"2 recordings one after the other, .* the first .* 8 frames"):
            read(path)


def test_videos_beside_each_other(tmp_path: Path) -> None:
    """The second is never looked at, and that is said."""
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width = SIZE
            stream.pix_fmt = "yuv420p"
        for pixels in walk(4, size=SIZE):
            for stream in streams:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    with pytest.raises(SourceError, match="2 video streams, and only the first was read, 4 frames"):
        read(path)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("x.mov", "qtrle", "rgb24"),
        ("x.avi", "mjpeg", "yuvj420p"),
        ("x.avi", "rawvideo", "yuv420p"),
        ("x.avi", "msmpeg4", "yuv420p"),
        ("x.mov", "prores", "yuv422p10le"),
        ("x.mov", "cinepak", "rgb24"),
        ("x.webm", "libvpx-vp9", "yuv420p"),
        ("x.mkv", "libsvtav1", "yuv420p"),
        ("x.mpg", "mpeg1video", "yuv420p"),
        ("x.mp4", "libx265", "yuv420p"),
    ],
)
def test_no_whole_film_is_called_damaged(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    """Decoders differ in what they say of key frames; one of QuickTime's says nothing."""
    path = tmp_path / name
    try:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.height, stream.width = SIZE
            stream.pix_fmt = pixels
            for shown in walk(12, size=SIZE):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            container.mux(stream.encode())
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"FFmpeg encodes no {codec} here: {error}")
    with closing(Film(av, path)) as film:
        frames = list(film.frames())
    assert len(frames) == 12
    assert None not in frames
    with av.open(str(path)) as container:
        frames = list(decode_frames(av, container, container.streams.video[0]))
    assert len(frames) == 12
    assert None not in frames
