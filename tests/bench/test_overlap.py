"""The pipeline against its slowest stage: engines whose time is known, sources that are slow on purpose."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from sspcab_bench import cli
from sspcab_bench.film import make_pictures
from sspcab_bench.inputs import PACK, pack_files
from sspcab_bench.overlap import measure_overlap
from sspcab_bench.pretend import WaitingEngine
from sspcab_edge.bundle import Bundle
from sspcab_edge.protocols import Frame, Source
from sspcab_runtime.setting import Setting, open_engines
from sspcab_runtime.sources.pictures import Pictures
from sspcab_runtime.turns import pack_inputs


class _SlowPictures:
    """Pictures that take so long to come; sleeping, as a disk does."""

    count = None

    def __init__(self, pictures: Source, seconds: float) -> None:
        self._pictures, self._seconds, self.uri = pictures, seconds, pictures.uri

    def __iter__(self) -> _SlowPictures:
        return self

    def __next__(self) -> Frame:
        time.sleep(self._seconds)
        return next(self._pictures)

    def close(self) -> None:
        self._pictures.close()


@pytest.mark.parametrize(("decode_ms", "engine_ms", "slowest"), [(2, 20, "engine"), (20, 2, "decode")])
def test_the_slowest_stage(bright: Bundle, decode_ms: float, engine_ms: float, slowest: str) -> None:
    """It is named, alone it takes what it was told to, and the whole is no faster."""
    files = pack_files(bright)
    found = measure_overlap(
        bright,
        lambda: _SlowPictures(Pictures(PACK, files), decode_ms / 1e3),
        backend="onnxruntime", engine_ms=engine_ms, rounds=6, seconds=0.05,
    )  # fmt: skip
    assert found.slowest == slowest
    assert set(found.alone) == {"decode", "prepare", "engine", "finish"}
    assert found.alone[slowest].wall_ms >= 20
    assert found.stream.wall_ms >= 0.9 * found.alone[slowest].wall_ms
    assert found.share.median == pytest.approx(found.alone[slowest].wall_ms / found.stream.wall_ms, rel=0.5)


def test_an_engine_that_waits(bright: Bundle) -> None:
    """It takes its time, and gives what the engine behind it gave first."""
    artifact = next(one for one in bright.manifest.artifacts if one.target == "onnx")
    first, second = pack_inputs(bright)[:2]
    with WaitingEngine(open_engines(bright, Setting(artifact, "onnxruntime"))[0], 30.0) as engine:
        outputs = engine.infer(first)
        start = time.perf_counter()
        assert engine.infer(second) is outputs
        assert time.perf_counter() - start >= 0.03


@pytest.mark.parametrize("frames", ["h264", "jpeg"])
def test_the_command(bright: Bundle, tmp_path: Path, frames: str) -> None:
    if frames == "h264":
        pytest.importorskip("av", reason="av is not installed")
    output = tmp_path / "report.json"
    result = CliRunner().invoke(
        cli.group,
        ["overlap", str(bright.path), "--frames", frames, "--size", "64x48", "--backend", "onnxruntime",
         "--rounds", "6", "--seconds", "0.02", "--output", str(output)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text())
    assert report["share"]["low"] <= report["share"]["median"] <= report["share"]["high"]
    assert report["source"].startswith("64x48")
    assert f"of the speed of {report['slowest']} alone" in result.output


def test_pictures_of_the_pack(bright: Bundle, tmp_path: Path) -> None:
    """As many as are asked for, of the size that is asked for, in a folder that was not there."""
    make_pictures(bright, tmp_path / "new", width=64, height=48, count=9)
    frames = list(Pictures("new", sorted((tmp_path / "new").glob("*.jpg"))))
    assert [frame.pixels.shape for frame in frames] == [(48, 64, 3)] * 9
