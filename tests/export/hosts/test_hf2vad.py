"""HF2-VAD from checkpoints in the public layout, made by a second plain definition of both networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from definitions.hf2vad_plain import PlainHfVad
from definitions.ssmctb_plain import PlainBlock
from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.ports import object_ports
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.graph import save_graph
from sspcab_export.hosts import HostOptions, LoadedHost, load_host
from sspcab_export.passes import optimise
from sspcab_export.to_tensorrt import check_graph
from sspcab_runtime.engines.table import load_engine
from sspcab_runtime.engines.tensorrt import check_with, import_checker

STATISTICS = (9000.0, 700.0, 400.0, 50.0)
Arrays = dict[str, npt.NDArray[Any]]


def plain(block: nn.Module | None = None, memory_block: nn.Module | None = None) -> PlainHfVad:
    torch.manual_seed(7)
    network = PlainHfVad(block=block, memory_block=memory_block).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network


def save(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save({"model_state_dict": weights, "step": 9, "optimizer_state_dict": {}}, folder / "best.pth")
    return folder / "best.pth"


def load(path: Path, **options: Any) -> LoadedHost:
    return load_host(read_checkpoint(checkpoint_files([path])), HostOptions(**options))


def objects(count: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "appearance": rng.integers(0, 256, (count, 5, 32, 32, 3), dtype=np.uint8),
        "flow": rng.normal(0, 2, (count, 4, 32, 32, 2)).astype(np.float32),
    }


def expected(network: PlainHfVad, inputs: Arrays) -> npt.NDArray[np.float64]:
    flow, frame = network.errors(inputs["appearance"], inputs["flow"])
    return (flow - STATISTICS[0]) / STATISTICS[1] + 0.1 * (frame - STATISTICS[2]) / STATISTICS[3]


@pytest.mark.parametrize("kind", ["official", "ssmctb", None])
def test_scores_are_those_of_the_plain_definition_on_every_engine(tmp_path: Path, kind: str | None) -> None:
    block = None if kind is None else PlainBlock(8, kind)
    network = plain(block, PlainBlock(4, "official", 4) if kind == "official" else None)
    path = save(tmp_path, network.state_dict())
    host = load(path, statistics=STATISTICS, allow_no_block=kind is None)
    assert host.name == "hf2-vad"
    assert [spec.dialect for spec in host.blocks if spec.path == "vunet.decoder.sspcab"] == [kind] * (
        kind is not None
    )
    inputs = objects(5)
    want = expected(network, inputs)
    limit = 1e-4 * max(1.0, float(np.subtract(*np.percentile(want, [75, 25]))))
    got, maps = host.source.infer(inputs)
    assert maps is None
    assert np.abs(got - want).max() <= limit
    graph, blocks = optimise(host.source.graph())
    assert len(blocks) == {"official": 2, "ssmctb": 1, None: 0}[kind]
    assert all(spec.form == "folded" for spec in blocks)
    save_graph(graph, tmp_path / "model.onnx")
    assert host.video is not None
    ports = object_ports(32, 32, (-4, -3, -2, -1, 0), ((-4, -3), (-3, -2), (-2, -1), (-1, 0)))
    assert host.video.inputs == ports[0]
    for backend in ("onnxruntime", "openvino"):
        with load_engine(backend, tmp_path / "model.onnx", *ports) as engine:
            assert np.abs(np.asarray(engine.infer(inputs)["score"], np.float64) - want).max() <= limit


def test_tensorrt_takes_the_graph(tmp_path: Path) -> None:
    """Pixels go into a Cast and nowhere else; and where it is installed, NVIDIA's parser builds it all."""
    host = load(save(tmp_path, plain(PlainBlock(8)).state_dict()), statistics=STATISTICS)
    graph, _ = optimise(host.source.graph())
    assert list(check_graph(graph)) == []
    checker = import_checker()
    if checker is None:
        pytest.skip("tensorrt_rtx is not installed: no real parser and builder to check with")
    save_graph(graph, tmp_path / "model.onnx")
    assert host.video is not None
    inputs = object_ports(32, 32, (-4, -3, -2, -1, 0), ((-4, -3), (-3, -2), (-2, -1), (-1, 0)))[0]
    assert check_with(checker, tmp_path / "model.onnx", inputs).warnings == ()


