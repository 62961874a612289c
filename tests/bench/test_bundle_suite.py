"""``sspcab-bench BUNDLE``, mostly as users run it: in processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sspcab_bench.artifact import Job
from sspcab_bench.batched import Batched
from sspcab_bench.bundle_suite import BundleOptions, in_own_process, plan, run
from sspcab_bench.inputs import pack_files
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, MissingPackageError, OptionError
from sspcab_runtime.calls import answer
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.setting import Setting, open_engines
from sspcab_runtime.sources.pictures import Pictures

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("openvino", reason="openvino is not installed")

Command = Callable[..., "subprocess.CompletedProcess[str]"]

STAGES = ["decode", "prepare", "copy_in", "infer", "copy_out", "finish"]


def test_json_has_the_stable_keys(bench: Command, bundle_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    done = bench(bundle_path, "--seconds", "0.05", "--json", "--output", out)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads(out.read_text()) == report
    assert {"schema", "machine", "bundle", "results"} <= set(report)
    assert report["schema"] == 1
    assert report["bundle"]["digest"] == Bundle.open(bundle_path).digest
    assert report["machine"]["usable_cores"] >= 1
    assert [(r["target"], r["backend"]) for r in report["results"]] == [
        ("onnx", "onnxruntime"),
        ("openvino", "openvino"),
    ]
    for result in report["results"]:
        assert {
            "target", "precision", "backend", "threads", "streams", "batch", "fps", "latency_ms", "stages_ms",
            "load_s", "first_infer_ms", "peak_rss_mb", "stable",
        } <= set(result)  # fmt: skip
        latency = result["latency_ms"]
        assert {"mean", "p50", "p90", "p95", "p99", "max"} <= set(latency)
        assert latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
        assert list(result["stages_ms"]) == STAGES
        assert sum(result["stages_ms"].values()) == pytest.approx(latency["mean"], rel=1e-6)
        assert result["count"] >= 10
        assert (result["precision"], result["threads"], result["streams"], result["batch"]) == (
            "fp32", None, 1, 1,
        )  # fmt: skip
        assert result["fps"] > 0
        assert result["engine_fps"] > 0
        assert result["load_s"] > 0
        assert 20 < result["peak_rss_mb"] < 2000
        assert result["parity"]["checked"] == result["parity"]["inputs"] == 7
        assert result["parity"]["max_abs_score_diff"] < 1e-5
    assert "measuring onnx-fp32 on onnxruntime" in done.stderr


@pytest.mark.parametrize(("streams", "batch"), [(2, 1), (1, 3), (2, 2)])
def test_streams_and_batches(bundle_path: Path, streams: int, batch: int) -> None:
    """Verdicts are still compared, and a batch's stages are those of all its frames."""
    options = BundleOptions(("onnxruntime",), 1, 0.05, None, streams, batch)
    (found,) = run(Bundle.open(bundle_path), options)
    assert (found.streams, found.batch) == (streams, batch)
    assert found.checked == found.inputs
    assert found.max_abs_score_diff < 1e-5
    assert list(found.stages) == STAGES
    assert found.fps > 0
    assert found.engine_fps > 0


def test_a_batch_gives_the_verdicts_of_its_frames(bright: Bundle) -> None:
    """The last frame's, for any number of frames; a frame that waits has no request."""
    frames = list(Pictures("pack", pack_files(bright)))
    artifact = bright.manifest.artifacts[0]
    front_end = open_front_end(bright.manifest, artifact, 0.5)
    with open_engines(bright, Setting(artifact, "onnxruntime"))[0] as engine:
        for batch in (1, 2, 3):
            batched = Batched(front_end, batch)
            for number, frame in enumerate(frames[: 2 * batch]):
                request = batched.push(frame)
                assert request is not None
                assert bool(request.inputs) == ((number + 1) % batch == 0)
                if not request.inputs:
                    assert batched.merge({}, request.context).score is None
                    continue
                assert len(request.inputs["frames"]) == batch
                alone = front_end.push(frame)
                assert alone is not None
                expected = front_end.merge(answer(engine, alone), alone.context)
                found = batched.merge(answer(engine, request), request.context)
                assert found.score == pytest.approx(expected.score, rel=1e-6)


