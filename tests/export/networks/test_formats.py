"""One network with two different blocks, from every format: equal scores, both blocks folded in each."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from definitions.draem_plain import AnomalibBlock, OfficialBlock, randomise
from sspcab_edge.preprocess import decode_picture
from sspcab_export import HostOptions, export
from sspcab_export.hosts import LoadedHost
from sspcab_export.passes import optimise
from sspcab_export.reading import read_model
from sspcab_export.running import GraphRunner
from sspcab_runtime import Detector

SIDE = 48
FACTORY = """
from definitions_of_test import TwoBlocks

def make():
    return TwoBlocks()
"""


class TwoBlocks(nn.Module):
    """Repaints a picture; its blocks differ in k, d and dialect."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.one = OfficialBlock(16)
        self.other = AnomalibBlock(16, k=2, d=2)
        self.last = nn.ConvTranspose2d(16, 3, 2, stride=2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"made": self.last(torch.relu(self.other(torch.relu(self.one(torch.relu(self.first(x)))))))}


class Alone(nn.Module):
    """The reconstruction itself, which TorchScript traces without a dict."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        return self.network(x)["made"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return randomise(TwoBlocks(), 5).eval()


def digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def weights(network: nn.Module, path: Path) -> dict[str, Any]:
    torch.save(network.state_dict(), path)
    return {"factory": "two_blocks_code:make"}


def wrapped_weights(network: nn.Module, path: Path) -> dict[str, Any]:
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    return {"factory": "two_blocks_code:make"}


def lightning_weights(network: nn.Module, path: Path) -> dict[str, Any]:
    torch.save({"epoch": 3, "state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}, path)
    return {"factory": "two_blocks_code:make"}


def tensors(network: nn.Module, path: Path) -> dict[str, Any]:
    save_file({f"model.{k}": v for k, v in network.state_dict().items()}, path)
    return {"factory": "two_blocks_code:make"}


def program(network: nn.Module, path: Path) -> dict[str, Any]:
    example = torch.zeros(2, 3, SIDE, SIDE)
    free = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=free), path)
    return {"trust": digest(path)}


def fixed_program(network: nn.Module, path: Path) -> dict[str, Any]:
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, SIDE, SIDE),)), path)
    return {"trust": digest(path)}


def trace(network: nn.Module, path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Alone(network), torch.zeros(1, 3, SIDE, SIDE))  # type: ignore[no-untyped-call]
        traced.save(path)
    return {"trust": digest(path)}


def script(network: nn.Module, path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(path)  # type: ignore[no-untyped-call]
    return {"trust": digest(path)}


def graph(network: nn.Module, path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(2, 3, SIDE, SIDE),), path, dynamo=True, input_names=["picture"],
            output_names=["made"], dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False,
            verbose=False,
        )  # fmt: skip
    return {}


def older_graph(network: nn.Module, path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Alone(network), (torch.zeros(2, 3, SIDE, SIDE),), path, dynamo=False, input_names=["picture"],
            output_names=["made"], dynamic_axes={"picture": {0: "batch"}}, opset_version=14,
        )  # fmt: skip
    return {}


FORMATS: dict[str, tuple[str, Callable[[nn.Module, Path], dict[str, Any]]]] = {
    "state dict": ("weights.pth", weights),
    "state dict of DataParallel": ("weights.ckpt", wrapped_weights),
    "Lightning checkpoint": ("weights.ckpt", lightning_weights),
    "safetensors of a model": ("weights.safetensors", tensors),
    "torch.export": ("network.pt2", program),
    "torch.export, one picture": ("network.pt2", fixed_program),
    "TorchScript, traced": ("network.ts", trace),
    "TorchScript, compiled": ("network.ts", script),
    "ONNX": ("network.onnx", graph),
    "ONNX, older exporter": ("network.onnx", older_graph),
}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own module, in the working directory."""
    (tmp_path / "two_blocks_code.py").write_text(FACTORY)
    monkeypatch.setitem(sys.modules, "definitions_of_test", sys.modules[__name__])
    monkeypatch.delitem(sys.modules, "two_blocks_code", raising=False)
    monkeypatch.chdir(tmp_path)


def loaded(path: Path, told: dict[str, Any]) -> LoadedHost:
    sized = not path.name.endswith((".pt2", ".onnx"))
    size = (SIDE, SIDE) if sized else None
    return read_model([path], HostOptions(score="error", input_size=size, **told), None)[0]


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_scores_and_folds_both_blocks(
    name: str, network: nn.Module, tmp_path: Path
) -> None:
    file, save = FORMATS[name]
    host = loaded(tmp_path / file, save(network, tmp_path / file))
    frames = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)
    picture = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted = (network(picture)["made"] - picture).square().mean((1, 2, 3)).numpy()
    scores, maps = host.source.infer({"frames": frames})
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    assert maps is not None
    assert maps.shape == (3, SIDE, SIDE)
    model, blocks = optimise(host.source.graph())
    facts = {(b.dialect, b.kernel, b.dilation, b.reduction, b.channels, b.form) for b in blocks}
    assert facts == {("official", 1, 1, 8, 16, "folded"), ("anomalib", 2, 2, 8, 16, "folded")}
    run = GraphRunner(model)
    np.testing.assert_allclose([run(frame)["score"][0] for frame in frames], wanted, rtol=1e-5)
    assert host.batch == (1 if name == "torch.export, one picture" else None)
    assert host.score == "map-mean"


@pytest.mark.parametrize("name", ["torch.export", "ONNX"])
def test_bundles_give_the_same_scores(name: str, network: nn.Module, tmp_path: Path) -> None:
    file, save = FORMATS[name]
    told = save(network, tmp_path / file)
    bundle = export(
        tmp_path / file,
        targets=["onnx", "openvino"],
        threshold=0.1,
        host=HostOptions(score="error", **told),
        output=tmp_path / "bundle",
    ).bundle
    picture = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture[..., ::-1])
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        wanted = float((network(x)["made"] - x).square().mean())
    for backend in ("onnxruntime", "openvino"):
        with Detector.open(bundle.path, backend=backend) as detector:
            verdict = detector(decode_picture(tmp_path / "picture.png").pixels)
        assert verdict.score == pytest.approx(wanted, rel=1e-5)
