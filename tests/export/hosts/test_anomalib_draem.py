"""anomalib's Lightning checkpoints, versions 1 and 2, with neither anomalib nor lightning installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from definitions.draem_plain import (
    AnomalibBlock,
    AnomalibModel,
    Discriminative,
    Reconstructive,
    anomalib_resized,
    anomalib_verdict,
    randomise,
)
from sspcab_edge.errors import HostError
from sspcab_edge.preprocess import decode_picture, prepare
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.hosts import HostOptions, LoadedHost, load_host


def model() -> AnomalibModel:
    reconstructive = Reconstructive(8)
    reconstructive.encoder["block5"] = AnomalibBlock(64)
    return AnomalibModel(randomise(reconstructive, 5), randomise(Discriminative(4), 6))


def state_of(network: nn.Module) -> dict[str, Any]:
    return {f"model.{key}": value for key, value in network.state_dict().items()}


def save_version_2(path: Path, network: nn.Module, threshold: float = 0.25) -> None:
    """As Lightning writes it: post-processor buffers beside the weights, unfitted ones NaN."""
    buffers = dict.fromkeys(
        ("_pixel_threshold", "image_min", "image_max", "pixel_min", "pixel_max"), float("nan")
    )
    buffers["_image_threshold"] = threshold
    state = state_of(network)
    state |= {f"post_processor.{name}": torch.tensor(value) for name, value in buffers.items()}
    hyper = {"dtd_dir": "x", "enable_sspcab": True, "sspcab_lambda": 0.1, "beta": (0.1, 1.0)}
    torch.save({"state_dict": state, "hyper_parameters": hyper, "epoch": 3, "optimizer_states": [{}]}, path)


# Written by a child in which these packages exist, so that nothing of them is importable here.
_VERSION_1 = """
import sys, types, torch
for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2", "anomalib"):
    sys.modules[name] = types.ModuleType(name)
class Resize(torch.nn.Module):
    def __init__(self, size): super().__init__(); self.size, self.antialias = size, True
class Normalize(torch.nn.Module):
    def __init__(self, mean, std): super().__init__(); self.mean, self.std = mean, std
class Compose(torch.nn.Module):
    def __init__(self, transforms): super().__init__(); self.transforms = transforms
class TaskType:
    pass
for cls in (Resize, Normalize, Compose):
    cls.__module__ = "torchvision.transforms.v2"
    setattr(sys.modules[cls.__module__], cls.__name__, cls)
TaskType.__module__ = "anomalib"; sys.modules["anomalib"].TaskType = TaskType
content = torch.load(sys.argv[1], weights_only=True)
steps = [Resize([256, 256])]
if sys.argv[2] == "imagenet":
    steps.append(Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
if sys.argv[2] == "odd":
    steps.append(Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]))
content["transform"] = None if sys.argv[2] == "absent" else Compose(steps)
content["hyper_parameters"] = {"task": TaskType()}
torch.save(content, sys.argv[1])
"""


def save_version_1(path: Path, network: nn.Module, transform: str) -> None:
    state = state_of(network)
    state["image_threshold.value"] = torch.tensor(0.5)
    state["image_threshold_class"] = "anomalib.metrics.threshold.F1AdaptiveThreshold"
    state["normalization_metrics.min"] = torch.tensor(0.1)
    torch.save({"state_dict": state}, path)
    subprocess.run([sys.executable, "-c", _VERSION_1, str(path), transform], check=True)


def load(path: Path, **options: object) -> LoadedHost:
    return load_host(read_checkpoint(checkpoint_files([path])), HostOptions(**options))  # type: ignore[arg-type]


def test_neither_package_is_here() -> None:
    for name in ("anomalib", "lightning", "torchvision"):
        with pytest.raises(ModuleNotFoundError):
            __import__(name)


def test_version_2_gives_anomalibs_scores_and_its_threshold(tmp_path: Path, photographs: list[Path]) -> None:
    network = model()
    save_version_2(tmp_path / "model.ckpt", network)
    host = load(tmp_path / "model.ckpt")
    assert host.name == "anomalib-draem"
    assert host.threshold == 0.25
    assert host.preprocess.resize == "antialias-linear"
    (block,) = host.blocks
    assert (block.path, block.dialect) == ("model.reconstructive_subnetwork.encoder.block5", "anomalib")
    for path in photographs:
        exact = anomalib_resized(path)
        expected = np.rint(exact).astype(np.uint8)
        frame = prepare(decode_picture(path).pixels, host.preprocess)
        # A value just between two grey levels may be rounded either way, and no other.
        assert np.abs(frame - exact).max() <= 0.5 + 1e-3
        score, anomaly = anomalib_verdict(network, expected)
        got, maps = host.source.infer({"frames": expected[None]})
        assert maps is not None
        assert got[0] == pytest.approx(score, abs=2e-6)
        np.testing.assert_allclose(maps[0], anomaly, atol=2e-5)


def test_an_unfitted_threshold_is_none(tmp_path: Path) -> None:
    save_version_2(tmp_path / "model.ckpt", model(), float("nan"))
    assert load(tmp_path / "model.ckpt").threshold is None


@pytest.mark.parametrize("transform", ["none", "imagenet"])
def test_version_1_reads_its_transform(tmp_path: Path, transform: str, photographs: list[Path]) -> None:
    network = model()
    save_version_1(tmp_path / "model.ckpt", network, transform)
    host = load(tmp_path / "model.ckpt")
    assert host.threshold == 0.5
    frame = prepare(decode_picture(photographs[0]).pixels, host.preprocess)
    x = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
    if transform == "imagenet":
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = float(network(x)[0])
    assert host.source.infer({"frames": frame[None]})[0][0] == pytest.approx(expected, abs=2e-6)


def test_version_1_without_its_transform_asks_for_the_normalisation(tmp_path: Path) -> None:
    save_version_1(tmp_path / "model.ckpt", model(), "absent")
    with pytest.raises(HostError, match="--normalisation imagenet"):
        load(tmp_path / "model.ckpt")
    host = load(tmp_path / "model.ckpt", normalisation="imagenet")
    assert host.overrides == {"normalisation": "imagenet"}


def test_an_unknown_normalisation_is_refused(tmp_path: Path) -> None:
    save_version_1(tmp_path / "model.ckpt", model(), "odd")
    with pytest.raises(HostError, match="ImageNet"):
        load(tmp_path / "model.ckpt")
