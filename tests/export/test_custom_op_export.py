"""``--block-form custom-op`` from options to a bundle whose file holds the block as one node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sspcab_edge.errors import OptionError
from sspcab_export import HostOptions, export
from sspcab_runtime import Detector

HOST = HostOptions(input_size=(64, 64))


def test_the_onnx_file_holds_the_operator_and_gives_the_same_verdicts(scene: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "targets": ["onnx", "openvino", "tensorrt"],
        "calibration": scene.calibration,
        "host": HOST,
    }
    plain = export(scene.checkpoint, output=tmp_path / "plain", **options).bundle
    kept = export(scene.checkpoint, output=tmp_path / "kept", block_form="custom-op", **options).bundle
    (block,) = kept.manifest.blocks
    assert block.form == "custom-op"
    assert "keeps its branches" not in (kept.path / "report.md").read_text()
    for artifact in kept.manifest.artifacts:
        assert artifact.parity.passed
    model = onnx.load(kept.path / "model.fp32.onnx")
    assert [node.op_type for node in model.graph.node if node.domain == "sspcab.edge"] == ["SSPCAB"]
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for backend in ("onnxruntime", "openvino"):
        with Detector.open(kept.path, backend=backend) as one, Detector.open(plain.path) as other:
            assert one(frame).score == pytest.approx(other(frame).score, abs=1e-6)


def test_branches_are_kept_where_they_are_asked_for(scene: Any, tmp_path: Path) -> None:
    """The reference form is the same detector with four convolutions where the folded one has one."""
    options: dict[str, Any] = {"targets": ["onnx"], "calibration": scene.calibration, "host": HOST}
    folded = export(scene.checkpoint, output=tmp_path / "folded", **options).bundle
    kept = export(scene.checkpoint, output=tmp_path / "kept", block_form="reference", **options).bundle
    assert [block.form for block in kept.manifest.blocks] == ["reference"]
    assert [block.path for block in kept.manifest.blocks] == [b.path for b in folded.manifest.blocks]
    assert kept.manifest.artifacts[0].parity.passed
    convolutions = [
        sum(node.op_type == "Conv" for node in onnx.load(bundle.path / "model.fp32.onnx").graph.node)
        for bundle in (kept, folded)
    ]
    assert convolutions[0] - convolutions[1] == 3
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with Detector.open(kept.path) as one, Detector.open(folded.path) as other:
        assert one(frame).score == pytest.approx(other(frame).score, abs=1e-6)


def test_it_is_a_form_of_one_artifact(scene: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--target onnx"):
        export(
            scene.checkpoint,
            targets=["openvino"],
            host=HOST,
            block_form="custom-op",
            output=tmp_path / "bundle",
        )
    assert not (tmp_path / "bundle").exists()
