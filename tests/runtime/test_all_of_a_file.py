"""A file of several images is judged by none of its images alone, by no command; nor is half of a file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.datasets import read_dataset
from sspcab_edge.errors import EdgeError, PictureError
from sspcab_runtime.detector import Detector
from sspcab_runtime.evaluation import evaluate
from sspcab_runtime.fit import fit

Pixels = npt.NDArray[np.uint8]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
SAID = {"pages.tif": "holds 2 images .* none of them is judged", "half.jpg": "ends before its image does"}


@pytest.fixture(params=SAID)
def spoiled(request: pytest.FixtureRequest, folder: Path, frames: Pixels) -> tuple[Path, str, str]:
    """A folder of twelve images and one such file; its name and what is to be said of it."""
    path = folder / "early" / request.param
    if path.suffix == ".tif":
        assert cv2.imwritemulti(str(path), list(frames[:2]))
    else:
        data = bytes(cv2.imencode(".jpg", frames[0])[1])
        path.write_bytes(data[: len(data) // 2])
    return folder, path.name, SAID[request.param]


def test_run_judges_the_others(command: Command, pristine: Path, spoiled: tuple[Path, str, str]) -> None:
    folder, name, _ = spoiled
    done = command("sspcab_runtime.cli", pristine, folder)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 12
    assert name not in done.stdout
    assert name in done.stderr
    assert "1 of 13 pictures could not be judged" in done.stderr


def test_fit_and_evaluate_name_it(bundle_path: Path, spoiled: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, name, said = spoiled
    with pytest.raises(PictureError, match=rf"{name} {said}"):
        fit(bundle_path, folder)
    (tmp_path / "data").mkdir()
    (folder / "early").rename(tmp_path / "data" / "good")
    (folder / "late").rename(tmp_path / "data" / "bad")
    with Detector.open(bundle_path, prove=False) as detector, pytest.raises(EdgeError, match=name):
        evaluate(detector, read_dataset(tmp_path / "data"))


def test_learn_leaves_it_out_and_says_so(
    command: Command, pristine: Path, spoiled: tuple[Path, str, str], tmp_path: Path
) -> None:
    folder, name, _ = spoiled
    config = tmp_path / "edge.toml"
    config.write_text(
        f"[bundles.tiny]\npath = '{pristine}'\n"
        "[cameras.one]\nsource = 'rtsp://127.0.0.1:9/x'\nbundle = 'tiny'\n"
    )
    done = command(
        "sspcab_runtime.daemon.cli", "learn", "--config", config, "--camera", "one", "--source", folder,
        "--rate", 0.4, "--json",
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    assert json.loads(done.stdout)["frames"] == 12
    assert done.stderr.splitlines()[0].startswith(f"a frame was left out: {folder}/early/{name} ")
