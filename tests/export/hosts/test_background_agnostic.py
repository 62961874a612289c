"""The Background-Agnostic framework, in the layout of docs/checkpoints.md, against a plain definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from definitions.background_agnostic_plain import PlainFramework
from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.ports import object_ports
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.graph import load_graph, save_graph
from sspcab_export.hosts import HostOptions, LoadedHost, load_host
from sspcab_export.passes import optimise
from sspcab_export.passes.fold_upsample import fold_upsample
from sspcab_export.to_openvino import export_files
from sspcab_runtime.engines.table import load_engine

PORTS = object_ports(64, 64, (0,), ((0, -1), (0, 1)))


def save(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save({"state_dict": weights}, folder / "baf.pt")
    return folder / "baf.pt"


def load(path: Path, **options: Any) -> LoadedHost:
    return load_host(read_checkpoint(checkpoint_files([path])), HostOptions(**options))


def objects(count: int) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(1)
    return {
        "appearance": rng.integers(0, 256, (count, 1, 64, 64, 3), dtype=np.uint8),
        "flow": rng.normal(0, 2, (count, 2, 64, 64, 2)).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("kind", "skip", "colours"),
    [("official", False, 1), ("tensorflow", True, 3), ("ssmctb", True, 1), (None, False, 3)],
)
def test_scores_are_those_of_the_plain_definition_on_every_engine(
    tmp_path: Path, kind: str | None, skip: bool, colours: int
) -> None:
    torch.manual_seed(2)
    plain = PlainFramework((12, 8, 8), kind, skip=skip, colours=colours)
    host = load(save(tmp_path, plain.weights()), allow_no_block=kind is None)
    assert host.name == "background-agnostic"
    assert host.video is not None
    assert host.video.inputs == PORTS[0]
    assert [spec.path for spec in host.blocks] == [
        f"{name}.decoder.2" for name in ("appearance", "backward", "forward") if kind is not None
    ]
    inputs = objects(5)
    want = plain.scores(inputs["appearance"], inputs["flow"])
    got, _ = host.source.infer(inputs)
    assert np.abs(got - want).max() <= 1e-6
    graph, blocks = optimise(host.source.graph())
    assert [spec.form for spec in blocks] == [
        "reference" if kind == "tensorflow" else "folded" for _ in host.blocks
    ]
    save_graph(graph, tmp_path / "model.fp32.onnx")
    (xml, _) = export_files(tmp_path / "model.fp32.onnx", tmp_path, "fp32")
    for backend, file in (("onnxruntime", "model.fp32.onnx"), ("openvino", xml)):
        with load_engine(backend, tmp_path / file, *PORTS) as engine:
            assert np.abs(np.asarray(engine.infer(inputs)["score"], np.float64) - want).max() <= 1e-4


@pytest.mark.parametrize(("widths", "folded"), [((24, 24, 24), 6), ((8, 8, 8), 0)])
def test_upsampling_is_folded_for_openvino_where_layers_are_wide(
    tmp_path: Path, widths: tuple[int, int, int], folded: int
) -> None:
    """Two of the three in each stream: the block is no plain convolution."""
    host = load(save(tmp_path, PlainFramework(widths).weights()))
    graph, _ = optimise(host.source.graph())
    save_graph(graph, tmp_path / "model.fp32.onnx")
    export_files(tmp_path / "model.fp32.onnx", tmp_path, "fp32")
    written = (tmp_path / "openvino/model.fp32.xml").read_text().count('type="DepthToSpace"')
    assert written == folded
    model = load_graph(tmp_path / "model.fp32.onnx")
    assert fold_upsample(model).changes == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("forward.decoder.3.bias"), None),
        (lambda w: w.pop("backward.classifier.head.weight"), "has no backward.classifier.head.weight"),
        (
            lambda w: w.update({"appearance.encoder.0.weight": torch.zeros(8, 2, 3, 3)}),
            "expected 1 or 3 channels",
        ),
        (lambda w: w.update({"extra": torch.zeros(1)}), "weights that the framework has not, such as extra"),
        (lambda w: w.update({"forward.decoder.3.weight": torch.zeros(1, 8, 3, 3)}), "expected 2"),
        (
            lambda w: w.update({"forward.encoder.1.weight": torch.full((8, 8, 3, 3), np.nan)}),
            "no finite numbers",
        ),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, change: Any, message: str | None) -> None:
    weights = PlainFramework((8, 8, 8)).weights()
    change(weights)
    if message is None:  # a convolution may do without a bias
        load(save(tmp_path, weights))
        return
    with pytest.raises(HostError, match=message):
        load(save(tmp_path, weights))


def test_without_a_block_and_of_odd_size(tmp_path: Path) -> None:
    path = save(tmp_path, PlainFramework((8, 8, 8), None).weights())
    with pytest.raises(HostError, match="without the SSPCAB block"):
        load(path)
    with pytest.raises(OptionError, match="crops are 60x64"):
        load(path, allow_no_block=True, input_size=(60, 64))
