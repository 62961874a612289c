"""The authors' DRAEM with the block at each site where users put it: from file to verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from definitions.draem_plain import (
    Discriminative,
    OfficialBlock,
    Reconstructive,
    authors_verdict,
    fit_norms,
    read_rgb,
)
from sspcab_export import HostOptions, export
from sspcab_runtime import Detector

SIDE = 64
SITES = {"encoder.block5": 64, "decoder.db4.3": 8, "decoder_segment.db4.3": 4}


def networks(site: str, calibration: Path) -> tuple[nn.Module, nn.Module]:
    reconstructive, discriminative = Reconstructive(8), Discriminative(4)
    stage, _, layer = site.rpartition(".")
    holder = (discriminative if "segment" in site else reconstructive).get_submodule(stage)
    assert isinstance(holder, (nn.ModuleDict, nn.Sequential))
    block = OfficialBlock(SITES[site], r=4)
    if isinstance(holder, nn.ModuleDict):
        holder[layer] = block
    else:
        holder[int(layer)] = block
    paths = sorted(calibration.glob("*.png"))[:8]
    images = np.stack([cv2.resize(read_rgb(path)[..., ::-1], (SIDE, SIDE)) for path in paths])
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    fit_norms(reconstructive, discriminative, x, len(site))
    return reconstructive, discriminative


@pytest.mark.parametrize("site", SITES)
def test_verdicts_on_files_are_the_authors_own(site: str, scene: Any, tmp_path: Path) -> None:
    reconstructive, discriminative = networks(site, scene.calibration)
    torch.save(reconstructive.state_dict(), tmp_path / "run_.pckl")
    torch.save(discriminative.state_dict(), tmp_path / "run__seg.pckl")
    made = export(
        tmp_path / "run_.pckl",
        targets=["onnx", "openvino"],
        calibration=scene.calibration,
        host=HostOptions(input_size=(SIDE, SIDE)),
        output=tmp_path / "bundle",
    )
    manifest = made.bundle.manifest
    (block,) = manifest.blocks
    assert (block.path, block.dialect, block.form) == (site, "official", "folded")
    assert manifest.rounding is not None
    for backend in ("onnxruntime", "openvino"):
        with Detector.open(made.bundle.path, backend=backend) as detector:
            for path in sorted((scene.validation).rglob("*.png"))[:12]:
                score, anomaly = authors_verdict(reconstructive, discriminative, path, SIDE)
                verdict = detector(read_rgb(path))
                assert verdict.score is not None
                assert verdict.map is not None
                assert abs(verdict.score - score) <= 1e-4
                limit = manifest.artifacts[0].parity.gate.map_tolerance
                assert limit is not None
                assert np.abs(verdict.map - anomaly).max() <= limit
                assert detector.threshold is not None
                assert verdict.anomalous == (score > detector.threshold)
