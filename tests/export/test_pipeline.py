"""The whole path in one process: checkpoint and pictures in, a verified bundle out, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from definitions.draem_plain import authors_verdict
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EdgeError, GateError, OptionError, OutputError, PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_export import Exported, HostOptions, export
from sspcab_export.passes import optimise
from sspcab_runtime import Detector

SIZE = (64, 64)


@pytest.fixture(scope="module")
def exported(scene: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A bundle for both targets, judged on labelled pictures."""
    return export(
        scene.checkpoint,
        targets=["onnx", "openvino"],
        calibration=scene.calibration,
        validation=scene.validation,
        host=HostOptions(input_size=SIZE),
        output=tmp_path_factory.mktemp("out") / "bundle",
    )


def test_every_artifact_passed_and_says_how_it_was_judged(exported: Exported) -> None:
    manifest = Bundle.open(exported.bundle.path).manifest
    assert [artifact.name for artifact in manifest.artifacts] == ["onnx-fp32", "openvino-fp32"]
    for artifact in manifest.artifacts:
        parity = artifact.parity
        assert parity.passed
        assert parity.scene == "given"
        assert parity.pictures == 12 + 20 + parity.blends
        assert parity.blends > 0
        assert parity.labelled == 12 + 20
        assert parity.flips == 0
        assert parity.gate.score_tolerance is not None
        assert parity.max_abs_score_diff <= parity.gate.score_tolerance
        assert parity.auroc_source == pytest.approx(parity.auroc_artifact)
    assert manifest.decision.fitted_on == 12
    assert [(b.path, b.dialect, b.form) for b in manifest.blocks] == [
        ("encoder.block5", "official", "folded")
    ]
    assert not list(exported.bundle.path.rglob("*.data"))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_verdicts_on_files_are_the_training_codes(exported: Exported, scene: Any, backend: str) -> None:
    with Detector.open(exported.bundle.path, backend=backend) as detector:
        threshold = detector.threshold
        assert threshold is not None
        for path in sorted(scene.validation.rglob("*.png")):
            score, anomaly = authors_verdict(scene.reconstructive, scene.discriminative, path, SIZE[0])
            verdict = detector(decode_picture(path).pixels)
            assert verdict.score == pytest.approx(score, abs=1e-5)
            assert verdict.anomalous == (score > threshold)
            assert verdict.map is not None
            np.testing.assert_allclose(verdict.map, anomaly, atol=1e-4)


def test_the_graph_takes_raw_frames_and_casts_them_first(exported: Exported) -> None:
    graph = ir.load(exported.bundle.path / "model.fp32.onnx").graph
    (frames,) = graph.inputs
    assert (frames.name, frames.dtype) == ("frames", ir.DataType.UINT8)
    assert [use.op_type for use in frames.consumers()] == ["Cast"]
    assert [value.name for value in graph.outputs] == ["score", "map"]
    operators = {node.op_type for node in graph}
    assert not operators & {"BatchNormalization", "Pad", "Gemm", "ReduceMean"}


def test_the_report_is_the_stable_object(exported: Exported) -> None:
    report = json.loads((exported.bundle.path / "report.json").read_text())
    assert {"schema", "bundle", "host", "blocks", "threshold", "artifacts"} <= set(report)
    assert report["schema"] == 1
    assert set(report["blocks"][0]) == {
        "path",
        "dialect",
        "kernel",
        "dilation",
        "reduction",
        "channels",
        "form",
    }
    artifact = report["artifacts"][0]
    assert {"target", "precision", "files", "size_bytes", "parity"} <= set(artifact)
    wanted = {"pictures", "labelled", "max_abs_score_diff", "max_abs_map_diff", "flips", "flips_upper95"}
    assert wanted | {"auroc_source", "auroc_artifact", "passed"} <= set(artifact["parity"])
    rounding = report["rounding"]
    assert (rounding["method"], rounding["inputs"], rounding["trusted"]) == ("float64", 5, True)
    assert 0 < rounding["score"] < 1e-5
    assert 0 < rounding["map"] < 1e-4
    assert report["rounding"] == json.loads((exported.bundle.path / "manifest.json").read_text())["rounding"]
    text = (exported.bundle.path / "report.md").read_text()
    assert "Rounding alone moves the source's score by up to" in text
    assert "Limits of fp32: flips 0, score 0.0001, map 0.001, mean of a map 5e-05." in text
    assert "| onnx-fp32 |" in text
    assert "passed" in text


def test_without_pictures_there_is_no_threshold_and_the_report_says_not_your_scene(
    scene: Any, tmp_path: Path
) -> None:
    exported = export(scene.checkpoint, host=HostOptions(input_size=SIZE), output=tmp_path / "bundle")
    assert exported.report["threshold"] is None
    (artifact,) = exported.bundle.manifest.artifacts
    assert artifact.parity.scene == "built-in"
    assert artifact.parity.flips is None
    assert artifact.parity.passed
    assert "not your scene" in (tmp_path / "bundle" / "report.md").read_text()
    with Detector.open(tmp_path / "bundle") as detector:
        assert detector(np.zeros((10, 10, 3), np.uint8)).anomalous is None


