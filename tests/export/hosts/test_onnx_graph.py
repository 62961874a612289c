"""ONNX files that others made: torch's two exporters, anomalib's outputs. The block is found and folded."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from definitions.draem_plain import (
    AnomalibBlock,
    AnomalibModel,
    Discriminative,
    OfficialBlock,
    Reconstructive,
    randomise,
)
from sspcab_edge.errors import EdgeError, GraphError, HostError, OptionError
from sspcab_edge.preprocess import decode_picture, prepare
from sspcab_export import export
from sspcab_export.hosts import HostOptions
from sspcab_export.hosts.onnx_graph import load_onnx
from sspcab_export.progress import Silent
from sspcab_runtime import Detector
from sspcab_runtime.inspect import describe

SIZE = 64
SIZED = (SIZE, SIZE)


class LikeAnomalib(nn.Module):
    """anomalib 2's exported outputs: normalised score, label, map with a channel axis, mask."""

    def __init__(self, network: AnomalibModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        score, anomaly = self.network(x)
        score = ((score - 0.6) / 2 + 0.5).clamp(0, 1)
        anomaly = ((anomaly - 0.6) / 2 + 0.5).clamp(0, 1)
        return score, score > 0.5, anomaly[:, None], anomaly[:, None] > 0.5


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str) -> None:
        self.lines.append(name)

    def note(self, text: str) -> None:
        self.lines.append(text)


def network(block: nn.Module) -> AnomalibModel:
    reconstructive = Reconstructive(8)
    reconstructive.encoder["block5"] = block
    return AnomalibModel(randomise(reconstructive, 5), randomise(Discriminative(4), 6)).eval()


