"""``sspcab-edge demo``: the commands it shows are the commands it runs.

Exporter and benchmark are stood in for by two small packages, so that this needs no torch; verify and run are
the real ones, on a real bundle, pictures and video.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.demo import defect_table, steps
from sspcab_edge.errors import EdgeError

Pixels = npt.NDArray[np.uint8]
Command = Callable[..., subprocess.CompletedProcess[str]]
Environment = dict[str, str]

EXPORT = """
import shutil, sys
arguments = sys.argv[1:]
output = arguments[arguments.index("-o") + 1]
if "--force" in arguments:
    shutil.rmtree(output, ignore_errors=True)
shutil.copytree({pristine!r}, output)
print("exported", *arguments)
sys.exit({code})
"""
BENCH = "import sys; print('measured', *sys.argv[1:])"


@pytest.fixture
def data(tmp_path: Path, folder: Path, frames: Pixels) -> Path:
    """A folder laid out as the demo's."""
    av = pytest.importorskip("av", reason="av is not installed: no videos")
    root = tmp_path / "data"
    for name in ("model", "calibration"):
        (root / name).mkdir(parents=True)
    folder.rename(root / "test")
    with av.open(str(root / "surface.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"x264-params": "log-level=none"}
        for pixels in frames:
            large = cv2.resize(pixels, (64, 48))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode())
    return root


@pytest.fixture
def stand_ins(tmp_path: Path, pristine: Path) -> Callable[[int], Environment]:
    """An environment where exporting copies the tiny bundle and ends with a status of one's choice."""

    def make(code: int) -> Environment:
        for package, body in (
            ("sspcab_export", EXPORT.format(pristine=str(pristine), code=code)),
            ("sspcab_bench", BENCH),
        ):
            (tmp_path / "fakes" / package).mkdir(parents=True, exist_ok=True)
            (tmp_path / "fakes" / package / "__init__.py").write_text("")
            (tmp_path / "fakes" / package / "cli.py").write_text(body)
        path = [str(tmp_path / "fakes"), *(entry for entry in sys.path if entry)]
        return {**os.environ, "PYTHONPATH": ":".join(path)}

    return make


def test_the_whole_demo(
    command: Command, data: Path, tmp_path: Path, stand_ins: Callable[[int], Environment]
) -> None:
    output = tmp_path / "out"
    arguments = ("sspcab_edge.cli", "demo", "--data", data, "--output", output)
    for _ in range(2):  # again, over what is there
        done = command(*arguments, env=stand_ins(0))
        assert done.returncode == 0, done.stderr
    shown = [line[2:] for line in done.stdout.splitlines() if line.startswith("$ ")]
    assert shown == [step.line for step in steps(data, output)]
    assert (
        f"exported {data}/model --target onnx --target openvino --calibration {data}/calibration "
        f"--validation {data}/test --false-alarm-rate 0.1 -o {output}/bundle --force"
    ) in done.stdout
    assert f"measured {output}/bundle --seconds 3" in done.stdout
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["early", "6"] in [row[:2] for row in table]
    assert ["late", "6"] in [row[:2] for row in table]
    assert ["frames", "12"] in [row[:2] for row in table]
    for name in ("pictures", "video"):
        assert (output / name / "contact_sheet.png").is_file()
        assert f"contact sheet: {output / name / 'contact_sheet.png'}" in done.stdout
    order = [done.stdout.index(text) for text in ("exported", "onnx-fp32", "early  ", "frames  ", "measured")]
    assert order == sorted(order), "what a step prints comes below its line"


def test_the_bundle_alone(
    command: Command, data: Path, tmp_path: Path, stand_ins: Callable[[int], Environment]
) -> None:
    output = tmp_path / "out"
    done = command(
        "sspcab_edge.cli", "demo", "--data", data, "--output", output, "--only-bundle", env=stand_ins(0)
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in output.iterdir()) == ["bundle"]
    assert done.stdout.count("$ ") == 2


@pytest.mark.parametrize(("code", "expected"), [(1, 1), (3, 3), (2, 1)])
def test_a_step_that_fails_ends_the_demo(
    command: Command,
    data: Path,
    tmp_path: Path,
    stand_ins: Callable[[int], Environment],
    code: int,
    expected: int,
) -> None:
    done = command(
        "sspcab_edge.cli", "demo", "--data", data, "--output", tmp_path / "out", env=stand_ins(code)
    )
    assert done.returncode == expected
    assert done.stderr == (
        f"sspcab-edge: the demo stops: sspcab-export failed with exit status {code} (see above)\n"
    )
    assert done.stdout.count("$ ") == 1


def test_data_that_is_not_there(command: Command, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    done = command("sspcab_edge.cli", "demo", "--data", tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert f"{tmp_path} lacks calibration, test, surface.mp4: run this in a clone" in done.stderr
    assert not (tmp_path / "out").exists()


def test_lines_are_fit_for_a_shell(tmp_path: Path) -> None:
    for step in steps(tmp_path / "with space", tmp_path / "it's"):
        words = shlex.split(step.line)
        assert tuple(words[: len(step.words)]) == step.words
        assert words[len(step.words) :] == ([] if step.results is None else [">", str(step.results)])


def test_what_is_no_json() -> None:
    with pytest.raises(EdgeError, match="something else than JSON lines"):
        defect_table(b"Traceback")
    assert defect_table(b"").splitlines()[1:] == []


def test_scores_that_are_missing() -> None:
    line = b'{"path": "a/good/1.png", "score": null, "anomalous": null}\n'
    assert defect_table(line).splitlines()[1].split() == ["good", "1", "0", "-", "-"]
