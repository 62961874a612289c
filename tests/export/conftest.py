"""A small random DRAEM with a block, saved as its authors do, and a scene to export it on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from definitions.draem_plain import Discriminative, OfficialBlock, Reconstructive, randomise
from definitions.exports_once import remembering
from sspcab_export.pictures import builtin_samples


@pytest.fixture(scope="session", autouse=True)
def exports_once() -> Iterator[None]:
    """torch's exporter traces each module once a session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", remembering(torch.onnx.export))
        yield


@dataclass(frozen=True)
class Scene:
    """A checkpoint and pictures for it."""

    checkpoint: Path
    reconstructive: nn.Module
    discriminative: nn.Module
    calibration: Path
    validation: Path


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """24 normal pictures; 10 good and 10 defective ones in the MVTec AD layout; 96 pixels wide."""
    root = tmp_path_factory.mktemp("scene")
    reconstructive = Reconstructive(8)
    reconstructive.encoder["block5"] = OfficialBlock(64)
    randomise(reconstructive, 1)
    discriminative = randomise(Discriminative(4), 2)
    (root / "model").mkdir()
    torch.save(reconstructive.state_dict(), root / "model" / "run_.pckl")
    torch.save(discriminative.state_dict(), root / "model" / "run__seg.pckl")
    random = np.random.default_rng(0)
    grain = cv2.imread(str(next(s.path for s in builtin_samples() if s.name.startswith("gravel"))))
    assert grain is not None

    def view() -> np.ndarray:
        y, x = random.integers(0, 320 - 90, 2)
        part = grain[y : y + 90, x : x + 96]
        return np.asarray(part * np.array([0.7, 0.9, 1.1]) * random.uniform(0.8, 1.2))

    for number in range(24):
        _write(root / "calibration" / f"{number:02d}.png", view())
    for number in range(10):
        _write(root / "validation" / "good" / f"{number:02d}.png", view())
        spoiled = view()
        y, x = random.integers(10, 60, 2)
        spoiled[y : y + 20, x : x + 20] = random.integers(0, 256, 3)
        _write(root / "validation" / "patch" / f"{number:02d}.png", spoiled)
    return Scene(root / "model", reconstructive, discriminative, root / "calibration", root / "validation")
