"""Several SOURCEs in one run: images, folders and videos in their order, one summary, none left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from definitions.tiny_objects import make_object_bundle
from sspcab_runtime.detector import Detector
from sspcab_runtime.pipeline import Result
from sspcab_runtime.several import judge_several, named_sources

Pixels = npt.NDArray[np.uint8]
Save = Callable[[str, npt.NDArray[np.generic]], Path]


def run(
    *arguments: object, listed: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sspcab_runtime.cli", *map(os.fsencode, map(str, arguments))],
        input=listed, capture_output=True, timeout=60, check=False, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def film(tmp_path: Path, frames: Pixels) -> Callable[[str, int], Path]:
    """A lossless video of some frames."""
    av = pytest.importorskip("av", reason="av is not installed: no videos")

    def write(name: str, count: int) -> Path:
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
            for pixels in frames[:count]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        return tmp_path / name

    return write


@pytest.fixture
def mixed(folder: Path, film: Callable[[str, int], Path]) -> list[Path]:
    """An image, a film, a folder, nothing, no film, another film, an image: 1 + 5 + 6 + 3 + 1 frames."""
    broken = film("broken.mkv", 1)
    broken.write_bytes(b"no film at all")
    first, last = sorted(folder.rglob("*.png"))[:2]
    one, two = film("one.mkv", 5), film("two.mkv", 3)
    return [first, one, folder / "late", folder / "missing.png", broken, two, last]


def test_all_are_judged_in_their_order_and_what_fails_is_counted(pristine: Path, mixed: list[Path]) -> None:
    done = run(pristine, *mixed, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [str(path) for path in mixed]
    wanted = [(names[0], 0), *((names[1], n) for n in range(5)), *((names[2], n) for n in range(6))]
    wanted += [*((names[5], n) for n in range(3)), (names[6], 0)]
    assert [(line["source"], line["index"]) for line in lines] == wanted
    assert done.returncode == 1
    said = done.stderr.decode().splitlines()
    assert len(said) == 4
    assert said[0].startswith(f"sspcab-run: {names[3]} does not exist")
    assert said[1].startswith(f"sspcab-run: {names[4]} cannot be opened as a video")
    assert said[2].startswith("sspcab-run: 16 frames, ")
    assert said[3] == "sspcab-run: 2 of 18 pictures, frames and sources could not be judged"


def test_each_has_the_verdict_that_it_has_alone(pristine: Path, mixed: list[Path]) -> None:
    together = [json.loads(line) for line in run(pristine, *mixed, "--json").stdout.splitlines()]
    alone = [json.loads(line) for path in mixed for line in run(pristine, path, "--json").stdout.splitlines()]
    for line in (*together, *alone):
        del line["latency_ms"]
    assert together == alone


def test_a_film_that_was_cut_off_is_a_failure_and_the_next_is_judged(
    pristine: Path, film: Callable[[str, int], Path]
) -> None:
    cut, whole = film("cut.mkv", 12), film("whole.mkv", 3)
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * 0.6)])
    done = run(pristine, cut, whole, "--json")
    assert done.returncode == 1
    sources = [json.loads(line)["source"] for line in done.stdout.splitlines()]
    judged = sources.count(str(cut))
    assert 2 < judged < 12
    assert sources == [str(cut)] * judged + [str(whole)] * 3
    said = done.stderr.decode().splitlines()
    assert f"{cut} ends too early, after {judged} frames: it was cut off" in said[-3]
    assert re.fullmatch(rf"sspcab-run: \d of {judged + 4} pictures, frames and sources could .*", said[-1])


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_a_list_on_standard_input(pristine: Path, mixed: list[Path], separator: bytes) -> None:
    listed = separator.join(os.fsencode(path) for path in (mixed[1], mixed[0])) + separator
    done = run(pristine, mixed[6], "-", mixed[5], "--json", listed=listed)
    assert done.returncode == 0, done.stderr
    sources = list(dict.fromkeys(json.loads(line)["source"] for line in done.stdout.splitlines()))
    assert sources == [str(mixed[n]) for n in (6, 1, 0, 5)]


def test_names_of_a_list_are_any_bytes(pristine: Path, folder: Path, tmp_path: Path) -> None:
    """As ``find -print0`` writes them: line ends, no UTF-8, what looks like an option, a home or a URI."""
    names = [b"a\nb.png", b"\xff\xfe.png", b"-x.png", b"~x.png", b"50%20.png", b" .png", b"x" * 251 + b".png"]
    image = next(folder.rglob("*.png")).read_bytes()
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(image)
    done = run(pristine, "-", listed=b"\0".join(names), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(names)
    assert run(pristine, "-", "--json", listed=b"\n".join(names[2:]), cwd=tmp_path).stdout.count(b"\n") == 5


def test_the_limit_is_over_all(pristine: Path, mixed: list[Path]) -> None:
    done = run(pristine, *mixed[:3], "--limit", 4)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 4
    assert lines[0].endswith(str(mixed[0]))
    assert lines[1].endswith(f"{mixed[1]} frame 0")
    assert b"4 frames, " in done.stderr


def test_overlays_of_several_never_replace_each_other(
    pristine: Path, mixed: list[Path], tmp_path: Path
) -> None:
    run(pristine, *mixed, "--save", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == 16 + 1
    assert names[:2] == ["000000_000.png", "000001_one.png"]


@pytest.mark.parametrize(
    ("arguments", "listed", "message"),
    [
        (["-"], b"", "standard input names no sources"),
        (["-"], b"\n\r\n", "standard input names no sources"),
        (["-", "-"], b"a", "is given twice"),
        (["{image}", "rtsp://camera/1"], b"", "a live camera (rtsp:) has to be the only SOURCE, here are 2"),
        (["gst:videotestsrc", "{image}"], b"", "a live camera (gst:) has to be the only SOURCE"),
        (["-"], b"http://a/1\nhttp://b/1\n", "a live camera (http:) has to be the only SOURCE"),
    ],
)
def test_what_cannot_be_is_one_line(
    pristine: Path, folder: Path, arguments: list[str], listed: bytes, message: str
) -> None:
    image = next(folder.rglob("*.png"))
    done = run(pristine, *(word.format(image=image) for word in arguments), listed=listed)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert message in done.stderr.decode()


@pytest.mark.parametrize(
    ("redirected", "said"),
    [("<&-", "which is closed"), ("0> /dev/null", "cannot be read: Bad file descr")],
)
def test_standard_input_that_is_none_is_one_line(pristine: Path, redirected: str, said: str) -> None:
    line = f"{sys.executable} -m sspcab_runtime.cli {pristine} - {redirected}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert named_sources(["a", "./-"]) == ("a", "./-"), "not read where nobody asks for it"


def test_what_remembers_begins_anew_for_each_film_and_folder(tmp_path: Path) -> None:
    """Images that are named one by one are frames of one film, as those in a folder are."""
    films = pytest.importorskip("definitions.films", reason="av is not installed: no videos")
    bundle = make_object_bundle(tmp_path / "bundle", height=films.HEIGHT, width=films.WIDTH)
    frames = films.walk(10, seed=1)
    (tmp_path / "frames").mkdir()
    for number, pixels in enumerate(frames):
        assert cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), pixels[..., ::-1])
    film = str(films.write_film(tmp_path / "film.mp4", films.walk(12, seed=2)))
    folder = str(tmp_path / "frames")
    single = [str(path) for path in sorted((tmp_path / "frames").iterdir())]

    def scores(*names: str) -> list[float | None]:
        with Detector.open(bundle.path) as detector:
            found = list(judge_several(detector, names))
        return [one.verdict.score for one in found if isinstance(one, Result)]

    of_film, of_folder = scores(film), scores(folder)
    assert len(set(of_film)) > 5
    assert scores(film, film, folder, film) == [*of_film, *of_film, *of_folder, *of_film]
    assert scores(film, *single, film) == [*of_film, *of_folder, *of_film]
