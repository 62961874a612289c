"""Lower precision from pictures to bundle: the gate, what it finds and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from definitions.scenes import edge_network, texture, write_scene
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, GateError, MissingPackageError, OptionError, PictureError
from sspcab_export import HostOptions, export
from sspcab_export.gain import add_targets
from sspcab_export.graph import load_graph, save_graph
from sspcab_export.precision.activations import measure
from sspcab_export.precision.quantise import quantise
from sspcab_export.progress import Silent
from sspcab_export.to_tensorrt import check_graph
from sspcab_runtime import Detector
from sspcab_runtime.engines.tensorrt import check_with, import_checker
from sspcab_runtime.verify import verify

GATE = "int8:rate=0.06"
HALF_GATE = "fp16:rate=0.06"


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """120 normal pictures to calibrate with; 30 good ones and 20 scratched ones to judge on."""
    return write_scene(tmp_path_factory.mktemp("scene"), 120, 30, 20)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "edges.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, scene: tuple[Path, Path]) -> Bundle:
    """The sound network for three targets at three precisions."""
    folder = tmp_path_factory.mktemp("everything")
    return export(
        saved(folder, edge_network()),
        output=folder / "bundle",
        targets=["onnx", "openvino", "tensorrt"],
        precisions=["fp32", "fp16", "int8"],
        calibration=scene[0],
        validation=scene[1],
        gates=[GATE, HALF_GATE],
        host=HostOptions(allow_no_block=True),
    ).bundle


def test_one_threshold_and_nine_artifacts_in_four_graphs(everything: Bundle) -> None:
    manifest = everything.manifest
    names = [artifact.name for artifact in manifest.artifacts]
    assert names == [f"{t}-{p}" for p in ("fp32", "fp16", "int8") for t in ("onnx", "openvino", "tensorrt")]
    graphs = {file for artifact in manifest.artifacts for file in artifact.files if file.endswith(".onnx")}
    assert graphs == {
        "model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx", "model.int8.tensorrt.onnx",
    }  # fmt: skip
    assert [a.flavour for a in manifest.artifacts[-3:]] == ["unsigned", "unsigned", "signed"]
    assert all(artifact.parity.passed for artifact in manifest.artifacts)
    assert manifest.calibration is not None
    assert manifest.calibration.ranges == 30
    assert manifest.calibration.fit + manifest.calibration.excluded.get("suspect", 0) >= 60


def test_the_threshold_is_that_of_fp32_alone(
    everything: Bundle, scene: tuple[Path, Path], tmp_path: Path
) -> None:
    alone = export(
        saved(tmp_path, edge_network()),
        output=tmp_path / "bundle",
        calibration=scene[0],
        validation=scene[1],
        host=HostOptions(allow_no_block=True),
    ).bundle
    ours = everything.manifest.decision
    # the pictures that give ranges are looked at for suspects too, so the fit set may lose the same ones only
    assert alone.manifest.decision.threshold == ours.threshold


def test_every_artifact_proves_itself_again_here(everything: Bundle) -> None:
    checked = [one for one in verify(everything) if one.status != "missing"]
    assert {one.status for one in checked} == {"passed"}
    assert {(one.artifact.name, one.backend) for one in checked} >= {
        (f"{t}-{p}", b)
        for t, b in (("onnx", "onnxruntime"), ("openvino", "openvino"))
        for p in ("fp32", "fp16", "int8")
    }


def test_a_map_is_applied_on_the_device(everything: Bundle) -> None:
    """Scores of int8 are on the source's scale: near those of fp32 on a picture that nobody saw."""
    picture = texture(np.random.default_rng(77), 0.5)
    scores = {}
    for precision in ("fp32", "int8"):
        with Detector.open(everything.path, precision=precision, backend="onnxruntime") as detector:
            scores[precision] = detector(picture).score
    assert scores["fp32"] is not None
    assert scores["int8"] == pytest.approx(scores["fp32"], rel=0.05)


def test_graphs_for_tensorrt_build_in_the_real_parser(everything: Bundle) -> None:
    checker = import_checker()
    if checker is None:
        pytest.skip("tensorrt_rtx is not installed: no TensorRT parser to ask")
    for artifact in everything.manifest.artifacts:
        if artifact.target == "tensorrt":
            path = everything.file(artifact.files[0])
            assert not list(check_graph(load_graph(path)))
            built = check_with(checker, path, everything.manifest.inputs)
            assert built.warnings == ()
            assert len(built.plan) > 0


