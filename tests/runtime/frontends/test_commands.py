"""Front-ends through the commands: moved frames on the command line, and what is in a bundle."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle, file_entry, replace_manifest
from sspcab_edge.front_end_spec import FrameSize, FrontEndSpec, Region, Registration, Tiling
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.detector import Detector
from sspcab_runtime.inspect import describe
from sspcab_runtime.turns import pack_inputs

Command = Callable[..., subprocess.CompletedProcess[str]]
Pixels = npt.NDArray[np.uint8]

RUN = "sspcab_runtime.cli"
SIDE = 240
REGISTRATION = Registration(
    reference="reference.png", motion="translation", max_shift=20, max_angle=0, min_correlation=0.5
)
SPEC = FrontEndSpec(
    kind="tiles",
    frame=FrameSize(width=SIDE, height=SIDE),
    registration=REGISTRATION,
    region=Region(left=40, top=60, width=80, height=72),
    zones=(((40, 60), (70, 60), (70, 131), (40, 131)),),
    mask="mask.png",
    tiles=Tiling(overlap=8, margin=2, batch=3),
)


@pytest.fixture
def view(natural: Callable[[str], Pixels]) -> Callable[[int], Pixels]:
    """What a camera sees that was moved to the side by so many pixels, (240, 240, 3) RGB."""
    scene = natural("astronaut-1")

    def cut(shift: int) -> Pixels:
        return np.ascontiguousarray(scene[40 : 40 + SIDE, 40 - shift : 40 - shift + SIDE])

    return cut


@pytest.fixture
def tiled(bundle_path: Path, view: Callable[[int], Pixels]) -> Callable[[FrontEndSpec], Bundle]:
    """The tiny bundle with another front-end, its pictures beside the graph."""

    def make(spec: FrontEndSpec) -> Bundle:
        bundle = Bundle.open(bundle_path)
        grey = cv2.cvtColor(view(0), cv2.COLOR_RGB2GRAY)
        mask = np.full((SIDE, SIDE), 255, dtype=np.uint8)
        mask[:, 60:] = 0
        assert cv2.imwrite(str(bundle_path / "reference.png"), grey)
        assert cv2.imwrite(str(bundle_path / "mask.png"), mask)
        names = ("mask.png", "reference.png")
        entries = tuple(file_entry(bundle_path / name, name) for name in names)
        files = tuple(sorted((*bundle.manifest.files, *entries), key=lambda entry: entry.path))
        changed = msgspec.structs.replace(bundle.manifest, front_end=spec, files=files, score="map-max")
        return replace_manifest(bundle, changed)

    return make


def test_frames_of_a_moved_camera_are_said_and_do_not_stop_the_others(
    command: Command, tiled: Callable[[FrontEndSpec], Bundle], view: Callable[[int], Pixels], tmp_path: Path
) -> None:
    """Like pictures that cannot be decoded: a line on stderr, none on stdout, exit 1."""
    bundle = tiled(SPEC)
    folder = tmp_path / "seen"
    folder.mkdir()
    for number, pixels in enumerate((view(0), view(9), view(35), np.zeros_like(view(0)))):
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels[..., ::-1])
    done = command(RUN, bundle.path, folder, "--json")
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["0.png", "1.png"]
    assert lines[0]["score"] == pytest.approx(lines[1]["score"], abs=0.02)
    said = done.stderr.splitlines()
    assert said[0].startswith(f"sspcab-run: {folder}/2.png is shifted by 35.0 pixels")
    assert "a camera fault, not an anomaly" in said[0]
    assert said[1].startswith(f"sspcab-run: {folder}/3.png shows nothing")
    assert said[-1] == "sspcab-run: 2 of 4 pictures could not be judged"
    assert len(said) == 4
    assert command(RUN, bundle.path, folder / "1.png", "--save", tmp_path / "out").returncode == 0


def test_the_pack_proves_the_engine_whatever_the_front_end(tiled: Callable[[FrontEndSpec], Bundle]) -> None:
    """Its inputs are what the graph takes: no frame of this front-end is as small."""
    bundle = tiled(SPEC)
    with Detector.open(bundle.path, backend="onnxruntime") as detector:
        assert detector.artifact.name == "onnx-fp32"
    size = bundle.manifest.preprocess
    assert {inputs["frames"].shape for inputs in pack_inputs(bundle)} == {(1, size.height, size.width, 3)}


def test_the_front_end_is_shown(tiled: Callable[[FrontEndSpec], Bundle]) -> None:
    """Region of 80 x 72 in tiles of 32 x 24: 3 x 4 of them, one column of which begins left of x = 60."""
    lines = [" ".join(line.split()) for line in describe(tiled(SPEC)).splitlines()]
    for line in (
        "frames tiles, cut into 32x24",
        "frame size 240x240, others are resized to it",
        "registered to reference.png, up to 20 pixels away, correlation 0.5 or more",
        "region 80x72 at (40, 60)",
        "judged 25.0% of it, by 1 zone and mask mask.png",
        "tiles 3x4, overlapping by 8 or more with a margin of 2; 4 of 12 looked at, at most 3 a call",
    ):
        assert line in lines, lines


def test_other_front_ends_are_shown(tiled: Callable[[FrontEndSpec], Bundle]) -> None:
    turning = msgspec.structs.replace(REGISTRATION, motion="rotation", max_angle=2.5)
    tiles = Tiling(overlap=8, margin=2, batch=3, levels=(ScoreMap(),) * 12)
    spec = msgspec.structs.replace(SPEC, registration=turning, zones=(), mask=None, tiles=tiles)
    text = describe(tiled(spec))
    assert "up to 20 pixels and 2.5 degrees away" in text
    assert "12 of 12 looked at, at most 3 a call, each with its own level" in text
    assert "judged" not in text