def save(
    module: nn.Module, path: Path, exporter: str, outputs: list[str], dynamic: bool = True, batch: int = 2
) -> None:
    """Export with torch's dynamo or legacy exporter, picture called ``input``, batch (and size) free."""
    example = torch.rand(batch, 3, SIZE, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            program = torch.onnx.export(
                module, (example,), dynamo=True, input_names=["input"], output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch")},) if dynamic else None, verbose=False,
                external_data=False,
            )  # fmt: skip
            assert program is not None
            program.save(path, external_data=False)
        else:
            axes = {"input": {0: "batch", 2: "height", 3: "width"}} if dynamic else None
            torch.onnx.export(
                module, (example,), path, dynamo=False, input_names=["input"], output_names=outputs,
                dynamic_axes=axes, opset_version=14,
            )  # fmt: skip


@pytest.mark.parametrize("exporter", ["dynamo", "legacy"])
@pytest.mark.parametrize(
    ("block", "dialect"), [(OfficialBlock(64), "official"), (AnomalibBlock(64, d=2), "anomalib")]
)
def test_the_block_is_folded_and_scores_are_the_same(
    tmp_path: Path, photographs: list[Path], exporter: str, block: nn.Module, dialect: str
) -> None:
    module, told = network(block), Told()
    save(module, tmp_path / "theirs.onnx", exporter, ["score", "map"])
    exported = export(
        tmp_path / "theirs.onnx",
        progress=told,
        targets=["onnx", "openvino"],
        host=HostOptions(input_size=(SIZE, SIZE)),
        threshold=0.4,
        output=tmp_path / "bundle",
    )
    (found,) = exported.bundle.manifest.blocks
    assert (found.dialect, found.form, found.kernel) == (dialect, "folded", 1)
    assert (found.dilation, found.reduction) == (2 if dialect == "anomalib" else 1, 8)
    assert "host onnx" in told.lines
    assert not any("no block" in line for line in told.lines)
    assert any(f"{dialect}, k'=1, d={found.dilation}, r=8, 64 channels" in line for line in told.lines)
    assert re.search(rf"{dialect} +1 +{found.dilation} +8 +64 +folded", describe(exported.bundle))
    folded = onnx.load(tmp_path / "bundle" / "model.fp32.onnx")
    assert not {"Pad", "ScatterND", "Shape"} & {node.op_type for node in folded.graph.node}
    for backend in ("onnxruntime", "openvino"):
        with Detector.open(tmp_path / "bundle", backend=backend) as detector:
            for path in photographs:
                pixels = decode_picture(path).pixels
                frame = prepare(pixels, exported.bundle.manifest.preprocess)
                with torch.no_grad():
                    score, _ = module(torch.from_numpy(frame.transpose(2, 0, 1).copy())[None] / 255)
                assert detector(pixels).score == pytest.approx(float(score), abs=1e-5)


def test_anomalibs_outputs_give_score_map_and_threshold(tmp_path: Path, photographs: list[Path]) -> None:
    module = LikeAnomalib(network(AnomalibBlock(64))).eval()
    names = ["pred_score", "pred_label", "anomaly_map", "pred_mask"]
    save(module, tmp_path / "model.onnx", "legacy", names)
    host = load_onnx(tmp_path / "model.onnx", HostOptions(input_size=(SIZE, SIZE)))
    assert host.threshold == 0.5
    assert host.map_size == (SIZE, SIZE)
    assert host.preprocess.resize == "antialias-linear"
    frame = prepare(decode_picture(photographs[0]).pixels, host.preprocess)
    with torch.no_grad():
        score, _, anomaly, _ = module(torch.from_numpy(frame.transpose(2, 0, 1).copy())[None] / 255)
    got, maps = host.source.infer({"frames": frame[None]})
    assert maps is not None
    assert got[0] == pytest.approx(float(score), abs=1e-5)
    np.testing.assert_allclose(maps[0], anomaly[0, 0].numpy(), atol=1e-4)


def test_a_graph_without_a_block_needs_the_option(tmp_path: Path) -> None:
    plain = AnomalibModel(randomise(Reconstructive(4), 1), randomise(Discriminative(4), 2)).eval()
    save(plain, tmp_path / "plain.onnx", "dynamo", ["score", "map"])
    with pytest.raises(HostError, match="--allow-no-block"):
        export(tmp_path / "plain.onnx", host=HostOptions(input_size=SIZED), output=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    host = HostOptions(allow_no_block=True, input_size=SIZED)
    told = Told()
    exported = export(tmp_path / "plain.onnx", host=host, output=tmp_path / "bundle", progress=told)
    assert exported.bundle.manifest.blocks == ()
    assert "no block in its graph" in told.lines[told.lines.index("making the graph") :]


class Small(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x.amax((1, 2, 3))


def test_a_graph_fixed_to_one_picture_stays_so(tmp_path: Path) -> None:
    save(
        network(AnomalibBlock(64)), tmp_path / "one.onnx", "dynamo", ["score", "map"], dynamic=False, batch=1
    )
    exported = export(tmp_path / "one.onnx", targets=["onnx", "openvino"], output=tmp_path / "bundle")
    manifest = exported.bundle.manifest
    assert manifest.inputs[0].shape == (1, SIZE, SIZE, 3)
    with Detector.open(tmp_path / "bundle") as detector:
        assert detector.engine.max_batch == 1
    assert "one frame a call" in " ".join(manifest.model.assumptions)
    save(network(AnomalibBlock(64)), tmp_path / "two.onnx", "dynamo", ["score", "map"], dynamic=False)
    with pytest.raises(HostError, match="takes 2 pictures at once"):
        export(tmp_path / "two.onnx", output=tmp_path / "second")


def test_a_bundles_own_graph_is_taken_as_it_is(scene: Any, tmp_path: Path) -> None:
    options = HostOptions(input_size=SIZED)
    first = export(scene.checkpoint, host=options, output=tmp_path / "first").bundle
    host = load_onnx(first.path / "model.fp32.onnx", HostOptions())
    with Detector.open(first.path) as detector:
        frame = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
        assert detector(frame).score == pytest.approx(
            float(host.source.infer({"frames": frame[None]})[0][0]), abs=1e-7
        )


@pytest.mark.parametrize(
    ("outputs", "options", "error", "said"),
    [
        (["output_17"], {}, OptionError, "gives output_17 .* --score output:output_17"),
        (["score"], {"dialect": "official"}, OptionError, "the graph itself"),
        (["score"], {"input_size": (32, 32)}, OptionError, "fixed to"),
    ],
)
def test_what_is_not_known_is_refused(
    tmp_path: Path, outputs: list[str], options: dict[str, Any], error: type[EdgeError], said: str
) -> None:
    save(Small(), tmp_path / "small.onnx", "legacy", outputs, dynamic=False, batch=1)
    with pytest.raises(error, match=said):
        load_onnx(tmp_path / "small.onnx", HostOptions(**options))


@pytest.mark.parametrize("data", [b"", b"\xff" * 300, b"\x08\x07"])
def test_damaged_files_are_one_clear_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(data)
    with pytest.raises(GraphError, match=r"bad\.onnx"):
        load_onnx(tmp_path / "bad.onnx", HostOptions())