def test_text_for_a_source_on_one_backend(bench: Command, bundle_path: Path, tmp_path: Path) -> None:
    """Options may stand before the bundle; pictures of any size are measured on."""
    rng = np.random.default_rng(3)
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / f"pictures/{number}.png"), pixels)
    done = bench(
        "--seconds", "0.05", "--backend", "onnxruntime", "--threads", "1", bundle_path,
        "--source", tmp_path / "pictures",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"on {tmp_path / 'pictures'}" in done.stdout
    assert "onnx-fp32" in done.stdout
    assert "openvino-fp32" not in done.stdout
    for word in (*STAGES, "p99", "engine fps", "load s", "peak RSS MiB", "7 of 7", "bright, host onnx"):
        assert word in done.stdout
    assert "nan" not in done.stdout.lower()


def test_wrong_verdicts_are_exit_3(bench: Command, build: Callable[..., Bundle]) -> None:
    wrong = build(wrong_score_of=4, targets=("onnx",))
    done = bench(wrong.path, "--seconds", "0.05")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "does not give the source's verdicts while measured: scores differ by 0.01" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_maps_are_exit_3(bench: Command, build: Callable[..., Bundle], bundle_path: Path) -> None:
    """Also where frames come from elsewhere: the pack is replayed first."""
    wrong = build(wrong_map=True, targets=("onnx",))
    done = bench(wrong.path, "--seconds", "0.05", "--source", bundle_path / "parity/000.png")
    assert done.returncode == 3
    assert "maps differ by 1" in done.stderr


def test_bundle_that_is_none_or_was_changed(bench: Command, bundle_path: Path, tmp_path: Path) -> None:
    done = bench(tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not exist, expected a bundle folder" in done.stderr
    changed = Path(shutil.copytree(bundle_path, tmp_path / "changed"))
    with (changed / "model.fp32.onnx").open("ab") as file:
        file.write(b"\0")
    done = bench(changed)
    assert (done.returncode, done.stdout) == (1, "")
    assert "was changed" in done.stderr


def test_sources_that_cannot_be_measured_on(bench: Command, bundle_path: Path, tmp_path: Path) -> None:
    done = bench(bundle_path, "--source", tmp_path / "nothing")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert "measuring" not in done.stderr
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = bench(
        bundle_path, "--source", tmp_path / "broken.png", "--seconds", "0.05", "--backend", "onnxruntime"
    )
    assert done.returncode == 1
    assert "broken.png cannot be decoded" in done.stderr
    assert "Traceback" not in done.stderr


def test_output_is_refused_before_measuring(bench: Command, bundle_path: Path, tmp_path: Path) -> None:
    done = bench(bundle_path, "--output", tmp_path / "no/such/folder/report.json")
    assert done.returncode == 1
    assert "does not exist: make it" in done.stderr
    assert "measuring" not in done.stderr


def test_plan_keeps_the_manifests_order(bundle_path: Path, build: Callable[..., Bundle]) -> None:
    bundle = Bundle.open(bundle_path)
    pairs = [(artifact.name, backend) for artifact, backend in plan(bundle, BundleOptions())]
    assert pairs == [("onnx-fp32", "onnxruntime"), ("openvino-fp32", "openvino")]
    only = plan(bundle, BundleOptions(backends=("openvino",)))
    assert [(artifact.name, backend) for artifact, backend in only] == [("openvino-fp32", "openvino")]
    with pytest.raises(OptionError, match="no artifact for backend openvino"):
        plan(build(targets=("onnx",)), BundleOptions(backends=("openvino",)))
    with pytest.raises(OptionError, match="unknown backend"):
        plan(bundle, BundleOptions(backends=("tpu",)))


def test_nothing_installed_says_what_to_install(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sspcab_bench.bundle_suite.installed", lambda backend: False)
    with pytest.raises(MissingPackageError, match=r"pip install 'onnxruntime>=1\.18'"):
        plan(Bundle.open(bundle_path), BundleOptions())


def test_a_backend_that_is_missing_is_named(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sspcab_bench.bundle_suite.installed", lambda backend: backend == "openvino")
    monkeypatch.setattr("sspcab_bench.bundle_suite.in_own_process", lambda job: job)
    said: list[str] = []
    jobs = run(Bundle.open(bundle_path), BundleOptions(), said.append)
    assert len(jobs) == 1
    assert "not measured: onnxruntime is not installed, needed for artifact onnx-fp32: pip install" in said[0]
    assert said[1:] == ["measuring openvino-fp32 on openvino"]


def test_a_measuring_process_that_dies_is_an_engine_error(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(str(bundle_path), "onnx-fp32", "onnxruntime", None, 0.05, None)
    monkeypatch.setattr("sspcab_bench.bundle_suite._WORKER", "sspcab_bench.no_such_module")
    with pytest.raises(EngineError, match="onnx-fp32 on onnxruntime died with status 1"):
        in_own_process(job)