def test_memories_are_stored_once(tmp_path: Path) -> None:
    network = plain(PlainBlock(8))
    host = load(save(tmp_path, network.state_dict()), statistics=STATISTICS)
    graph, _ = optimise(host.source.graph())
    save_graph(graph, tmp_path / "model.onnx")
    shapes = [tuple(value.shape) for key, value in network.state_dict().items() if "memMatrix" in key]
    kept = [tuple(value.shape) for value in graph.graph.initializers.values() if value.shape is not None]
    for slots, width in shapes:
        assert kept.count((slots, width)) + kept.count((width, slots)) == 1
    weights = sum(value.numel() * 4 for value in network.state_dict().values())
    assert (tmp_path / "model.onnx").stat().st_size < 1.02 * weights


def test_newer_weight_norm_names_are_read(tmp_path: Path) -> None:
    weights = {}
    for key, value in plain(PlainBlock(8)).state_dict().items():
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            key = key.replace(f"conv.{old}", f"conv.parametrizations.weight.{new}")
        weights[key] = value
    first = load(save(tmp_path, weights), statistics=STATISTICS).source.infer(objects(2))[0]
    second = load(save(tmp_path, plain(PlainBlock(8)).state_dict()), statistics=STATISTICS)
    assert np.array_equal(first, second.source.infer(objects(2))[0])


def test_statistics_are_fitted_to_normal_objects(tmp_path: Path) -> None:
    network = plain(PlainBlock(8))
    host = load(save(tmp_path, network.state_dict()), weights=(2.0, 0.5))
    assert host.fit is not None
    inputs = objects(40)
    entries = [{name: array[n] for name, array in inputs.items()} for n in range(40)]
    seen: list[int] = []
    fitted = host.fit(entries, seen.append)
    assert seen == [32, 40]
    assert fitted.fit is None
    flow, frame = network.errors(inputs["appearance"], inputs["flow"])
    want = 2 * (flow - flow.mean()) / flow.std() + 0.5 * (frame - frame.mean()) / frame.std()
    assert np.abs(fitted.source.infer(inputs)[0] - want).max() <= 1e-3
    assert fitted.video is not None
    assert fitted.video.empty_score == pytest.approx(
        -2 * flow.mean() / flow.std() - 0.5 * frame.mean() / frame.std(), rel=1e-4
    )
    with pytest.raises(HostError, match="standard deviation 0"):
        host.fit([entries[0]] * 3, seen.append)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("vunet.zc.blocks.1.pre.gamma"), "has no vunet.zc.blocks.1.pre.gamma"),
        (lambda w: w.update({"memAE.mem2.memMatrix": torch.zeros(40, 1000)}), "expected .slots, 16"),
        (lambda w: w.update({"extra.weight": torch.zeros(3)}), "weights that HF2-VAD has not, such as extra"),
        (lambda w: w.update({"vunet.zc.up.up.conv.weight_v": torch.zeros(64, 16, 3, 3)}), "length 0"),
        (lambda w: [w.pop(k) for k in list(w) if "sspcab" in k], "without the SSPCAB block"),
        (
            lambda w: w.update(
                {k.replace("decoder.sspcab", "zc.odd"): w.pop(k) for k in list(w) if "sspcab" in k}
            ),
            "has a block at vunet.zc.odd, where HF2-VAD has no convolution",
        ),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    weights = dict(plain(PlainBlock(8)).state_dict())
    change(weights)
    with pytest.raises(HostError, match=message):
        load(save(tmp_path, weights), statistics=STATISTICS)


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, plain(PlainBlock(8)).state_dict())
    with pytest.raises(OptionError, match="two numbers from 0"):
        load(path, weights=(-1.0, 1.0))
    with pytest.raises(OptionError, match="--input-size is of no use"):
        load(path, input_size=(64, 64))
    with pytest.raises(HostError, match="standard deviation 0"):
        load(path, statistics=(1.0, 0.0, 1.0, 1.0))
    with pytest.raises(OptionError, match="dilation 40"):
        load(path, dilation=40)