@pytest.mark.parametrize(
    ("options", "policy", "fitted_on"),
    [
        ({"threshold": 0.2}, "given", 0),
        ({"calibration": True, "quantile": 0.8}, "quantile", 12),
        ({"calibration": True, "false_alarm_rate": 0.2}, "false-alarm-rate", 12),
        ({"validation": True}, "best-f1", 10),
    ],
)
def test_every_policy_of_the_threshold(
    scene: Any, tmp_path: Path, options: dict[str, Any], policy: str, fitted_on: int
) -> None:
    folders = {name: getattr(scene, name) for name in ("calibration", "validation") if options.get(name)}
    decision = export(
        scene.checkpoint,
        host=HostOptions(input_size=SIZE),
        output=tmp_path / "bundle",
        **{**options, **folders},
    ).bundle.manifest.decision
    assert (decision.policy, decision.fitted_on) == (policy, fitted_on)
    if policy == "given":
        assert decision.threshold == 0.2


def test_only_openvino_holds_no_onnx_file(scene: Any, tmp_path: Path) -> None:
    exported = export(
        scene.checkpoint, targets=["openvino"], host=HostOptions(input_size=SIZE), output=tmp_path / "bundle"
    )
    names = {entry.path for entry in exported.bundle.manifest.files}
    assert {"openvino/model.fp32.xml", "openvino/model.fp32.bin"} <= names
    assert not any(name.endswith(".onnx") for name in names)


def test_another_dialect_is_exported_in_its_own_form_and_recorded(scene: Any, tmp_path: Path) -> None:
    exported = export(
        scene.checkpoint,
        targets=["onnx", "openvino"],
        calibration=scene.calibration,
        host=HostOptions(dialect="tensorflow", input_size=SIZE),
        output=tmp_path / "bundle",
    )
    (block,) = exported.bundle.manifest.blocks
    assert (block.dialect, block.form) == ("tensorflow", "reference")
    assert exported.bundle.manifest.model.overrides["dialect"] == "tensorflow"
    assert all(artifact.parity.passed for artifact in exported.bundle.manifest.artifacts)


def test_an_artifact_that_is_off_is_no_bundle(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate has teeth: one bias of the last convolution moved by a little."""

    def spoiled(model: ir.Model) -> Any:
        graph, blocks = optimise(model)
        last = [node for node in graph.graph if node.op_type == "Conv"][-1]
        bias = last.inputs[2]
        assert bias is not None
        assert bias.const_value is not None
        bias.const_value = ir.tensor(bias.const_value.numpy() + np.array([0.0, 0.02], np.float32))
        return graph, blocks

    monkeypatch.setattr("sspcab_export.pipeline.optimise", spoiled)
    with pytest.raises(GateError, match="scores differ by") as caught:
        export(
            scene.checkpoint,
            calibration=scene.calibration,
            host=HostOptions(input_size=SIZE),
            output=tmp_path / "bundle",
        )
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_is_replaced_only_when_told_to(scene: Any, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    first = export(scene.checkpoint, host=HostOptions(input_size=SIZE), output=output).bundle.digest
    with pytest.raises(OutputError, match="--force"):
        export(scene.checkpoint, host=HostOptions(input_size=SIZE), output=output)
    assert Bundle.open(output).digest == first
    second = export(scene.checkpoint, host=HostOptions(input_size=SIZE), output=output, force=True, release=2)
    assert Bundle.open(output).manifest.release == 2
    assert second.bundle.digest != first
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_with_other_content_is_never_replaced(scene: Any, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="other content"):
        export(scene.checkpoint, host=HostOptions(input_size=SIZE), output=tmp_path / "precious", force=True)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"targets": []}, OptionError, "no target"),
        ({"targets": ["onnx", "onnx"]}, OptionError, "twice"),
        ({"targets": ["coreml"]}, OptionError, "unknown target 'coreml'"),
        ({"precisions": ["int4"]}, OptionError, "unknown precision 'int4'"),
        ({"quantile": 0.9}, OptionError, "--calibration"),
        ({"quantile": 0.9, "threshold": 1.0}, OptionError, "contradict"),
        ({"threshold": float("nan")}, OptionError, "finite"),
        ({"calibration": "empty"}, PictureError, "holds no images"),
        ({"calibration": "absent"}, PictureError, "not a folder"),
        ({"calibration": "broken"}, PictureError, r"bad\.png ends before its image does"),
        ({"calibration": "single"}, OptionError, "cannot both fit the threshold and judge"),
        ({"validation": "single"}, PictureError, "has no layout that is known"),
    ],
)
def test_bad_options_and_pictures_leave_nothing(
    scene: Any, tmp_path: Path, options: dict[str, Any], error: type[EdgeError], said: str
) -> None:
    work = tmp_path / "work"
    for name in ("empty", "broken", "single"):
        (work / name).mkdir(parents=True)
    good = sorted(scene.calibration.iterdir())[0].read_bytes()
    for name in ("broken", "single"):
        (work / name / "0.png").write_bytes(good)
    (work / "broken" / "bad.png").write_bytes(good[:100])
    given = {
        name: work / value if name in ("calibration", "validation") else value
        for name, value in options.items()
    }
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(error, match=said):
        export(scene.checkpoint, host=HostOptions(input_size=SIZE), output=out / "bundle", **given)
    assert list(out.iterdir()) == []


def test_an_output_without_a_parent_is_refused(scene: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a folder"):
        export(scene.checkpoint, output=tmp_path / "absent" / "bundle")
