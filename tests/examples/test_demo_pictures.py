"""Further pictures of the demo's wall: made again by the same seed, none committed, nothing overwritten."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sspcab_edge.preprocess import decode_picture

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "demo_pictures.py"
KINDS = ("chip", "crack", "hole", "object", "scratch", "stain")


def draw(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def brightness(folder: Path) -> float:
    pictures = [decode_picture(path).pixels for path in sorted(folder.rglob("*.jpg"))]
    assert {picture.shape for picture in pictures} == {(288, 288, 3)}
    return float(np.mean([picture.mean() for picture in pictures]))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage", reason="scikit-image holds the demo's photograph")
    out = tmp_path_factory.mktemp("drawn")
    result = draw(out, "--calibration", "3", "--good", "2", "--defects", "1", "--seed", "7")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"11 pictures are in {out}\n"
    return out


def test_the_layout_is_that_of_the_demo(drawn: Path) -> None:
    calibration = {f"calibration/{i:03d}.jpg" for i in range(3)}
    good = {f"test/good/{i:03d}.jpg" for i in range(2)}
    assert set(digests(drawn)) == calibration | good | {f"test/{kind}/000.jpg" for kind in KINDS}


def test_the_same_seed_gives_the_same_pictures_however_many(drawn: Path, tmp_path: Path) -> None:
    draw(tmp_path / "fewer", "--calibration", "2", "--good", "0", "--defects", "1", "--seed", "7")
    fewer, all_of_them = digests(tmp_path / "fewer"), digests(drawn)
    assert len(fewer) == 2 + len(KINDS)
    assert fewer.items() <= all_of_them.items()
    assert not (tmp_path / "fewer" / "test" / "good").exists()
    draw(tmp_path / "other", "--calibration", "2", "--good", "0", "--defects", "1", "--seed", "8")
    assert set(digests(tmp_path / "other").values()).isdisjoint(fewer.values())


def test_no_picture_is_a_committed_one_even_with_its_seed_but_looks_alike(drawn: Path) -> None:
    committed = {
        digest for part in ("calibration", "test") for digest in digests(EXAMPLES / "demo" / part).values()
    }
    new = list(digests(drawn).values())
    assert len(set(new)) == len(new)
    assert committed.isdisjoint(new)
    for part in ("calibration", "test/good"):
        assert abs(brightness(drawn / part) - brightness(EXAMPLES / "demo" / part)) < 8


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = draw(tmp_path, "--calibration", "1")
    assert result.returncode == 2
    assert "is not an empty folder: give another --out" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--good", "-1"), "--good is -1, expected 0 or more"),
        (("--calibration", "0", "--good", "0", "--defects", "0"), "no pictures asked for"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    result = draw(tmp_path / "out", *options)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_scikit_image_the_command_to_install_it_is_told(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.modules['skimage'] = None; "
        f"sys.argv = ['demo_pictures.py', '--out', {str(tmp_path / 'out')!r}]; "
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "pip install scikit-image" in result.stderr
    assert not (tmp_path / "out").exists()
