"""The detector: from a folder on disk to a verdict, proved once per device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import BundleError, EdgeError, EngineError, GateError, InputError, OptionError
from sspcab_edge.preprocess import prepare
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime import Detector, Result, open_source, setting
from sspcab_runtime.engines import open_engine
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.machine import Cpu

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Network = Callable[[Pixels], tuple[Floats, Floats]]
Build = Callable[..., Bundle]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_judges_frames_of_any_size(
    pristine: Path, backend: str, network: Network, rng: np.random.Generator
) -> None:
    with Detector.open(pristine, backend=backend) as detector:
        assert detector.engine.backend == backend
        for shape in ((24, 32, 3), (480, 640, 3), (31, 17, 3)):
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            verdict = detector(pixels)
            scores, maps = network(prepare(pixels, detector.bundle.manifest.preprocess)[None])
            assert verdict.score == pytest.approx(float(scores[0]), abs=1e-6)
            assert verdict.threshold == 0.6
            assert verdict.anomalous is bool(scores[0] > 0.6)
            assert verdict.map is not None
            np.testing.assert_allclose(verdict.map, maps[0], atol=1e-6)


@pytest.mark.parametrize("given", [None, "frame.png", [[[0, 0, 0]]], memoryview(b"abc")])
def test_what_is_no_array_is_refused_with_the_remedy(pristine: Path, given: object) -> None:
    with (
        Detector.open(pristine) as detector,
        pytest.raises(InputError, match=rf"a frame is {type(given).__name__}, expected a NumPy array"),
    ):
        detector(given)  # type: ignore[arg-type]


def test_both_labels_occur(pristine: Path, frames: Pixels) -> None:
    with Detector.open(pristine) as detector:
        assert {detector(pixels).anomalous for pixels in frames} == {True, False}


def test_says_what_it_runs(pristine: Path) -> None:
    with Detector.open(pristine, target="openvino", threads=1) as detector:
        assert detector.bundle.path == pristine
        assert detector.artifact.name == "openvino-fp32"
        assert detector.engine.backend == "openvino"
        assert detector.threshold == 0.6


def test_streams_what_it_would_judge_one_by_one(pristine: Path, folder: Path) -> None:
    with Detector.open(pristine) as detector, closing(open_source(str(folder))) as source:
        for result in detector.stream(source):
            assert isinstance(result, Result)
            assert result.verdict.score == detector(result.frame.pixels).score
            expected = {"decode", "prepare", "copy_in", "infer", "copy_out", "finish"}
            assert set(result.stages_ms) == expected


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("streams", [2, 3])
def test_streams_give_the_same_verdicts(pristine: Path, folder: Path, backend: str, streams: int) -> None:
    with (
        Detector.open(pristine, backend=backend, streams=streams) as detector,
        Detector.open(pristine, backend=backend) as single,
        closing(open_source(str(folder))) as source,
    ):
        assert len(detector.engines) == streams
        assert detector.engine is detector.engines[0]
        indices = []
        for result in detector.stream(source):
            assert isinstance(result, Result)
            indices.append(result.frame.index)
            expected = single(result.frame.pixels)
            assert result.verdict.score == pytest.approx(expected.score, abs=1e-6)
            assert result.verdict.anomalous is expected.anomalous
        assert indices == list(range(12))


def test_streams_share_the_cores(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def note(*args: object, threads: int | None = None, **options: object) -> GraphEngine:
        asked.append(threads)
        return open_engine(*args, threads=threads, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(setting, "open_engine", note)
    monkeypatch.setattr(setting, "read_cpu", lambda: Cpu("one of six", (), 6))
    for streams, threads in ((None, None), (4, None), (8, None), (2, 5)):
        Detector.open(pristine, streams=streams, threads=threads).close()
    assert asked == [None, *[1] * 4, *[1] * 8, 5, 5]
    asked.clear()
    Detector.open(pristine, streams=2).close()
    assert asked == [3, 3]
    with pytest.raises(OptionError, match="streams is 0, expected 1 or more"):
        Detector.open(pristine, streams=0)


def test_only_what_is_proved_gets_more_engines(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[GraphEngine] = []

    def note(*args: object, **options: object) -> GraphEngine:
        opened.append(open_engine(*args, **options))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(setting, "open_engine", note)
    build(tmp_path / "bundle", wrong=("onnx-fp32",))
    with Detector.open(tmp_path / "bundle", streams=3):
        assert [engine.backend for engine in opened] == ["onnxruntime", *["openvino"] * 3]
    for engine in opened:
        with pytest.raises(EngineError, match="is closed"):
            engine.infer({})


def test_an_engine_that_does_not_open_closes_the_others(
    pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[GraphEngine] = []

    def third_fails(*args: object, **options: object) -> GraphEngine:
        if len(opened) == 2:
            raise EngineError("out of memory")
        opened.append(open_engine(*args, **options))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(setting, "open_engine", third_fails)
    with pytest.raises(EngineError, match="out of memory"):
        Detector.open(pristine, backend="onnxruntime", streams=3)
    for engine in opened:
        with pytest.raises(EngineError, match="is closed"):
            engine.infer({})


def test_the_threshold_can_be_told(pristine: Path, frames: Pixels) -> None:
    with Detector.open(pristine, threshold=0.0) as detector:
        verdict = detector(frames[0])
        assert verdict.threshold == detector.threshold == 0.0
        assert verdict.anomalous is True
    with pytest.raises(OptionError, match="threshold is nan, expected a finite number"):
        Detector.open(pristine, threshold=float("nan"))


def test_without_a_threshold_there_are_scores_and_no_labels(
    build: Build, tmp_path: Path, frames: Pixels
) -> None:
    build(tmp_path / "bundle", threshold=None)
    with Detector.open(tmp_path / "bundle") as detector:
        verdict = detector(frames[0])
    assert verdict.score is not None
    assert (verdict.threshold, verdict.anomalous) == (None, None)


def test_the_score_map_is_applied(build: Build, tmp_path: Path, frames: Pixels, network: Network) -> None:
    build(tmp_path / "bundle", score_map=ScoreMap(artifact=(0.0, 1.0), source=(0.0, 100.0)))
    with Detector.open(tmp_path / "bundle", prove=False) as detector:
        assert detector(frames[0]).score == pytest.approx(100 * float(network(frames[:1])[0][0]), abs=1e-3)
    with pytest.raises(GateError, match="scores differ by"):
        Detector.open(tmp_path / "bundle")


def test_the_pack_is_replayed_once(pristine: Path) -> None:
    calls: list[tuple[int, int]] = []
    for _ in range(2):
        Detector.open(pristine, progress=lambda done, of: calls.append((done, of))).close()
    assert calls == [(done, 12) for done in range(1, 13)], "the second time there is an attestation"
    Detector.open(pristine, backend="openvino", progress=lambda done, of: calls.append((done, of))).close()
    assert len(calls) == 24, "another backend is another matter"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_bundle_that_lies_is_refused(build: Build, tmp_path: Path, backend: str, cache: Path) -> None:
    build(tmp_path / "bundle", lie=0.01)
    for _ in range(2):
        with pytest.raises(GateError, match=r"scores differ by 0.01 \(allowed 0.0001\)") as failure:
            Detector.open(tmp_path / "bundle", backend=backend)
        assert failure.value.exit_code == 3
    assert not list(cache.rglob("*.json")), "a failure attests nothing"
    with Detector.open(tmp_path / "bundle", backend=backend, prove=False) as detector:
        assert detector.engine.backend == backend


def test_verdicts_that_flip_are_refused(
    build: Build, tmp_path: Path, network: Network, frames: Pixels
) -> None:
    """Scores within tolerance, but the threshold lies between source and artifact on one picture."""
    score = float(network(frames[3:4])[0][0])
    build(tmp_path / "bundle", lie=5e-5, threshold=score + 2e-5)
    with pytest.raises(GateError, match=r"1 of 12 verdicts flip \(allowed 0\)"):
        Detector.open(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tpu"}, "unknown backend 'tpu'"),
        ({"precision": "int8"}, "no artifact for precision int8: it has onnx-fp32"),
        ({"backend": "openvino"}, r"for backend openvino: it has onnx-fp32 \(backend onnxruntime\)"),
        ({"threads": 0}, "threads is 0"),
    ],
)  # fmt: skip
def test_what_the_bundle_lacks_is_said(
    build: Build, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    build(tmp_path / "bundle", targets=("onnx",))
    with pytest.raises(OptionError, match=message):
        Detector.open(tmp_path / "bundle", **options)  # type: ignore[arg-type]


def test_a_graph_that_gives_no_numbers_is_refused(build: Build, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    build(tmp_path / "fine", targets=("onnx",))
    model = onnx.load(tmp_path / "fine/model.fp32.onnx")
    broken = onnx.numpy_helper.from_array(np.full((1, 4, 1, 1), np.nan, np.float32), "narrow")
    model.graph.initializer[2].CopyFrom(broken)
    build(tmp_path / "nan", targets=("onnx",), onnx_file=model.SerializeToString())
    with pytest.raises(GateError, match="a score is not finite"):
        Detector.open(tmp_path / "nan")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_a_frame_that_is_none(pristine: Path, pixels: Pixels) -> None:
    with (
        Detector.open(pristine) as detector,
        pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8 RGB: convert it first"),
    ):
        detector(pixels)


def test_closing(pristine: Path, frames: Pixels) -> None:
    detector = Detector.open(pristine)
    detector.close()
    detector.close()
    with pytest.raises(EngineError, match="is closed"):
        detector(frames[0])


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        Detector.open(tmp_path / "nothing")
    with pytest.raises(BundleError, match="is not a bundle"):
        Detector.open(tmp_path)
    assert issubclass(BundleError, EdgeError)