def test_a_dominant_channel_is_found_and_kept_float(scene: tuple[Path, Path], tmp_path: Path) -> None:
    told = Told()
    options: dict[str, Any] = {
        "targets": ["onnx", "openvino"],
        "precisions": ["int8"],
        "calibration": scene[0],
        "validation": scene[1],
        "gates": [GATE],
        "host": HostOptions(allow_no_block=True),
    }
    path = saved(tmp_path, edge_network(dominant=1000.0))
    with pytest.raises(GateError, match="verdicts") as caught:
        export(path, output=tmp_path / "none", float_budget=0, **options)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "none").exists()
    done = export(path, output=tmp_path / "bundle", float_budget=2, progress=told, **options)
    for artifact in done.bundle.manifest.artifacts:
        assert artifact.parity.passed
        assert "second" in artifact.float_layers
    assert any("keeping 1 in float: second" in note for note in told.notes)
    assert done.report["sensitivity"]["int8-unsigned"][0]["layer"] == "second"


def test_a_large_offset_is_found_and_kept_float(scene: tuple[Path, Path], tmp_path: Path) -> None:
    """12000 is within the range of half, and its steps of 8 leave nothing of the edges."""
    options: dict[str, Any] = {
        "targets": ["onnx", "tensorrt"],
        "precisions": ["fp16"],
        "calibration": scene[0],
        "validation": scene[1],
        "gates": [HALF_GATE],
        "host": HostOptions(allow_no_block=True),
    }
    path = saved(tmp_path, edge_network(offset=12000.0))
    with pytest.raises(GateError, match="emulated"):
        export(path, output=tmp_path / "none", float_budget=0, **options)
    done = export(path, output=tmp_path / "bundle", float_budget=2, **options)
    for artifact in done.bundle.manifest.artifacts:
        assert artifact.parity.passed
        assert {"first", "second"} <= set(artifact.float_layers)


def test_too_large_for_half_stays_float_without_a_search(scene: tuple[Path, Path], tmp_path: Path) -> None:
    done = export(
        saved(tmp_path, edge_network(dominant=60000.0)),
        output=tmp_path / "bundle",
        precisions=["fp16"],
        calibration=scene[0],
        validation=scene[1],
        gates=[HALF_GATE],
        float_budget=0,
        host=HostOptions(allow_no_block=True),
    )
    assert set(done.bundle.manifest.artifacts[0].float_layers) >= {"first"}


def test_too_few_pictures_to_decide_is_said_with_the_number(scene: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(GateError, match="too few pictures to decide: 149 are needed for 0 flips, 80 were"):
        export(
            saved(tmp_path, edge_network()),
            output=tmp_path / "bundle",
            precisions=["int8"],
            calibration=scene[0],
            validation=scene[1],
            host=HostOptions(allow_no_block=True),
        )


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "give --calibration"), (3, "3 of 3 calibration pictures are usable, expected at least 8")],
)
def test_int8_wants_pictures(count: int, said: str, tmp_path: Path) -> None:
    calibration = None
    if count:
        calibration, _ = write_scene(tmp_path / "few", count, 0, 0)
    with pytest.raises(OptionError, match=said):
        export(
            saved(tmp_path, edge_network()),
            output=tmp_path / "bundle",
            precisions=["int8"],
            calibration=calibration,
            host=HostOptions(allow_no_block=True),
        )


def test_an_unreadable_picture_among_good_ones_is_named(tmp_path: Path) -> None:
    calibration, _ = write_scene(tmp_path / "scene", 12, 0, 0)
    (calibration / "torn.png").write_bytes((calibration / "000.png").read_bytes()[:60])
    with pytest.raises(PictureError, match=r"torn\.png"):
        export(
            saved(tmp_path, edge_network()),
            output=tmp_path / "bundle",
            precisions=["int8"],
            calibration=calibration,
            host=HostOptions(allow_no_block=True),
        )


def test_a_quantised_source_is_refused(scene: tuple[Path, Path], tmp_path: Path) -> None:
    plain = export(
        saved(tmp_path, edge_network()), output=tmp_path / "plain", host=HostOptions(allow_no_block=True)
    ).bundle
    graph = load_graph(plain.file("model.fp32.onnx"))
    frame = texture(np.random.default_rng(1), 0.0)
    lower, _ = quantise(graph, measure(graph, [frame], lambda done: None), "unsigned")
    save_graph(lower, tmp_path / "lower.onnx")
    with pytest.raises(OptionError, match="quantised already"):
        export(
            tmp_path / "lower.onnx",
            output=tmp_path / "bundle",
            precisions=["int8"],
            calibration=scene[0],
            host=HostOptions(allow_no_block=True),
        )


def test_odd_calibration_pictures_are_each_named(tmp_path: Path) -> None:
    calibration, _ = write_scene(tmp_path / "scene", 60, 0, 0)
    rng = np.random.default_rng(9)
    odd = {f"scratched-{i}.png": texture(rng, 1.0) for i in range(6)}
    odd["black.png"] = np.zeros((32, 32, 3), np.uint8)
    odd["white.png"] = np.full((32, 32, 3), 255, np.uint8)
    for name, pixels in odd.items():
        assert cv2.imwrite(str(calibration / name), pixels)
    (calibration / "copy.png").write_bytes((calibration / "000.png").read_bytes())
    told = Told()
    done = export(
        saved(tmp_path, edge_network()),
        output=tmp_path / "bundle",
        precisions=["fp32", "int8"],
        calibration=calibration,
        gates=["int8:rate=0.3"],
        host=HostOptions(allow_no_block=True),
        progress=told,
    )
    said = "\n".join(told.notes)
    for name in (*odd, "copy.png"):
        assert name in said, name
    record = done.bundle.manifest.calibration
    assert record is not None
    assert record.excluded == {"dark": 1, "duplicate": 1, "saturated": 1, "suspect": 6}
    with pytest.raises(OptionError, match="--suspects"):
        export(
            saved(tmp_path, edge_network()),
            output=tmp_path / "other",
            calibration=calibration,
            suspects="refuse",
            host=HostOptions(allow_no_block=True),
        )


def test_a_bundle_gains_targets(scene: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = export(
        saved(tmp_path, edge_network()),
        output=tmp_path / "bundle",
        precisions=["fp32", "fp16"],
        calibration=scene[0],
        validation=scene[1],
        gates=[HALF_GATE],
        host=HostOptions(allow_no_block=True),
    ).bundle
    grown, added = add_targets(bundle, ["tensorrt", "openvino"], (), Silent())
    assert added == ("tensorrt-fp32", "tensorrt-fp16", "openvino-fp32", "openvino-fp16")
    again = Bundle.open(bundle.path)
    assert again.digest == grown.digest
    assert len(again.manifest.artifacts) == 6
    assert again.manifest.release == 5
    assert {one.status for one in verify(again)} <= {"passed", "missing"}
    with pytest.raises(OptionError, match=r"no graph for openvino-int8.*model\.fp32\.onnx"):
        add_targets(again, ["openvino"], ["int8"], Silent())


def test_a_plan_that_is_required_is_an_error_without_a_gpu(everything: Bundle) -> None:
    from sspcab_runtime.engines.tensorrt import can_build, prepare_bundle

    if can_build() is None:
        pytest.skip("a plan can be built here")
    with pytest.raises((EngineError, MissingPackageError), match=r"tensorrt|CUDA"):
        prepare_bundle(everything, require_plan=True)


def test_the_report_tells_flavour_layers_and_what_judged(everything: Bundle) -> None:
    report = json.loads((everything.path / "report.json").read_text())
    last = report["artifacts"][-1]
    assert (last["flavour"], last["target"]) == ("signed", "tensorrt")
    half = next(a for a in report["artifacts"] if a["precision"] == "fp16")
    assert "emulated" in half["parity"]["engine"]
    text = (everything.path / "report.md").read_text()
    assert "judged on" in text


def test_inputs_and_outputs_keep_their_types(everything: Bundle) -> None:
    for artifact in everything.manifest.artifacts:
        if artifact.files[0].endswith(".onnx"):
            graph = load_graph(everything.file(artifact.files[0])).graph
            assert [value.dtype for value in graph.inputs] == [ir.DataType.UINT8]
            assert {value.dtype for value in graph.outputs} == {ir.DataType.FLOAT}
